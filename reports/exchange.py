"""Results to and from other tools: `export` writes the files that they read, `import` reads what they wrote."""

import argparse
import difflib
import hashlib
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol, get_args

from reports.exports import clip_benchmark, lm_eval, model_card, model_index, mteb
from reports.exports.document import Export
from reports.foreign import detectron2_log, imagenet_log, mmsegmentation_log, one_peace_log, sample_rows
from reports.foreign.imported import UNKNOWN, Claims, Origin, choose_entry, claim_like, make_record
from reports.foreign.reading import Question, Reader
from reports.record import RECORD_FILE, Profile, Record, write_record
from reports.table import render_table
from reports.target import Target, read_targets


class Exporter(Protocol):
    """Makes the files of one format."""

    def __call__(self, records: Sequence[Record]) -> Export:
        """Write records; what the format cannot hold is said."""
        ...


EXPORTERS: Mapping[str, Exporter] = {
    lm_eval.NAME: lm_eval.export,
    clip_benchmark.NAME: clip_benchmark.export,
    mteb.NAME: mteb.export,
    model_index.NAME: model_index.export,
    model_card.NAME: model_card.export,
}
READERS: Mapping[str, Reader] = {
    mmsegmentation_log.NAME: mmsegmentation_log.read,
    detectron2_log.NAME: detectron2_log.read,
    one_peace_log.NAME: one_peace_log.read,
    imagenet_log.NAME: imagenet_log.read,
    sample_rows.NAME: sample_rows.read,
}
TASK_NAME = re.compile(r"[a-z0-9_]+")
SUFFIXES = frozenset({".json", ".yml", ".yaml", ".md"})
COLUMNS = "prediction,truth"
CLAIMS = {
    "--dataset": "dataset",
    "--dataset-version": "dataset_version",
    "--setting": "setting",
    "--protocol": "protocol",
    "--size": "model_size",
    "--profile": "profile",
    "--n": "num_samples",
}
OPTIONS = {"--like": "like", **CLAIMS, "--step": "step", "--columns": "columns", "--cluster": "cluster"}


def add_export(parser: argparse.ArgumentParser) -> None:
    """Add what `export` takes, besides where the records are."""
    parser.add_argument(
        "runs",
        nargs="*",
        type=Path,
        metavar="RUN",
        help="a run's folder or record.json (default: the newest record of each protocol)",
    )
    parser.add_argument("--to", required=True, choices=list(EXPORTERS), help="the tool that reads the files")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="PLACE",
        help="a folder, or a file (.json, .yml, .md) where there is one; default: print the one file",
    )


def add_import(parser: argparse.ArgumentParser, *, configs: Path) -> None:
    """Add what `import` takes."""
    add = parser.add_argument
    add("file", type=Path, metavar="FILE", help="a log or a result file; nothing in it is executed")
    add("--from", dest="layout", required=True, choices=list(READERS), help="the tool that wrote the file")
    add("--task", required=True, help="what was measured: ade20k")
    add("--split", required=True, help="on which part of the data set: val")
    add("--like", metavar="ID", help="state all that is not stated as in this published number: V7")
    add("--dataset", default=UNKNOWN, metavar="NAME")
    add("--dataset-version", default=UNKNOWN, metavar="TEXT")
    add("--setting", default=UNKNOWN, metavar="NAME", help="fine-tuned, zero-shot")
    add("--protocol", default=UNKNOWN, metavar="ID", help="as `targets` lists them")
    add("--size", dest="model_size", default=UNKNOWN, metavar="NAME", help="of the model: 4b")
    add("--profile", default="paper", choices=get_args(Profile), help="mini: of a small model or a small world")
    add("--n", dest="num_samples", type=int, metavar="N", help="samples, where the file does not say")
    add("--step", type=int, metavar="N", help="which of several evaluations (default: the last one)")
    add("--columns", default=COLUMNS, metavar="NAME,NAME", help="of rows: prediction and truth")
    add("--cluster", metavar="NAME", help="of rows: the column that says which samples belong together")
    add("--configs", type=Path, default=configs, metavar="DIR", help="with the published numbers")
    add("-o", "--output-dir", type=Path, metavar="DIR", help="write record.json there (default: print it)")


def run_export(records: Sequence[Record], args: argparse.Namespace) -> str:
    """Write records in the format of another tool; give the text for stdout.

    Raises:
        ValueError: the format holds none of the records, or several files where one was asked for.
    """
    made = EXPORTERS[args.to](records)
    for said in made.left_out:
        print(f"left out: {said}", file=sys.stderr)
    if not made.files:
        raise ValueError(f"nothing that {args.to} can hold among {len(records)} records. Choose another format.")
    if args.output is None:
        if len(made.files) > 1:
            raise ValueError(f"{len(made.files)} files ({', '.join(made.files)}). Name a folder with -o.")
        return next(iter(made.files.values()))
    places = _places(made.files, args.output)
    _write_files(places)
    return "".join(f"{path}\n" for path in places)


def run_import(args: argparse.Namespace) -> str:
    """Read a foreign file into a record; give the text for stdout.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a file of that tool, or a claim that cannot be.
    """
    if not args.file.is_file():
        raise FileNotFoundError(f"no file {args.file}. Name a log or a result file.")
    if not TASK_NAME.fullmatch(args.task):
        raise ValueError(f"task {args.task!r}, expected a name of small letters, digits and _, as ade20k.")
    targets = _find_targets(args.configs, args.task)
    claims = _claims(args, targets)
    question = Question(frozenset(target.metric for target in targets), _columns(args.columns), args.cluster)
    reading = READERS[args.layout](args.file, question)
    entry = choose_entry(reading, args.step)
    record = make_record(reading, entry, claims, origin=_origin(args), targets=targets)
    print(f"{reading.layout}: {entry.where}; evaluations in the file: {len(reading.entries)}", file=sys.stderr)
    if targets and not record.comparisons:
        print(
            f"nothing was published of setting {record.setting!r}. State it with --setting, or --like.", file=sys.stderr
        )
    if args.output_dir is None:
        return record.to_json()
    if (args.output_dir / RECORD_FILE).exists():
        raise ValueError(f"{args.output_dir} holds a record already. Name another folder with -o.")
    return f"{render_table([record])}record: {write_record(record, args.output_dir)}\n"


def _places(files: Mapping[str, str], place: Path) -> dict[Path, str]:
    """Say where each file goes: into the folder, or to the one place that was named."""
    if place.suffix not in SUFFIXES or place.is_dir():
        return {place / name: text for name, text in files.items()}
    if len(files) > 1:
        raise ValueError(f"{len(files)} files, and -o {place} is one. Name a folder.")
    return {place: next(iter(files.values()))}


def _write_files(places: Mapping[Path, str]) -> None:
    """Write all files beside their places and then move them there; a reader sees whole files alone."""
    partial = {path: path.with_name(f".{path.name}.partial") for path in places}
    try:
        for path, text in places.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            partial[path].write_text(text, encoding="utf-8")
        for path, written in partial.items():
            written.replace(path)
    finally:
        for written in partial.values():
            written.unlink(missing_ok=True)


def _find_targets(configs: Path, task: str) -> tuple[Target, ...]:
    """Read what is published for a task; of a task that no config knows, say so and give nothing."""
    path = configs / f"{task}.yaml"
    if not path.is_file():
        nearest = difflib.get_close_matches(task, [known.stem for known in configs.glob("*.yaml")], n=1)
        hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
        print(f"no published number is known of task {task!r}.{hint}", file=sys.stderr)
        return ()
    return read_targets(path)


def _claims(args: argparse.Namespace, targets: Sequence[Target]) -> Claims:
    if args.num_samples is not None and args.num_samples < 1:
        raise ValueError(f"--n {args.num_samples}, expected one sample or more.")
    claims = Claims(args.task, args.split, **{name: getattr(args, name) for name in CLAIMS.values()})
    if args.like is None:
        return claims
    found = next((target for target in targets if target.id == args.like), None)
    if found is None:
        known = ", ".join(target.id for target in targets) or "none"
        raise ValueError(f"no published number {args.like!r} of task {args.task!r}. Known: {known}.")
    return claim_like(claims, found)


def _columns(text: str) -> tuple[str, str]:
    names = tuple(name.strip() for name in text.split(","))
    if len(names) != 2 or not all(names):
        raise ValueError(f"--columns {text!r}, expected two names: prediction,truth.")
    return names[0], names[1]


def _origin(args: argparse.Namespace) -> Origin:
    """Say what was read, and give a command that reads it again; the way to the file is nobody's business."""
    with args.file.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    words = ["import", args.file.name, "--from", args.layout, "--task", args.task, "--split", args.split]
    for option, name in OPTIONS.items():
        value = getattr(args, name)
        words += [] if value in (None, UNKNOWN, COLUMNS) else [option, str(value)]
    read_at = datetime.now(UTC).isoformat(timespec="seconds")
    return Origin(args.file.name, sha256, f"python reports/run.py {shlex.join(words)}", read_at)
