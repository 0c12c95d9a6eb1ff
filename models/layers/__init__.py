"""The parts of a transformer layer."""
