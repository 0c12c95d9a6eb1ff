"""NLVR2: whether a sentence is true of two pictures."""

from downstream.formats.nlvr2 import read
from downstream.tasks.base import Task
from downstream.tasks.plain import PlainTask

TASK: Task = PlainTask(kind="pairs", media="image", read=read, train_split="train")
