"""COCO-Stuff-164k as its makers publish it: `{images,annotations}/{train2017,val2017}/<12 digits>.{jpg,png}`.

A label file holds category ids minus one. Of the 182 ids eleven were never used, so classes are counted without them:
80 things, then 91 kinds of stuff, as MMSegmentation counts them.
"""

from typing import Final

from downstream.formats.segmentation import IGNORED, IMAGES, LABELS, LabelledSet

NUM_CATEGORIES: Final = 182
UNUSED_IDS: Final = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83, 91)  # of COCO's things, which no picture shows

COCO_STUFF: Final = LabelledSet(
    name="COCO-Stuff-164k",
    folders=("cocostuff", "coco_stuff164k"),
    splits={"train": "train2017", "val": "val2017"},
    example="000000000139",
    names=r"\d{12}",  # MMSegmentation's converter leaves <12 digits>_labelTrainIds.png beside the labels
    archives={IMAGES: "train2017.zip and val2017.zip", LABELS: "stuffthingmaps_trainval2017.zip"},
    values=tuple(number - 1 for number in range(1, NUM_CATEGORIES + 1) if number not in UNUSED_IDS),
    unlabelled=IGNORED,
    library_name="COCOStuffDataset",
)
