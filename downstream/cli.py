"""Command line of the tasks: python downstream/run.py ade20k."""

import argparse
import contextlib
import math
import os
import re
import shlex
import sys
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from downstream.config import TaskConfig, list_tasks, load_task_config
from downstream.doctor.cli import COMMAND as DOCTOR
from downstream.doctor.cli import HELP as DOCTOR_HELP
from downstream.doctor.cli import run_doctor
from downstream.tasks import load_task
from downstream.tasks.base import Part, Plan, RunOptions
from downstream.tasks.plain import find_task
from downstream.workplace import Alone, Ranks, Workplace, count_ranks, is_first_rank
from reports.progress import Progress
from reports.provenance import ROOT
from reports.record import RECORD_FILE, Record, read_record, write_record
from reports.sender import log_records, warn_unsent
from reports.store import StoreError
from reports.table import render_table
from reports.target import load_targets
from reports.verdict import compare_record, exit_code

EXIT_DONE, EXIT_USAGE, EXIT_MISSING, EXIT_INTERRUPTED = 0, 2, 4, 130
EXIT_FAULT = 70  # ours: sysexits' "internal software error"; 1 means a regression
USER_ERRORS = (ValueError, FloatingPointError, FileNotFoundError)


def main(argv: Sequence[str] | None = None) -> int:
    """Run tasks; exit codes: 0 done, 1 regression, 2 usage error, 3 not comparable, 4 something is missing."""
    # Threads that wait by spinning take the cores from everything else that runs: six times slower beside other work.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    args = build_parser().parse_args(argv)
    command = shlex.join(["python", "downstream/run.py", *(sys.argv[1:] if argv is None else argv)])
    try:
        return _run(args, command)
    except KeyboardInterrupt:
        print("interrupted; go on with --resume", file=sys.stderr)
        return EXIT_INTERRUPTED
    except USER_ERRORS as error:
        if args.traceback:
            raise
        print(f"error: {error}", file=sys.stderr)
        return _code_of(error)
    except Exception:
        if not args.traceback:
            print("error: this is a fault of the suite, not of your input; its traceback follows", file=sys.stderr)
        import traceback

        traceback.print_exc()
        return EXIT_FAULT


def _code_of(error: Exception) -> int:
    return EXIT_MISSING if isinstance(error, FileNotFoundError) else EXIT_USAGE


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


def _run(args: argparse.Namespace, command: str) -> int:
    if args.list:
        sys.stdout.write(_list())
        return EXIT_DONE
    is_doctor = args.tasks[:1] == [DOCTOR]
    if args.run is not None and not is_doctor:
        raise ValueError("--run goes with doctor: doctor TASK --run FOLDER")
    names = args.tasks[1:] if is_doctor else _expand(args.tasks)
    options = RunOptions(
        profile=args.profile,
        setting=args.setting,
        split=args.split,
        checkpoint=args.checkpoint,
        pretrained=args.pretrained,
        data_root=args.data_root,
        limit=args.limit,
        has_views=args.tta,
        seed=args.seed,
        device=args.device,
        dtype=args.dtype,
        batch_size=args.batch_size,
        num_workers=args.num_workers,
        assignments=tuple(args.set),
    )
    if is_doctor:
        return run_doctor(names, options, run=args.run, is_dry=args.dry_run)
    if args.image is not None or args.text is not None:
        return _answer(names, options, args)
    plans = {name: load_task(name).plan(load_task_config(name), options) for name in names}
    for name, plan in plans.items():
        _announce(load_task_config(name), plan, is_dry=args.dry_run)
    if missing := [line for plan in plans.values() for line in plan.missing]:
        for line in missing:
            print(f"error: missing {line}", file=sys.stderr)
        return EXIT_MISSING
    if args.dry_run:
        return EXIT_DONE
    with _join(args.device) as ranks:
        return _run_plans(plans, options, args=args, command=command, ranks=ranks)


def _answer(names: Sequence[str], options: RunOptions, args: argparse.Namespace) -> int:
    """Answer one sentence about one picture with a box, and draw it."""
    if args.image is None or args.text is None or len(names) != 1:
        raise ValueError("--image and --text go together, with one task: refcoco --image FILE --text 'the red house'")
    if args.dry_run or args.resume is not None:
        raise ValueError("--image is answered at once; leave --dry-run and --resume out")
    task, config = find_task(names[0])
    from downstream.tasks.pointing import point

    answer = point(task, config, options, image=args.image, text=args.text, output_dir=args.output_dir)
    left, top, right, bottom = answer.box
    print("the model always answers with one box, whatever the sentence says", file=sys.stderr)
    print(f"{'box:':<12} {left:.1f} {top:.1f} {right:.1f} {bottom:.1f} (left, top, right, bottom in pixels)")
    print(f"{'picture:':<12} {_short(answer.path)}")
    print(f"{'weights:':<12} {_short(answer.weights)}")
    return EXIT_DONE


@contextlib.contextmanager
def _join(device: str) -> Iterator[Ranks]:
    """Meet the other processes, where there are any."""
    if count_ranks() == 1:
        yield Alone()
        return
    from models.world import World

    with World.join(device) as world:
        yield world


def _run_plans(
    plans: Mapping[str, Plan], options: RunOptions, *, args: argparse.Namespace, command: str, ranks: Ranks
) -> int:
    """Run one task after the other; what one of them refuses costs the others nothing."""
    job = _Job(options, args, command, ranks, folders={})
    for name in plans:
        own = str(_open_folder(args, name)) if ranks.rank == 0 else ""
        job.folders[name] = Path(ranks.share_text(own))
    records: dict[Path, Record] = {}
    code = EXIT_DONE
    for name, plan in plans.items():
        try:
            for part in plan.parts:
                folder = job.folders[name] / part.folder
                records[folder] = _run_part(name, plan, part, job=job)
        except USER_ERRORS as error:
            if len(plans) == 1 or args.traceback or ranks.size > 1:
                raise
            print(f"error: {name}: {error}", file=sys.stderr)
            code = code or _code_of(error)
    if ranks.rank != 0 or not records:
        return code
    return _conclude(records, args, command) or code


@dataclass(frozen=True)
class _Job:
    """What all parts of a command have in common."""

    options: RunOptions
    args: argparse.Namespace
    command: str
    ranks: Ranks
    folders: dict[str, Path]
    """Of the runs, by task."""


def _list() -> str:
    configs = [load_task_config(name) for name in list_tasks()]
    groups = sorted({group for config in configs for group in config.groups} | {"all"})
    lines = [f"{config.task:<12} {config.title}" for config in configs]
    return "\n".join([*lines, f"groups: {', '.join(groups)}"]) + "\n"


def _expand(names: Sequence[str]) -> tuple[str, ...]:
    """Turn groups into their tasks, each task once, in the order named."""
    if not names:
        raise ValueError("no task named. See --list.")
    configs = {name: load_task_config(name) for name in list_tasks()}
    groups: dict[str, list[str]] = {"all": list(configs)}
    for name, config in configs.items():
        for group in config.groups:
            groups.setdefault(group, []).append(name)
    expanded = [task for name in names for task in groups.get(name, [name])]
    for name in expanded:
        load_task_config(name)
    return tuple(dict.fromkeys(expanded))


def _announce(config: TaskConfig, plan: Plan, *, is_dry: bool) -> None:
    """Say what is about to run; a mini run says what it is not."""
    if not is_first_rank():
        return
    stream = sys.stdout if is_dry else sys.stderr
    print(f"{config.title}, profile {plan.profile} ({plan.reason})", file=stream)
    if plan.profile == "mini":
        print(
            "  MINI: a small model on a small world. Its numbers show that the road works, "
            "and are not comparable with the paper's.",
            file=stream,
        )
    if is_dry:
        for name, value in plan.facts.items():
            print(f"  {name:<12} {value}", file=stream)


def _open_folder(args: argparse.Namespace, task: str) -> Path:
    """Make a new run's folder, or find the one to go on with.

    Raises:
        FileNotFoundError: nothing to go on with.
    """
    if args.resume is None:
        folder: Path = args.output_dir / f"{time.strftime('%Y%m%d-%H%M%S')}_{task}_{uuid.uuid4().hex[:6]}"
        folder.mkdir(parents=True)
        return folder
    if args.resume:
        named = Path(args.resume)
        if not named.is_dir():
            raise FileNotFoundError(f"no run at {named}; name the folder of a run below {args.output_dir}")
        return named
    pattern = re.compile(rf"\d{{8}}-\d{{6}}_{re.escape(task)}_[0-9a-f]{{6}}")
    earlier: list[Path] = sorted(path for path in args.output_dir.glob("*") if pattern.fullmatch(path.name))
    if not earlier:
        raise FileNotFoundError(f"no run of {task} in {args.output_dir} to go on with; leave --resume out")
    return earlier[-1]


def _read_finished(folder: Path, options: RunOptions, plan: Plan, part: Part) -> Record:
    """Give a finished run's record, if it is what the user asks for.

    Raises:
        ValueError: it was made with other settings.
    """
    record = read_record(folder / RECORD_FILE)
    asked = {
        "profile": plan.settings,
        "split": part.split,
        "seed": options.seed,
        "limit": options.limit,
        "checkpoint": options.checkpoint and options.checkpoint.name,
        "pretrained": options.pretrained and options.pretrained.name,
    }
    found = {**record.config, "split": record.split}
    if changed := [key for key, value in asked.items() if found.get(key) != value]:
        raise ValueError(
            f"{folder.name} is finished and was made with another {changed[0]!r}; ask for the same settings, "
            "or leave --resume out"
        )
    print(f"{folder.name} is finished; its result:", file=sys.stderr)
    return record


def _run_part(name: str, plan: Plan, part: Part, *, job: _Job) -> Record:
    """Run one part of a task and write its record before anything else can go wrong."""
    folder = job.folders[name] / part.folder
    if (folder / RECORD_FILE).is_file():
        return _read_finished(folder, job.options, plan, part)
    folder.mkdir(exist_ok=True)
    config = load_task_config(name)
    is_first = job.ranks.rank == 0
    with Progress(sys.stderr) as progress:
        workplace = Workplace(
            folder=folder,
            shared=job.args.output_dir,
            command=job.command,
            is_resumed=job.args.resume is not None,
            say=progress.say if is_first else _keep_quiet,
            progress=progress.show if is_first else _keep_quiet,
            ranks=job.ranks,
        )
        try:
            result = load_task(name).run(config, job.options, part=part, workplace=workplace)
        except BaseException:
            workplace.tidy()
            raise
    targets = load_targets({"targets": list(config.targets)})
    record = compare_record(result.record, targets, same_weights=result.has_published_weights)
    if is_first:
        write_record(record, folder)
    return record


def _keep_quiet(*_: object) -> None:
    """Say nothing: another process speaks."""


def _conclude(records: Mapping[Path, Record], args: argparse.Namespace, command: str) -> int:
    """Send the records to MLflow, print the table and where everything is."""
    runs = {record.run_id: folder for folder, record in records.items()}
    print("recording in MLflow", file=sys.stderr)
    try:
        log_records(list(records.values()), tracking_uri=args.tracking_uri, command=command, folders=runs)
    except StoreError as error:
        print(warn_unsent(error), file=sys.stderr)
    sys.stdout.write(render_table(records.values()))
    for folder, record in records.items():
        for what in ("pictures", "boxes", "server_answers", "predictions"):
            if what in record.artifacts:
                print(f"{what.replace('_', ' ') + ':':<12} {_short(folder / record.artifacts[what])}")
        print(f"{'record:':<12} {_short(folder / RECORD_FILE)}")
    print(f"{'report:':<12} python reports/run.py table")
    return exit_code([comparison for record in records.values() for comparison in record.comparisons])


def _short(path: Path) -> str:
    """Give a path as the user would type it."""
    with contextlib.suppress(ValueError):
        return os.path.relpath(path)
    return str(path)
