"""Command line of the tasks: python downstream/run.py ade20k.

What carries the tasks out is imported when the command line is read, so that `--help` answers at once.
"""

import argparse
import math
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from models.threads import wait_briefly

ROOT = Path(__file__).resolve().parent.parent
EXIT_INTERRUPTED = 130
EXIT_FAULT = 70  # ours: sysexits' "internal software error"; 1 means a regression
DOCTOR_HELP = (
    "doctor TASK, with the options of a run or with --run FOLDER, finds out why a number may be off: the cheapest "
    "checks first, each in a line, then the first cause and what to do. Exit code 0: nothing is suspect; 3: a cause "
    "is named; 2: usage; 4: data or weights are missing."
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run tasks; exit codes: 0 done, 1 regression, 2 usage error, 3 not comparable, 4 something is missing."""
    wait_briefly()
    args = build_parser().parse_args(argv)
    command = shlex.join(["python", "downstream/run.py", *(sys.argv[1:] if argv is None else argv)])
    from downstream.commands import USER_ERRORS, code_of, run

    try:
        return run(args, command)
    except KeyboardInterrupt:
        print("interrupted; go on with --resume", file=sys.stderr)
        return EXIT_INTERRUPTED
    except USER_ERRORS as error:
        if args.traceback:
            raise
        print(f"error: {error}", file=sys.stderr)
        return code_of(error)
    except Exception:
        if not args.traceback:
            print("error: this is a fault of the suite, not of your input; its traceback follows", file=sys.stderr)
        import traceback

        traceback.print_exc()
        return EXIT_FAULT


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python downstream/run.py",
        description="Evaluate ONE-PEACE on the paper's benchmarks.",
        epilog=DOCTOR_HELP,
    )
    parser.add_argument("tasks", nargs="*", metavar="TASK", help="tasks or groups; see --list; or doctor TASK")
    parser.add_argument("--run", type=Path, metavar="FOLDER", help="with doctor: a finished run to examine")
    parser.add_argument("--list", action="store_true", help="name every task and group")
    parser.add_argument("--profile", choices=("paper", "mini"), help="default: by what is named below, else mini")
    parser.add_argument("--setting", choices=("zero-shot", "fine-tuned"), help="default: all that what is named allows")
    parser.add_argument("--split", help="default: the one with published numbers")
    parser.add_argument("--checkpoint", type=Path, help="weights to evaluate as they are")
    parser.add_argument("--pretrained", type=Path, help="pretrained weights: to judge zero-shot, or to fine-tune from")
    parser.add_argument("--data-root", type=Path, help="folder that holds the data set")
    parser.add_argument("--tta", action="store_true", help="test-time augmentation: all scales and flips")
    parser.add_argument("--image", type=Path, help="ask about this picture alone; with --text, for grounding")
    parser.add_argument("--text", help="what to find in the picture")
    parser.add_argument("--limit", type=_limit, help="judge the first N samples, or a share such as 0.1")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 (default: auto)")
    parser.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), help="default: the profile's")
    parser.add_argument("--batch-size", type=_batch_size, help="samples at once when judging (default: the profile's)")
    parser.add_argument("--num-workers", type=int, help="processes that load data (default: some beside a GPU)")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change the profile")
    parser.add_argument("-o", "--output-dir", type=Path, default=ROOT / "runs", help="where runs are written")
    parser.add_argument("--tracking-uri", default=f"sqlite:///{ROOT / 'mlflow.db'}", help="MLflow store")
    parser.add_argument("--dry-run", action="store_true", help="every check that needs no compute")
    parser.add_argument(
        "--resume", nargs="?", const="", metavar="RUN", help="go on with a run's folder (default: the task's latest)"
    )
    parser.add_argument("--traceback", action="store_true", help="show tracebacks of user errors too")
    return parser


def _batch_size(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of samples from 1")
    return int(text)


def _limit(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or value <= 0 or (value >= 1 and value != int(value)):
        raise argparse.ArgumentTypeError(f"{text!r} is neither a whole number of samples nor a share below 1")
    return value
