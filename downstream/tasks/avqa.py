"""AVQA: four answers to a question about a clip, by a fine-tuned head, without the pictures."""

from downstream.formats.avqa import read
from downstream.tasks.base import Task
from downstream.tasks.plain import PlainTask

TASK: Task = PlainTask(kind="choice", media="audio", read=read, train_split="train")
