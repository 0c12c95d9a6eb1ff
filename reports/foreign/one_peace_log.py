"""Logs and result files of the reference implementation: its evaluation, its training, and what it writes as JSON.

Accuracy, accuracy of boxes and mean average precision are shares from 0 to 1 there, recall is in per cent. A file of an
evaluation holds counts besides, so n is known. `txt_r1` is items that find a text, `img_r1` texts that find an item;
the items of sound go by `img`, too, except in a training's log. Zero-shot classes of sounds are recall among the
sentences that name them, so `txt_r1` is an accuracy for a task that publishes nothing else.

Source: reference one_peace/evaluate.py, train.py, metrics/{accuracy,iou_acc,map,recall}.py; fairseq,
logging/progress_bar.py.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from reports.foreign.reading import (
    Entry,
    Question,
    Reading,
    as_count,
    as_number,
    check_share,
    in_per_cent,
    measure,
    need_entries,
    parse_json,
    read_json,
    read_lines,
)
from reports.record import MetricValue

NAME = "one-peace"
EXPECTED = "`<subset>_predict.json`, a line of one_peace.evaluate with its results, or `valid` lines of a training"
SHARES = {"accuracy": "accuracy", "iou_acc": "accuracy_at_iou_50", "map": "map"}
RANKS = (1, 5, 10)
ITEMS = ("image", "audio")

EVALUATED = re.compile(r"one_peace\.evaluate(?: \| |:)(\{.*)")
VALUE = re.compile(r"'([a-z][a-z0-9_]*)': (?:np\.float(?:32|64)\()?([-+]?[\d.]+(?:[eE][-+]?\d+)?|nan)")
PREDICTIONS = re.compile(r"'predict_(?:results|txt|img)'")
VALIDATED = re.compile(r"\| INFO \| (?P<tag>[\w-]+) \| (?P<rest>epoch \d+ \| valid on .*|\{.*\})$")


def read(path: Path, question: Question) -> Reading:
    """Read what an evaluation wrote, or the log of one or of a training."""
    content = read_json(path)
    if isinstance(content, dict):
        found = list(_entry(content, question, where="the file"))
        return need_entries(found, path=path, layout="ONE-PEACE, results of an evaluation", expected=EXPECTED)
    found = [entry for number, line in read_lines(path) for entry in _entry_of_line(line, question, number=number)]
    return need_entries(found, path=path, layout="ONE-PEACE, log", expected=EXPECTED)


def _entry_of_line(line: str, question: Question, *, number: int) -> Iterator[Entry]:
    evaluated, validated = EVALUATED.search(line), VALIDATED.search(line)
    if evaluated:
        told = PREDICTIONS.split(evaluated[1])[0]  # early versions print every prediction into the same line
        yield from _entry(dict(VALUE.findall(told)), question, where=f"line {number}")
    elif validated and validated["tag"] not in ("train", "train_inner"):
        row = _row(validated["rest"], tag=validated["tag"])
        yield from _entry(row, question, where=f"line {number}", step=as_count(row.get("num_updates")))


def _row(rest: str, *, tag: str) -> dict[str, object]:
    """Read the numbers of a validation, printed between pipes or as JSON with the subset before each name."""
    if rest.startswith("{"):
        content = parse_json(rest)
        return (
            {key.removeprefix(f"{tag}_"): value for key, value in content.items()} if isinstance(content, dict) else {}
        )
    pairs = (part.strip().split(" ", 1) for part in rest.split(" | "))
    return {pair[0]: pair[1] for pair in pairs if len(pair) == 2}


def _entry(row: Mapping[str, object], question: Question, *, where: str, step: int | None = None) -> Iterator[Entry]:
    metrics = (*_shares(row, where=where), *_recalls(row, question, where=where))
    if metrics:
        yield Entry(metrics, where, step=step)


def _shares(row: Mapping[str, object], *, where: str) -> Iterator[MetricValue]:
    for key, name in SHARES.items():
        share = as_number(row.get(key))
        if share is None:
            continue
        value = in_per_cent(share, is_share=True, what=f"{where}: {key}")
        n, hits = as_count(row.get("map_cnt" if key == "map" else "score_cnt")), as_number(row.get("score_sum"))
        if key == "map" or n is None or hits is None:
            yield MetricValue(name=name, value=value, n=n)
            continue
        check_share(share, hits, n, what=f"{where}: {key}")
        yield MetricValue(name=name, value=value, n=n, hits=hits)


def _recalls(row: Mapping[str, object], question: Question, *, where: str) -> Iterator[MetricValue]:
    if as_number(row.get("txt_r1")) is None:
        return
    prefix = "audio" if "audio_r1" in row else "img"
    num_items, num_texts = as_count(row.get(f"{prefix}_count")), as_count(row.get("txt_count"))
    if question.published == {"accuracy"}:
        yield _recall("accuracy", row["txt_r1"], num_items, each_alone=True, where=where)
        return
    item = "audio" if prefix == "audio" else _item(question)
    for rank in RANKS:
        yield _recall(
            f"recall_at_{rank}_{item}_to_text", row.get(f"txt_r{rank}"), num_items, each_alone=True, where=where
        )
    for rank in RANKS:
        name, is_alone = f"recall_at_{rank}_text_to_{item}", num_texts is not None and num_texts == num_items
        yield _recall(name, row.get(f"{prefix}_r{rank}"), num_texts, each_alone=is_alone, where=where)
    mean = as_number(row.get("r_mean"))
    if mean is not None:
        yield MetricValue(name="recall_mean", value=in_per_cent(mean, is_share=False, what=f"{where}: r_mean"))


def _recall(name: str, value: object, n: int | None, *, each_alone: bool, where: str) -> MetricValue:
    number = as_number(value)
    if number is None:
        raise ValueError(f"{where}: no number for {name}, expected recall at 1, 5 and 10 both ways.")
    return measure(name, in_per_cent(number, is_share=False, what=f"{where}: {name}"), n=n, each_alone=each_alone)


def _item(question: Question) -> str:
    """Say what is found besides texts: the file calls sounds pictures, so the task's published numbers decide."""
    found = [item for item in ITEMS if any(f"{item}_to_text" in name for name in question.published)]
    if len(found) != 1:
        raise ValueError(
            "recall of pictures or of sounds? The file does not say, and neither does what is published for the task. "
            "Name a task of retrieval."
        )
    return found[0]
