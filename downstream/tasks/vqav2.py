"""VQAv2: a question about a picture, and the answer of a fixed vocabulary."""

from downstream.formats.vqav2 import read
from downstream.tasks.base import Task
from downstream.tasks.plain import PlainTask

TASK: Task = PlainTask(kind="answers", media="image", read=read, train_split="train")
