"""COCO-Stuff-164k: what a segmentor is fine-tuned on before ADE20K."""

from downstream.formats.cocostuff import COCO_STUFF
from downstream.tasks.base import Task
from downstream.tasks.segmentation import SegmentationTask
from miniworld.cocostuff import write_cocostuff

TASK: Task = SegmentationTask(
    data=COCO_STUFF,
    draw=write_cocostuff,
    weights="a fine-tuned file of ours with --checkpoint (none is published), or encoder weights to fine-tune from "
    "with --pretrained",
)
