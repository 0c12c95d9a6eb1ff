"""Evaluation and fine-tuning in plain torch: everything that needs no detection or segmentation stack."""
