"""Logs of MMSegmentation, 0.x and 1.x: text, JSON lines, and what its test script writes.

The scale is the layout's: 0.x logs shares from 0 to 1, everything that mmengine logs and every printed table is in per
cent. Numbers of samples are not in any of them: `[2000/2000]` counts batches.

Source: mmcv 1.x, TextLoggerHook; mmseg 0.x, CustomDataset.evaluate and tools/test.py; mmengine, LoggerHook and
LocalVisBackend; mmseg 1.x, IoUMetric.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

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

NAME = "mmsegmentation"
EXPECTED = "lines `Iter(val) [...] ... mIoU: ...`, JSON lines with mIoU, or the table aAcc | mIoU | mAcc"
METRICS = {"mIoU": "miou", "mAcc": "macc", "aAcc": "aacc", "mDice": "mdice", "mFscore": "mfscore"}
CLASS_START = "IoU."

EVALUATED = re.compile(
    r"(?P<logger>mmseg|mmengine) - INFO - (?:Iter|Epoch)\((?:val|test)\)\s*(?:\[[^\]]*\])+(?P<rest>.*)"
)
TRAINED = re.compile(r"(?:mmseg|mmengine) - INFO - Iter(?:\(train\))?\s*\[\s*(\d+)/\d+\]")
VALUE = re.compile(r"([A-Za-z]\w*): ([-+]?[\d.]+(?:[eE][-+]?\d+)?|nan)\b")


def read(path: Path, question: Question) -> Reading:
    """Read a log of either version, or the JSON file of a test."""
    del question  # the names of its metrics are the same for every task
    lines = list(read_json_lines(path))
    if lines:
        return need_entries(list(_entries_of_json(lines)), path=path, layout=_layout(lines), expected=EXPECTED)
    whole = read_json(path)
    if isinstance(whole, dict):
        entries = list(_entries_of_test(whole))
        return need_entries(entries, path=path, layout="MMSegmentation 0.x, result of a test", expected=EXPECTED)
    entries = list(_entries_of_text(path)) or list(_entries_of_tables(path))
    return need_entries(entries, path=path, layout="MMSegmentation, text log", expected=EXPECTED)


def _layout(lines: Sequence[tuple[int, Mapping[str, JsonValue]]]) -> str:
    is_old = any("mode" in row or "env_info" in row for _, row in lines)
    return "MMSegmentation 0.x, JSON log" if is_old else "MMSegmentation 1.x, scalars of mmengine"


def _entries_of_json(lines: Sequence[tuple[int, Mapping[str, JsonValue]]]) -> Iterator[Entry]:
    step: int | None = None
    for number, row in lines:
        mode, iteration = row.get("mode"), row.get("iter")
        if mode in ("val", "test") or (mode is None and METRICS.keys() & row.keys()):
            yield from _entry(row, is_share=mode is not None, where=f"line {number}", step=step)
        elif mode is None and "metric" in row:
            yield from _entries_of_test(row)
        elif isinstance(iteration, int) and not isinstance(iteration, bool):
            step = iteration  # an evaluation's own `iter` counts the batches of the validation set


def _entries_of_test(content: Mapping[str, JsonValue]) -> Iterator[Entry]:
    metrics = content.get("metric")
    if isinstance(metrics, dict):
        yield from _entry(metrics, is_share=True, where="the key 'metric'", step=None)


def _entries_of_text(path: Path) -> Iterator[Entry]:
    step: int | None = None
    for number, line in read_lines(path):
        trained, evaluated = TRAINED.search(line), EVALUATED.search(line)
        if trained:
            step = int(trained[1])
        elif evaluated:
            row = dict(VALUE.findall(evaluated["rest"]))
            yield from _entry(row, is_share=evaluated["logger"] == "mmseg", where=f"line {number}", step=step)


def _entries_of_tables(path: Path) -> Iterator[Entry]:
    """Read the summaries that a test prints: a line of names, a rule, a line of values."""
    names: list[str] = []
    for number, line in read_lines(path):
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if set(cells) & METRICS.keys():
            names = cells
        elif names and line.strip().startswith("|") and len(cells) == len(names):
            yield from _entry(dict(zip(names, cells, strict=True)), is_share=False, where=f"line {number}", step=None)
            names = []
        elif not line.strip().startswith("+"):
            names = []


def _entry(row: Mapping[str, object], *, is_share: bool, where: str, step: int | None) -> Iterator[Entry]:
    values = {key: as_number(value) for key, value in row.items()}
    metrics = [
        measure(METRICS[key], in_per_cent(value, is_share=is_share, what=f"{where}: {key}"))
        for key, value in values.items()
        if key in METRICS and value is not None
    ]
    classes = {
        key.removeprefix(CLASS_START): in_per_cent(value, is_share=is_share, what=f"{where}: {key}")
        for key, value in values.items()
        if key.startswith(CLASS_START) and value is not None
    }
    if metrics:
        yield Entry(tuple(metrics), where, step=step, per_class=classes)
