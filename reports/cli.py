"""Command line of the recorded results: python reports/run.py html | table | check | export, and others."""

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from reports.acceptance import accept_records
from reports.accepted import ACCEPTED_DIR, newest_records, read_all_accepted
from reports.actions import annotate, append_summary, is_in_actions
from reports.check import check_accepted, check_paper
from reports.dashboard import add_dashboard, prepare_dashboard, serve_dashboard
from reports.exchange import add_export, add_import, run_export, run_import
from reports.junit import write_junit
from reports.page.command import FORMS, add_page, run_page
from reports.record import RECORD_FILE, Record, read_record
from reports.store import StoreError, load_records
from reports.sync import add_sync, run_sync
from reports.table import STYLES, latest_records, render_table
from reports.target import Target
from reports.target_files import (
    CONFIGS,
    ROOT,
    find_unsourced_changes,
    list_notes,
    list_target_files,
    list_targets,
    read_disagreements,
    read_target_files,
    summarise,
)

EXIT_DONE, EXIT_USAGE, EXIT_MISSING = 0, 2, 4


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and give its exit code.

    0 done, 1 a regression, 2 wrong input, 3 something could not be compared, 4 something is missing.
    """
    args = build_parser().parse_args(argv)
    try:
        text, code = _COMMANDS[args.command](args)
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
    return tuple(target for file in read_target_files(_list_configs(configs)) for target in file.targets)


def _list_configs(folder: Path) -> tuple[Path, ...]:
    paths = tuple(sorted(folder.glob("*.yaml")))
    if not paths:
        raise FileNotFoundError(f"no config in {folder}. A task's config is one YAML file there.")
    return paths


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
    paths = _list_configs(args.configs) if args.configs else list_target_files()
    files = read_target_files(paths)
    disagreements = read_disagreements()
    if args.since and (unsourced := find_unsourced_changes(paths, args.since)):
        raise ValueError(" | ".join(unsourced))
    if args.notes:
        return list_notes(files, disagreements), EXIT_DONE
    if args.validate or args.since:
        return summarise(files, disagreements), EXIT_DONE
    return list_targets(files), EXIT_DONE


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
    if args.against == "paper":
        report = check_paper(records, read_all_targets(CONFIGS))
    else:
        report = check_accepted(records, read_all_accepted(args.accepted))
    if args.junit:
        write_junit(report, args.junit)
    text = report.to_text()
    if is_in_actions(os.environ):
        append_summary(report, os.environ)
        text += annotate(report)
    return text, report.code


def _run_export(args: argparse.Namespace) -> tuple[str, int]:
    if args.runs and args.records:
        raise ValueError(f"both runs and --records {args.records} are named, expected one of them.")
    records = [read_record(path) for path in args.runs] or latest_records(_read_records(args))
    return run_export(records, args), EXIT_DONE


def _run_import(args: argparse.Namespace) -> tuple[str, int]:
    return run_import(args), EXIT_DONE


def _run_sync(args: argparse.Namespace) -> tuple[str, int]:
    text, problems = run_sync(args)
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    return text, EXIT_USAGE if problems else EXIT_DONE


def _run_dashboard(args: argparse.Namespace) -> tuple[str, int]:
    sys.stdout.write(prepare_dashboard(args.tracking_uri, port=args.port))
    serve_dashboard(args.tracking_uri, port=args.port)
    return "", EXIT_DONE


def _run_page(args: argparse.Namespace) -> tuple[str, int]:
    return run_page(args, find_records=find_records, read_targets=read_all_targets), EXIT_DONE


_COMMANDS: Mapping[str, Callable[[argparse.Namespace], tuple[str, int]]] = {
    "table": _run_table,
    "targets": _run_targets,
    "accept": _run_accept,
    "check": _run_check,
    "export": _run_export,
    "import": _run_import,
    "sync": _run_sync,
    "dashboard": _run_dashboard,
    **dict.fromkeys(FORMS, _run_page),
}


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python reports/run.py", description="Recorded results beside published ones."
    )
    parser.add_argument("--traceback", action="store_true", help="show where an error comes from")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_table(commands.add_parser("table", help="results beside the paper's"))
    _add_targets(commands.add_parser("targets", help="the published numbers and their protocols"))
    _add_accept(commands.add_parser("accept", help="make results the ones that later runs are held against"))
    for form, told in FORMS.items():
        _add_page(commands.add_parser(form, help=told), form)
    _add_check(commands.add_parser("check", help="results against the accepted numbers; exits 1 on a regression"))
    sync = commands.add_parser("sync", help="send to MLflow what lies on disk and is not there yet")
    _add_store(sync)
    add_sync(sync, default=ROOT / "runs")
    dashboard = commands.add_parser("dashboard", help="MLflow's pages, on the loopback address")
    _add_store(dashboard)
    add_dashboard(dashboard)
    export = commands.add_parser("export", help="results as files of other tools")
    _add_place(export)
    add_export(export)
    add_import(commands.add_parser("import", help="a result from another tool's file"), configs=CONFIGS)
    return parser


def _add_store(parser: argparse.ArgumentParser | argparse._MutuallyExclusiveGroup) -> None:
    default = f"sqlite:///{ROOT / 'mlflow.db'}"
    parser.add_argument("--tracking-uri", default=default, help="MLflow's store (default: mlflow.db in the project)")


def _add_place(parser: argparse.ArgumentParser) -> None:
    place = parser.add_mutually_exclusive_group()
    _add_store(place)
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
    parser.add_argument("--validate", action="store_true", help="only say whether all of them are whole")
    parser.add_argument("--notes", action="store_true", help="what is said beside them, and where sources disagree")
    parser.add_argument(
        "--since", metavar="COMMIT", help="also refuse numbers that differ from those of a commit under an old source"
    )
    parser.add_argument(
        "--configs", type=Path, metavar="DIR", help="only those of a folder (default: all that the project holds)"
    )


def _add_page(parser: argparse.ArgumentParser, form: str) -> None:
    _add_place(parser)
    _add_accepted(parser)
    parser.add_argument("--configs", type=Path, default=CONFIGS, metavar="DIR", help="default: downstream/configs")
    add_page(parser, form)


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
