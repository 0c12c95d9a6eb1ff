"""A small self-made world of pictures with known contents: nothing to download, every byte follows from a seed."""
