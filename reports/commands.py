"""The sub-commands of the recorded results, carried out; `reports.cli` reads what they are asked."""

import argparse
import os
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from reports.acceptance import accept_records
from reports.accepted import newest_records, read_all_accepted
from reports.actions import annotate, append_summary, is_in_actions
from reports.check import check_accepted, check_paper
from reports.dashboard import prepare_dashboard, serve_dashboard
from reports.exchange import run_export, run_import
from reports.junit import write_junit
from reports.page.command import run_page
from reports.page.forms import FORMS
from reports.record import RECORD_FILE, Record, read_record
from reports.store import load_records
from reports.sync import run_sync
from reports.table import latest_records, render_table
from reports.target import Target
from reports.target_files import (
    CONFIGS,
    find_unsourced_changes,
    list_notes,
    list_target_files,
    list_targets,
    read_disagreements,
    read_target_files,
    summarise,
)

EXIT_DONE, EXIT_DRIFT, EXIT_USAGE = 0, 1, 2


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


def _run_benchmarks(args: argparse.Namespace) -> tuple[str, int]:
    from reports.benchmark_page import find_drift, write_page

    if not args.check:
        return write_page(args.folder), EXIT_DONE
    drift = find_drift(args.folder)
    return ("", EXIT_DONE) if drift is None else (f"{drift}\n", EXIT_DRIFT)


def _run_dashboard(args: argparse.Namespace) -> tuple[str, int]:
    sys.stdout.write(prepare_dashboard(args.tracking_uri, port=args.port))
    serve_dashboard(args.tracking_uri, port=args.port)
    return "", EXIT_DONE


def _run_page(args: argparse.Namespace) -> tuple[str, int]:
    return run_page(args, find_records=find_records, read_targets=read_all_targets), EXIT_DONE


COMMANDS: Mapping[str, Callable[[argparse.Namespace], tuple[str, int]]] = {
    "table": _run_table,
    "targets": _run_targets,
    "accept": _run_accept,
    "check": _run_check,
    "export": _run_export,
    "import": _run_import,
    "sync": _run_sync,
    "dashboard": _run_dashboard,
    "benchmarks": _run_benchmarks,
    **dict.fromkeys(FORMS, _run_page),
}
"""By name, what carries out a command of `reports.cli`: gives the text for stdout and the exit code."""
