"""Command line of the recorded results: python reports/run.py table | targets | accept | check."""

import argparse
import os
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from reports.acceptance import accept_records
from reports.accepted import ACCEPTED_DIR, newest_records, read_all_accepted
from reports.actions import annotate, append_summary, is_in_actions
from reports.check import check_accepted, check_paper
from reports.junit import write_junit
from reports.record import RECORD_FILE, Record, read_record
from reports.store import StoreError, load_records
from reports.table import STYLES, latest_records, render_table, render_text
from reports.target import Target, check_ids, read_targets

ROOT = Path(__file__).resolve().parent.parent
EXIT_DONE, EXIT_USAGE, EXIT_MISSING = 0, 2, 4


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and give its exit code.

    0 done, 1 a regression, 2 wrong input, 3 something could not be compared, 4 something is missing.
    """
    args = _build_parser().parse_args(argv)
    run = {"table": _run_table, "targets": _run_targets, "accept": _run_accept, "check": _run_check}[args.command]
    try:
        text, code = run(args)
    except (ValueError, OSError, StoreError) as error:
        if args.traceback:
            raise
        print(f"error: {error}", file=sys.stderr)
        return EXIT_MISSING if isinstance(error, FileNotFoundError | StoreError) else EXIT_USAGE
    sys.stdout.write(text)
    return code


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


def _read_records(args: argparse.Namespace) -> tuple[Record, ...]:
    records = find_records(args.records) if args.records else load_records(args.tracking_uri)
    if not records:
        place = args.records or args.tracking_uri
        raise FileNotFoundError(f"no record in {place}. `python downstream/run.py ade20k` makes one.")
    return records


def _run_table(args: argparse.Namespace) -> tuple[str, int]:
    records = _read_records(args)
    return render_table(records if args.all else latest_records(records), style=args.format), EXIT_DONE


def _run_targets(args: argparse.Namespace) -> tuple[str, int]:
    targets = read_all_targets(args.configs)
    if args.validate:
        return f"{len(targets)} targets, each with its protocol and source\n", EXIT_DONE
    return _list_targets(targets), EXIT_DONE


def _run_accept(args: argparse.Namespace) -> tuple[str, int]:
    if args.runs and args.records:
        raise ValueError(f"both runs and --records {args.records} are named, expected one of them.")
    named = [read_record(path) for path in args.runs]
    text = accept_records(
        named or tuple(newest_records(_read_records(args)).values()),
        args.accepted,
        reason=args.reason,
        accepted_at=datetime.now(UTC).isoformat(timespec="seconds"),
        tolerance=args.tolerance,
        allow_dirty=args.allow_dirty,
    )
    return text, EXIT_DONE


def _run_check(args: argparse.Namespace) -> tuple[str, int]:
    records = _read_records(args)
    is_paper = args.against == "paper"
    report = check_paper(records) if is_paper else check_accepted(records, read_all_accepted(args.accepted))
    if args.junit:
        write_junit(report, args.junit)
    text = report.to_text()
    if is_in_actions(os.environ):
        append_summary(report, os.environ)
        text += annotate(report)
    return text, report.code


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
    _add_accept(commands.add_parser("accept", help="make results the ones that later runs are held against"))
    _add_check(commands.add_parser("check", help="results against the accepted numbers; exits 1 on a regression"))
    return parser


def _add_place(parser: argparse.ArgumentParser) -> None:
    place = parser.add_mutually_exclusive_group()
    default = f"sqlite:///{ROOT / 'mlflow.db'}"
    place.add_argument("--tracking-uri", default=default, help="MLflow's store (default: mlflow.db in the project)")
    place.add_argument("--records", type=Path, metavar="DIR", help="read every record.json below DIR instead")


def _add_accepted(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--accepted", type=Path, default=ACCEPTED_DIR, metavar="DIR", help="default: reports/accepted")


def _add_table(parser: argparse.ArgumentParser) -> None:
    _add_place(parser)
    parser.add_argument("--format", choices=STYLES, default="text")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--latest", action="store_true", help="the newest record of each protocol (default)")
    which.add_argument("--all", action="store_true", help="every record")


def _add_targets(parser: argparse.ArgumentParser) -> None:
    configs = ROOT / "downstream" / "configs"
    parser.add_argument("--validate", action="store_true", help="only say whether all of them are whole")
    parser.add_argument("--configs", type=Path, default=configs, metavar="DIR", help="default: downstream/configs")


def _add_accept(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "runs",
        nargs="*",
        type=Path,
        metavar="RUN",
        help="a run's folder or record.json (default: the newest record of each task, setting, split and profile)",
    )
    _add_place(parser)
    parser.add_argument("--reason", required=True, metavar="TEXT", help="why these numbers stand")
    parser.add_argument(
        "--tolerance",
        type=float,
        metavar="POINTS",
        help="how far a later number may be and still be the same; 0 asks for the same digits (default: what the "
        "metric had, else half a sample for shares and 0.05 for others)",
    )
    parser.add_argument("--allow-dirty", action="store_true", help="also accept what no commit's code made")
    _add_accepted(parser)


def _add_check(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--against", choices=("accepted", "paper"), default="accepted")
    _add_place(parser)
    parser.add_argument("--junit", type=Path, metavar="FILE", help="also write JUnit XML")
    _add_accepted(parser)
