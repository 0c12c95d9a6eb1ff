"""How a record is laid out in MLflow: names, numbers, tags, params, files; and the whole record, in tags.

Metrics, tags and params are there to be looked at and filtered by; the whole record stands besides, compressed, in
tags, and is what is read back. The published number is logged as `<metric>/paper` wherever there is one;
`<metric>/delta` only where the two may be compared, so a mini run never shows a distance from the paper. What MLflow
has no room for stands whole in an artifact.
"""

import base64
import hashlib
import json
import math
import re
import zlib
from collections.abc import Container, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from reports.record import RECORD_FILE, Comparison, Record, Verdict
from reports.table import name_metric, render_table, show_value
from reports.verdict import worst

MAX_TAG_CHARS: Final = 7900  # a tag holds 8000
MAX_PARAM_CHARS: Final = 6000
MAX_DIGEST_CHARS: Final = 36

KIND_TAG, CHUNKS_TAG, SHA256_TAG = "onepeace.kind", "onepeace.record.chunks", "onepeace.record.sha256"
CHUNK_TAG: Final = "onepeace.record.{:03d}"
RUN_ID_TAG: Final = "record_run_id"
"""Holds the record's own id, by which its run is found again."""
RESULT_TAG: Final = "result"
NOTE_TAG: Final = "mlflow.note.content"
"""What MLflow's page of a run shows as its description, in Markdown."""

ENVIRONMENT_FILE: Final = "environment.json"
LONG_FILE: Final = "long_values.json"
KNOWN_FILES: Final = (RECORD_FILE, "config.yaml", "log.jsonl")


def metric_key(name: str) -> str:
    """Turn any name into one that MLflow accepts: `R@1` becomes `r_at_1`, other characters become underscores."""
    spelled = re.sub(r"\b[rR]@(?=\d)", "r_at_", name).replace("@", "_at_").replace("%", "percent")
    parts = (re.sub(r"[^A-Za-z0-9_\-. ]", "_", part).strip(". ") for part in spelled.split("/"))
    return "/".join(part for part in parts if part)[:200].rstrip("/. ") or "unnamed"


def free_key(name: str, taken: Container[str]) -> str:
    """Turn a name into one that MLflow accepts and that is not taken, if need be with a number behind it."""
    key = base = metric_key(name)
    number = 2
    while key in taken:
        key, number = f"{base[:190]}_{number}", number + 1
    return key


def run_name(record: Record) -> str:
    """Name a record's run: `ade20k-val-ss-<checkpoint8>-<commit7>`."""
    checkpoint = (record.checkpoint.sha256 or "random")[:8]
    parts = (record.task, record.split, record.variant, checkpoint, record.commit[:7])
    return "-".join(part for part in parts if part)


def record_metrics(record: Record) -> dict[str, float]:
    """Lay out a record's numbers under `<task>/<split>/<metric>`, with companions below each.

    Two names that MLflow would write alike are told apart by a number. Infinity, of which MLflow makes 1.8e308, stands
    in the tags instead.
    """
    return {key: value for key, value in _list_metrics(record) if not math.isinf(value)}


def record_tags(record: Record) -> dict[str, str]:
    """Lay out what a run is filtered by: the result in words, verdicts, protocol, profile, hashes."""
    return {key: value[:MAX_TAG_CHARS] for key, value in _list_tags(record).items()}


def record_params(record: Record) -> dict[str, str]:
    """Lay out the few settings that people filter by."""
    return {key: value[:MAX_PARAM_CHARS] for key, value in _list_params(record).items()}


def find_long_values(record: Record) -> dict[str, str]:
    """Give the tags and params that do not fit, whole."""
    tags = {key: value for key, value in _list_tags(record).items() if len(value) > MAX_TAG_CHARS}
    return tags | {key: value for key, value in _list_params(record).items() if len(value) > MAX_PARAM_CHARS}


def describe_environment(record: Record) -> dict[str, Any]:
    """Give what a record says of where it was made."""
    names = ("versions", "device", "dtype", "commit", "is_dirty", "seed", "command", "peak_memory_gib")
    return {name: getattr(record, name) for name in names}


def describe_data(record: Record) -> dict[str, str]:
    """Give the fields of MLflow's entry of a data set."""
    data = record.data
    return {
        "name": f"{data.name}-{record.split}",
        "digest": data.digest[:MAX_DIGEST_CHARS],
        "source_type": "local",
        "source": json.dumps({"uri": data.root_name, "version": data.version, "digest": data.digest}),
        "profile": json.dumps({"n": data.n, "n_expected": data.n_expected, "ids_sha256": data.ids_sha256}),
    }


def list_files(record: Record, folder: Path | None) -> tuple[str, ...]:
    """Name the files and folders of a run that are kept with it, relative to its folder."""
    if folder is None:
        return ()
    names = dict.fromkeys((*KNOWN_FILES, *record.artifacts.values()))
    return tuple(name for name in names if (folder / name).exists())


def start_ms(record: Record) -> int:
    """Milliseconds since 1970."""
    return int(record.start.timestamp() * 1000)


def end_ms(record: Record) -> int:
    """Milliseconds since 1970."""
    seconds = record.duration_s if math.isfinite(record.duration_s) else 0.0
    end = record.start + timedelta(seconds=max(0.0, seconds))
    return int(end.timestamp() * 1000)


def pack(record: Record) -> dict[str, str]:
    """Put the whole record into tags; the tag that says how many there are comes last.

    A run that was cut short before that one has no record, and is not read as one.
    """
    raw = record.to_json().encode()
    text = base64.b85encode(zlib.compress(raw, 9)).decode()
    chunks = [text[i : i + MAX_TAG_CHARS] for i in range(0, len(text), MAX_TAG_CHARS)]
    tags = {CHUNK_TAG.format(i): chunk for i, chunk in enumerate(chunks)}
    return tags | {SHA256_TAG: hashlib.sha256(raw).hexdigest(), CHUNKS_TAG: str(len(chunks))}


def unpack(tags: Mapping[str, str], *, run: str) -> Record:
    """Read the record that `pack` put into tags.

    Raises:
        ValueError: it is not whole, or was changed.
    """
    advice = "Delete the run; `python reports/run.py sync` sends its record.json again."
    try:
        text = "".join(tags[CHUNK_TAG.format(i)] for i in range(int(tags[CHUNKS_TAG])))
        raw = zlib.decompress(base64.b85decode(text))
    except (KeyError, ValueError, zlib.error):
        raise ValueError(f"the record in run {run} is not whole. {advice}") from None
    if hashlib.sha256(raw).hexdigest() != tags.get(SHA256_TAG):
        raise ValueError(f"the record in run {run} was changed. {advice}")
    return Record.from_json(raw.decode())


def _list_metrics(record: Record) -> Iterator[tuple[str, float]]:
    taken: set[str] = set()
    for metric in record.metrics:
        key = free_key(f"{record.task}/{record.split}/{metric.name}", taken)
        taken.add(key)
        comparison = _paper_comparison(record, metric.name)
        values = {key: metric.value, f"{key}/ci_low": metric.ci_low, f"{key}/ci_high": metric.ci_high}
        if comparison is not None:
            values |= {f"{key}/paper": comparison.published, f"{key}/delta": comparison.gap}
        yield from ((name, value) for name, value in values.items() if value is not None)


def _list_tags(record: Record) -> dict[str, str]:
    tags = {
        KIND_TAG: "record",
        RUN_ID_TAG: record.run_id,
        RESULT_TAG: _say_result(record),
        NOTE_TAG: render_table([record], style="markdown"),
        "profile": record.profile,
        "protocol": record.protocol,
        "protocol_sha256": record.protocol_sha256,
        "checkpoint": record.checkpoint.name,
        "checkpoint_sha256": record.checkpoint.sha256 or "none",
        "data_digest": record.data.digest,
        "data_ids_sha256": record.data.ids_sha256,
        "commit": record.commit + ("-dirty" if record.is_dirty else ""),
        "mlflow.source.name": record.command,
        "mlflow.source.git.commit": record.commit,
    }
    verdict = worst(record.comparisons)
    if verdict is not None:
        tags |= {"verdict": str(verdict), "comparable_with_paper": _comparable(record)}
    for comparison in record.comparisons:
        key = f"verdict.{metric_key(comparison.metric)}"
        key = f"{key}.{metric_key(comparison.target_id)}" if key in tags else key  # published twice
        tags[key] = f"{comparison.verdict}: {comparison.reason}"
    return tags | {f"not_finite.{key}": str(value) for key, value in _list_metrics(record) if math.isinf(value)}


def _list_params(record: Record) -> dict[str, str]:
    names = ("task", "dataset", "split", "setting", "protocol", "profile", "model_size", "dtype", "device", "seed")
    return {name: str(getattr(record, name)) for name in names}


def _say_result(record: Record) -> str:
    """Say the first number with its interval, and the published one beside it."""
    if not record.metrics:
        return "no metric"
    metric = record.metrics[0]
    low, high = (None if end is None else show_value(end, metric.unit) for end in (metric.ci_low, metric.ci_high))
    interval = "" if low is None or high is None else f" [{low}, {high}]"
    comparison = _paper_comparison(record, metric.name)
    paper = "" if comparison is None else f", paper {comparison.printed}"
    return f"{name_metric(metric.name)} {show_value(metric.value, metric.unit)}{interval}{paper}"


def _paper_comparison(record: Record, metric: str) -> Comparison | None:
    return next((c for c in record.comparisons if c.metric == metric and c.against == "paper"), None)


def _comparable(record: Record) -> str:
    refused = [c for c in record.comparisons if c.verdict is Verdict.NOT_COMPARABLE and c.against == "paper"]
    return f"no: {refused[0].reason}" if refused else "yes"
