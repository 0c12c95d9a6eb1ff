"""ADE20K as its makers publish it: `ADEChallengeData2016/{images,annotations}/{training,validation}`."""

from typing import Final

from downstream.formats.segmentation import IMAGES, LABELS, LabelledSet

ADE20K: Final = LabelledSet(
    name="ADE20K",
    folders=("ADEChallengeData2016", "ade20k/ADEChallengeData2016"),
    splits={"train": "training", "val": "validation"},
    example="ADE_val_00000001",
    names=".+",
    archives=dict.fromkeys((IMAGES, LABELS), "ADEChallengeData2016.zip"),
    values=tuple(range(1, 151)),
    unlabelled=0,
    library_name="ADE20KDataset",
)
