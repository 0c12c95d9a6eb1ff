"""The model: a modality adapter each, one encoder shared, and all that the released weights fix."""
