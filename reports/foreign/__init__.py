"""Results that other tools wrote, read from their logs and prediction files: one module a layout."""
