"""ADE20K: every pixel of a scene has one of 150 classes."""

from downstream.formats.ade20k import ADE20K
from downstream.tasks.base import Task
from downstream.tasks.segmentation import SegmentationTask
from miniworld.layouts import write_ade20k

TASK: Task = SegmentationTask(
    data=ADE20K,
    draw=write_ade20k,
    weights="onepeace_seg_cocostuff2ade20k.pth or a fine-tuned file of ours with --checkpoint; or, to fine-tune from, "
    "encoder weights or a segmentor of COCO-Stuff with --pretrained",
)
