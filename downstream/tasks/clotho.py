"""Clotho: clips and captions find each other."""

from downstream.formats.clotho import read
from downstream.tasks.base import Task
from downstream.tasks.plain import PlainTask

TASK: Task = PlainTask(kind="retrieval", media="audio", read=read, train_split="development")
