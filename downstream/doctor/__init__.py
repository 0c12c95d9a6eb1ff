"""Finds out why a number may be off, the cheapest questions first."""
