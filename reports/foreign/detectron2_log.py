"""Results of detectron2: `metrics.json`, and the lines that an evaluation prints to be pasted into a sheet.

Both are in per cent. `coco_instances_results.json` holds predictions without any truth: of it there is nothing to read.

Source: detectron2, utils/events.py (JSONWriter), evaluation/testing.py (print_csv_format).
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from pydantic import JsonValue

from reports.foreign.reading import (
    Entry,
    Question,
    Reading,
    as_number,
    in_per_cent,
    measure,
    need_entries,
    read_json,
    read_json_lines,
    read_lines,
)
from reports.record import MetricValue

NAME = "detectron2"
EXPECTED = "JSON lines with bbox/AP, or the lines `copypaste: Task: bbox`, names and values"
TASKS = {
    "bbox": {"AP": "box_ap", "AP50": "box_ap50", "AP75": "box_ap75"}
    | {f"AP{size}": f"box_ap_{word}" for size, word in (("s", "small"), ("m", "medium"), ("l", "large"))},
    "segm": {"AP": "mask_ap", "AP50": "mask_ap50", "AP75": "mask_ap75"}
    | {f"AP{size}": f"mask_ap_{word}" for size, word in (("s", "small"), ("m", "medium"), ("l", "large"))},
    "sem_seg": {"mIoU": "miou", "mACC": "macc", "pACC": "aacc", "fwIoU": "fwiou"},
}
PREDICTION_KEYS = frozenset({"image_id", "category_id", "score"})

COPYPASTE = re.compile(r".*copypaste: ")
TASK = re.compile(r"Task: (\w+)")
TRAINED = re.compile(r"\biter: (\d+)\b")


class _Block(NamedTuple):
    """What an evaluation prints of one task: a line of names and a line of values."""

    task: str
    names: list[str]
    values: list[str]
    line: int


def read(path: Path, question: Question) -> Reading:
    """Read the metrics of a run, or its log."""
    del question  # the names of its metrics are the same for every task
    rows = list(read_json_lines(path))
    if rows:
        found = [entry for number, row in rows for entry in _entry_of_row(row, where=f"line {number}")]
        return need_entries(found, path=path, layout="detectron2, metrics.json", expected=EXPECTED)
    _refuse_predictions(path)
    found = list(_entries_of_log(path))
    return need_entries(found, path=path, layout="detectron2, printed results", expected=EXPECTED)


def _refuse_predictions(path: Path) -> None:
    with path.open("rb") as file:
        is_list = file.read(1) == b"["
    content = read_json(path) if is_list else None
    if isinstance(content, list) and all(isinstance(row, dict) and row.keys() >= PREDICTION_KEYS for row in content):
        raise ValueError(
            f"{path.name}: {len(content)} predictions without their truth, which cannot be scored. Read metrics.json "
            "or log.txt of the same run instead."
        )


def _entry_of_row(row: Mapping[str, JsonValue], *, where: str) -> Iterator[Entry]:
    metrics = [metric for task in TASKS for metric in _metrics(task, _under(row, task), where=where)]
    step = row.get("iteration")
    if metrics:
        yield Entry(tuple(metrics), where, step=step if isinstance(step, int) else None)


def _under(row: Mapping[str, JsonValue], task: str) -> dict[str, object]:
    return {key.removeprefix(f"{task}/"): value for key, value in row.items() if key.startswith(f"{task}/")}


def _entries_of_log(path: Path) -> Iterator[Entry]:
    """Follow the printed blocks; boxes and masks of one evaluation stand one after the other."""
    held: dict[str, tuple[MetricValue, ...]] = {}
    step: int | None = None
    where = ""
    for found in _blocks(path):
        if isinstance(found, int) or found.task in held:
            if held:
                yield Entry(_all_of(held), where, step=step)
            held = {}
        if isinstance(found, int):
            step = found
        else:
            where = f"line {found.line}"
            held[found.task] = _values(found, where=where)
    if held:
        yield Entry(_all_of(held), where, step=step)


def _blocks(path: Path) -> Iterator[int | _Block]:
    """Give each printed block, and between them the iterations that the training tells of."""
    task, names, is_marked = "", list[str](), False
    for number, raw in read_lines(path):
        trained, line = TRAINED.search(raw), COPYPASTE.sub("", raw).strip()
        begun = TASK.fullmatch(line)
        if begun:
            task, names = begun[1], []
        elif trained:
            yield int(trained[1])
        elif task in TASKS and not names and set(line.split(",")) & TASKS[task].keys():
            names, is_marked = line.split(","), "copypaste: " in raw
        elif names and ("copypaste: " in raw) == is_marked:  # other processes may print between the lines
            yield _Block(task, names, line.split(","), number)
            task, names = "", []


def _values(block: _Block, *, where: str) -> tuple[MetricValue, ...]:
    if len(block.values) != len(block.names):
        raise ValueError(f"{where}: {len(block.values)} values under the names {', '.join(block.names)}.")
    return tuple(_metrics(block.task, dict(zip(block.names, block.values, strict=True)), where=where))


def _metrics(task: str, row: Mapping[str, object], *, where: str) -> Iterator[MetricValue]:
    for key, name in TASKS[task].items():
        value = as_number(row.get(key))
        if value is not None:
            yield measure(name, in_per_cent(value, is_share=False, what=f"{where}: {task} {key}"))


def _all_of(held: Mapping[str, tuple[MetricValue, ...]]) -> tuple[MetricValue, ...]:
    return tuple(metric for metrics in held.values() for metric in metrics)
