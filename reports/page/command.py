"""The sub-commands of the report page: html, md, csv and json."""

import argparse
import contextlib
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from reports.accepted import read_all_accepted
from reports.record import Record
from reports.store import EXPERIMENT, load_records
from reports.target import Target
from reports.training_run import EXPERIMENT as PRETRAIN_EXPERIMENT
from reports.whole_file import write_whole

if TYPE_CHECKING:
    from reports.page.data import Page
    from reports.page.sources import Sources

ROOT: Final = Path(__file__).resolve().parent.parent.parent
STDOUT: Final = "-"


def add_page(parser: argparse.ArgumentParser, form: str) -> None:
    """Add the options of a form; where records and accepted results come from is added by the caller."""
    output = ROOT / "runs" / f"report.{form}"
    parser.add_argument(
        "-o",
        "--output",
        default=str(output),
        metavar="FILE",
        help=f"what to write (default: runs/{output.name} in the project; - is stdout)",
    )
    parser.add_argument(
        "--runs", type=Path, default=ROOT / "runs", metavar="DIR", help="where the runs' folders are (default: runs)"
    )
    parser.add_argument(
        "--data-root",
        type=Path,
        action="append",
        metavar="DIR",
        help="folder that holds data sets, for the pictures and sounds of samples; may be given several times "
        "(default: data)",
    )


def run_page(
    args: argparse.Namespace,
    *,
    find_records: Callable[[Path], Sequence[Record]],
    read_targets: Callable[[Path], tuple[Target, ...]],
) -> str:
    """Make the page in the form that was asked for, and write it; gives what to print.

    Raises:
        FileNotFoundError: no record, or a folder that is not there.
        ValueError: a faulty record or config, or a page that cannot be made small enough.
        StoreError: MLflow's store cannot be read.
    """
    records = find_records(args.records) if args.records else _load(args.tracking_uri)
    if not records:
        place = args.records or args.tracking_uri
        raise FileNotFoundError(f"no record in {place}. `python downstream/run.py ade20k` makes one.")
    for folder in args.data_root or ():
        if not folder.is_dir():
            raise FileNotFoundError(f"no folder {folder}. Name one that holds data sets with --data-root.")
    with contextlib.ExitStack() as stack:
        sources = _open_sources(args, read_targets(args.configs), stack)
        page = _build(records, sources)
    text = render(page, args.command)
    if args.output == STDOUT:
        return text
    size = write_whole(Path(args.output), text)
    return (
        f"{_short(Path(args.output))}: {len(page.runs)} results of {page.num_records} records, {size / 1000:.0f} kB\n"
    )


def render(page: "Page", form: str) -> str:
    """Write the page's data in one of the forms."""
    from reports.page.text import render_csv, render_page_markdown
    from reports.page.view import render_html

    forms = {"html": render_html, "md": render_page_markdown, "csv": render_csv}
    return forms[form](page) if form in forms else page.to_json()


def _load(tracking_uri: str) -> tuple[Record, ...]:
    """Read the records of tasks and of pretraining."""
    return (*load_records(tracking_uri), *load_records(tracking_uri, experiment=PRETRAIN_EXPERIMENT))


def _open_sources(args: argparse.Namespace, targets: tuple[Target, ...], stack: contextlib.ExitStack) -> "Sources":
    from reports.page.media_files import MediaFiles
    from reports.page.run_files import FirstFound, FolderFiles, RunFiles, StoreFiles
    from reports.page.sources import Sources, read_task_facts

    places: list[RunFiles] = [FolderFiles(args.records or args.runs)]
    if args.records is None:
        places.append(stack.enter_context(StoreFiles(args.tracking_uri, (EXPERIMENT, PRETRAIN_EXPERIMENT))))
    return Sources(
        targets=targets,
        tasks=read_task_facts(args.configs),
        accepted=read_all_accepted(args.accepted),
        files=FirstFound(places),
        media=MediaFiles(args.data_root or (ROOT / "data",)),
    )


def _build(records: Sequence[Record], sources: "Sources") -> "Page":
    from reports.page.build import build_page
    from reports.page.fit import fit
    from reports.page.view import render_html
    from reports.progress import Progress

    with Progress(sys.stderr) as progress:
        page = build_page(
            records, sources, progress=lambda done, total, word: progress.show("report", done, total, word)
        )
    return fit(page, render_html)


def _short(path: Path) -> str:
    """Give a path as the user would type it."""
    with contextlib.suppress(ValueError):
        return os.path.relpath(path)
    return str(path)
