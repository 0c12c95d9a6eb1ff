"""RefCOCOg: a sentence and a picture, and the box of what the sentence means."""

from downstream.formats.refcoco import read_refcocog
from downstream.tasks.base import Task
from downstream.tasks.plain import PlainTask

TASK: Task = PlainTask(kind="grounding", media="image", read=read_refcocog, train_split="train")
