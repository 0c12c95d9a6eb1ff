"""Data sets on disk, one file a layout."""
