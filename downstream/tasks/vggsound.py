"""VGGSound: one of 309 classes a clip, by a fine-tuned head, without the pictures."""

from downstream.formats.vggsound import read
from downstream.tasks.base import Task
from downstream.tasks.plain import PlainTask

TASK: Task = PlainTask(kind="classification", media="audio", read=read, train_split="train")
