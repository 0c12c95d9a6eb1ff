"""MSCOCO, Karpathy's split: pictures and captions find each other."""

from downstream.formats.karpathy import read_coco
from downstream.tasks.base import Task
from downstream.tasks.plain import PlainTask

TASK: Task = PlainTask(kind="retrieval", media="image", read=read_coco, train_split="train")
