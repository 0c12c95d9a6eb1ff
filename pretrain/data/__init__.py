"""From shards and tables to micro-batches: sources, order, filters, decoding, lanes, and the loader of one rank.

`config` holds the settings and needs no torch; `loader.open_loader` is the way in.
"""
