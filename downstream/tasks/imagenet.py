"""ImageNet-1k: a picture and its one class of a thousand."""

from downstream.formats.imagenet import read
from downstream.tasks.base import Task
from downstream.tasks.plain import PlainTask

TASK: Task = PlainTask(kind="picture_class", media="image", read=read, train_split="train")
