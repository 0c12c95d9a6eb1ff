"""Command line of the recorded results: python reports/run.py html | table | check | export, and others.

What only some of the commands need is imported when they are asked for, so that `--help` answers at once.
"""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from reports.page.forms import FORMS

EXIT_USAGE, EXIT_MISSING = 2, 4
ROOT = Path(__file__).resolve().parent.parent


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and give its exit code.

    0 done, 1 a regression or a page that is behind its data, 2 wrong input, 3 something could not be compared,
    4 something is missing.
    """
    args = build_parser().parse_args(argv)
    from reports.commands import COMMANDS
    from reports.store import StoreError

    try:
        text, code = COMMANDS[args.command](args)
    except (ValueError, OSError, StoreError) as error:
        if args.traceback:
            raise
        print(f"error: {error}", file=sys.stderr)
        return EXIT_MISSING if isinstance(error, FileNotFoundError | StoreError) else EXIT_USAGE
    sys.stdout.write(text)
    return code


class _Command(argparse.ArgumentParser):
    """A sub-command that gets its options when it is the one asked for."""

    def __init__(self, *, add_options: Callable[[argparse.ArgumentParser], None], **settings: Any) -> None:
        super().__init__(**settings)
        self._add_options: Callable[[argparse.ArgumentParser], None] | None = add_options

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse as any parser does."""
        if self._add_options is not None:
            add, self._add_options = self._add_options, None
            add(self)
        return super().parse_known_args(args, namespace)


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python reports/run.py", description="Recorded results beside published ones."
    )
    parser.add_argument("--traceback", action="store_true", help="show where an error comes from")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Command)
    for name, (told, add_options) in _list_commands().items():
        commands.add_parser(name, help=told, add_options=add_options)
    return parser


def _list_commands() -> Mapping[str, tuple[str, Callable[[argparse.ArgumentParser], None]]]:
    """Give what is said of each command, and what adds its options."""
    return {
        "table": ("results beside the paper's", _add_table),
        "targets": ("the published numbers and their protocols", _add_targets),
        "accept": ("make results the ones that later runs are held against", _add_accept),
        **{form: (told, partial(_add_page, form=form)) for form, told in FORMS.items()},
        "check": ("results against the accepted numbers; exits 1 on a regression", _add_check),
        "sync": ("send to MLflow what lies on disk and is not there yet", _add_sync),
        "dashboard": ("MLflow's pages, on the loopback address", _add_dashboard),
        "benchmarks": ("the page of all benchmarks, beside their JSON files", _add_benchmarks),
        "export": ("results as files of other tools", _add_export),
        "import": ("a result from another tool's file", _add_import),
    }


def _add_sync(parser: argparse.ArgumentParser) -> None:
    from reports.sync import add_sync

    _add_store(parser)
    add_sync(parser, default=ROOT / "runs")


def _add_dashboard(parser: argparse.ArgumentParser) -> None:
    from reports.dashboard import add_dashboard

    _add_store(parser)
    add_dashboard(parser)


def _add_export(parser: argparse.ArgumentParser) -> None:
    from reports.exchange import add_export

    _add_place(parser)
    add_export(parser)


def _add_import(parser: argparse.ArgumentParser) -> None:
    from reports.exchange import add_import
    from reports.target_files import CONFIGS

    add_import(parser, configs=CONFIGS)


def _add_store(parser: argparse.ArgumentParser | argparse._MutuallyExclusiveGroup) -> None:
    default = f"sqlite:///{ROOT / 'mlflow.db'}"
    parser.add_argument("--tracking-uri", default=default, help="MLflow's store (default: mlflow.db in the project)")


def _add_place(parser: argparse.ArgumentParser) -> None:
    place = parser.add_mutually_exclusive_group()
    _add_store(place)
    place.add_argument("--records", type=Path, metavar="DIR", help="read every record.json below DIR instead")


def _add_accepted(parser: argparse.ArgumentParser) -> None:
    from reports.accepted import ACCEPTED_DIR

    parser.add_argument("--accepted", type=Path, default=ACCEPTED_DIR, metavar="DIR", help="default: reports/accepted")


def _add_table(parser: argparse.ArgumentParser) -> None:
    from reports.table import STYLES

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


def _add_page(parser: argparse.ArgumentParser, *, form: str) -> None:
    from reports.page.command import add_page
    from reports.target_files import CONFIGS

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


def _add_benchmarks(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--folder",
        type=Path,
        default=ROOT / "reports" / "benchmarks",
        metavar="DIR",
        help="holds the JSON files and gets README.md and growth.svg (default: reports/benchmarks)",
    )
    parser.add_argument("--check", action="store_true", help="write nothing; exits 1 where the page is not theirs")
