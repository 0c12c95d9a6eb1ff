"""Tasks, each found by its file name."""

import importlib

from downstream.config import config_path
from downstream.tasks.base import Task


def load_task(name: str) -> Task:
    """Find a task by its name.

    Raises:
        ValueError: no such task.
    """
    config_path(name)
    task: Task = importlib.import_module(f"{__name__}.{name}").TASK
    return task
