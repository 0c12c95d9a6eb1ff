"""Checkpoints: reading, naming, loading and saving."""
