"""ESC-50: sounds find the sentence that names their class, zero-shot."""

from downstream.formats.esc50 import read
from downstream.tasks.base import Task
from downstream.tasks.plain import PlainTask

TASK: Task = PlainTask(kind="prompted", media="audio", read=read, train_split="all")
