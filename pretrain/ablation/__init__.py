"""Small variants of the model, trained alike and compared: what they are, their training, and what may be said of them.

`config` reads `pretrain/ablations.yaml` and needs no torch; `pretrain.ablate` is the way in.
"""
