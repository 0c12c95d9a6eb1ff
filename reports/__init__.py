"""The memory of the suite: published numbers, recorded results, verdicts, tables."""
