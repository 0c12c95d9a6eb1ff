"""FSD50K: several classes a clip, by a fine-tuned head."""

from downstream.formats.fsd50k import read
from downstream.tasks.base import Task
from downstream.tasks.plain import PlainTask

TASK: Task = PlainTask(kind="multi_label", media="audio", read=read, train_split="train")
