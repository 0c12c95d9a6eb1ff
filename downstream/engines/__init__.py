"""Engines: what trains and evaluates a task."""
