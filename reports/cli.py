"""Command line of the recorded results: python reports/run.py table | targets."""

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from reports.record import RECORD_FILE, Record, read_record
from reports.store import StoreError, load_records
from reports.table import STYLES, latest_records, render_table, render_text
from reports.target import Target, check_ids, read_targets

ROOT = Path(__file__).resolve().parent.parent
EXIT_DONE, EXIT_USAGE, EXIT_MISSING = 0, 2, 4


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and give its exit code: 0 done, 2 wrong input, 4 something is missing."""
    args = _build_parser().parse_args(argv)
    try:
        text = _run_table(args) if args.command == "table" else _run_targets(args)
    except (ValueError, FileNotFoundError, StoreError) as error:
        if args.traceback:
            raise
        print(f"error: {error}", file=sys.stderr)
        return EXIT_USAGE if isinstance(error, ValueError) else EXIT_MISSING
    sys.stdout.write(text)
    return EXIT_DONE


def find_records(folder: Path) -> tuple[Record, ...]:
    """Read every `record.json` below a folder.

    Raises:
        FileNotFoundError: no such folder.
        ValueError: one of the files is not a record.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {folder}. Name the one that runs are written to.")
    return tuple(read_record(path) for path in sorted(folder.rglob(RECORD_FILE)))


def read_all_targets(configs: Path) -> tuple[Target, ...]:
    """Read the targets of every config in a folder, in the order of the file names.

    Raises:
        FileNotFoundError: no config there.
        ValueError: the problems of all files, one after another in one line.
    """
    paths = sorted(configs.glob("*.yaml"))
    if not paths:
        raise FileNotFoundError(f"no config in {configs}. A task's config is one YAML file there.")
    targets: list[Target] = []
    problems: list[str] = []
    for path in paths:
        try:
            targets += read_targets(path)
        except ValueError as error:
            problems.append(str(error))
    if problems:
        raise ValueError(" | ".join(problems))
    check_ids(tuple(targets))
    return tuple(targets)


def _run_table(args: argparse.Namespace) -> str:
    records = find_records(args.records) if args.records else load_records(args.tracking_uri)
    if not records:
        place = args.records or args.tracking_uri
        raise FileNotFoundError(f"no record in {place}. `python downstream/run.py ade20k` makes one.")
    return render_table(records if args.all else latest_records(records), style=args.format)


def _run_targets(args: argparse.Namespace) -> str:
    targets = read_all_targets(args.configs)
    if args.validate:
        return f"{len(targets)} targets, each with its protocol and source\n"
    return _list_targets(targets)


def _list_targets(targets: Iterable[Target]) -> str:
    header = ("id", "task", "split", "metric", "paper", "n", "setting", "protocol", "source")
    cells = [
        [t.id, t.task, t.split, t.metric, t.printed, str(t.num_samples or "?"), t.setting, t.protocol, t.source]
        for t in targets
    ]
    return render_text(cells, header=header, wrapped=frozenset(header) - {"id", "paper", "n"})


def _build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python reports/run.py", description="Recorded results beside published ones."
    )
    parser.add_argument("--traceback", action="store_true", help="show where an error comes from")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_table(commands.add_parser("table", help="results beside the paper's"))
    _add_targets(commands.add_parser("targets", help="the published numbers and their protocols"))
    return parser


def _add_table(parser: argparse.ArgumentParser) -> None:
    place = parser.add_mutually_exclusive_group()
    default = f"sqlite:///{ROOT / 'mlflow.db'}"
    place.add_argument("--tracking-uri", default=default, help="MLflow's store (default: mlflow.db in the project)")
    place.add_argument("--records", type=Path, metavar="DIR", help="read every record.json below DIR instead")
    parser.add_argument("--format", choices=STYLES, default="text")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--latest", action="store_true", help="the newest record of each protocol (default)")
    which.add_argument("--all", action="store_true", help="every record")


def _add_targets(parser: argparse.ArgumentParser) -> None:
    configs = ROOT / "downstream" / "configs"
    parser.add_argument("--validate", action="store_true", help="only say whether all of them are whole")
    parser.add_argument("--configs", type=Path, default=configs, metavar="DIR", help="default: downstream/configs")
