"""Logs of the reference's ImageNet classification: the printed summary, and `log.txt` of a fine-tuning.

All accuracies are in per cent. Each picture stands for itself, so where the count is printed there is an interval.

Source: reference one_peace_vision/classification/{engine_finetune,main_ft}.py and README.md.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from reports.foreign.reading import (
    Entry,
    Question,
    Reading,
    as_number,
    in_per_cent,
    measure,
    need_entries,
    parse_json,
    read_lines,
)
from reports.record import MetricValue

NAME = "imagenet"
EXPECTED = "a line `* Acc@1 ... Acc@5 ... loss ...`, or JSON lines with test_acc1"
COUNTED = re.compile(r"Evaluating (\d+) images")
SUMMARY = re.compile(r"\* Acc@1 ([\d.]+) Acc@5 ([\d.]+) loss ([\d.]+|nan)")


def read(path: Path, question: Question) -> Reading:
    """Read the printed output of an evaluation, or the log of a fine-tuning."""
    del question  # there is one task
    return need_entries(list(_entries(path)), path=path, layout="ONE-PEACE, ImageNet log", expected=EXPECTED)


def _entries(path: Path) -> Iterator[Entry]:
    count: int | None = None
    for number, line in read_lines(path):
        counted, summary = COUNTED.search(line), SUMMARY.search(line)
        row = parse_json(line) if line.startswith("{") else None
        where = f"line {number}"
        if counted:
            count = int(counted[1])
        elif summary:
            values = dict(zip(("test_acc1", "test_acc5", "test_loss"), summary.groups(), strict=True))
            yield Entry(tuple(_metrics(values, n=count, where=where)), where)
            count = None  # the next evaluation prints its own
        elif isinstance(row, dict) and "test_acc1" in row:
            epoch = row.get("epoch")
            yield Entry(
                tuple(_metrics(row, n=None, where=where)), where, step=epoch if isinstance(epoch, int) else None
            )


def _metrics(row: Mapping[str, object], *, n: int | None, where: str) -> Iterator[MetricValue]:
    for rank in (1, 5):
        value = as_number(row.get(f"test_acc{rank}"))
        if value is not None:
            per_cent = in_per_cent(value, is_share=False, what=f"{where}: accuracy at {rank}")
            yield measure(f"accuracy_top_{rank}", per_cent, n=n, each_alone=True)
    loss = as_number(row.get("test_loss"))
    if loss is not None:
        yield MetricValue(name="loss", value=loss, unit="nats", n=n, direction="lower")
