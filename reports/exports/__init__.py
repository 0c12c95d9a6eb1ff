"""Recorded results in the files that other tools read: one module a format."""
