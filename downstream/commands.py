"""What the command line of the tasks asks for, carried out; `downstream.cli` reads it."""

import argparse
import contextlib
import os
import re
import sys
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from downstream.config import TaskConfig, list_tasks, load_task_config
from downstream.doctor.cli import COMMAND as DOCTOR
from downstream.doctor.cli import run_doctor
from downstream.tasks import load_task
from downstream.tasks.base import Part, Plan, RunOptions
from downstream.tasks.plain import find_task
from downstream.workplace import Alone, Ranks, Workplace, count_ranks, is_first_rank
from models.allocator import keep_freed_memory
from reports.progress import Progress
from reports.record import RECORD_FILE, Record, read_record, write_record
from reports.sender import log_records, warn_unsent
from reports.store import StoreError
from reports.table import render_table
from reports.target import load_targets
from reports.verdict import compare_record, exit_code

EXIT_DONE, EXIT_USAGE, EXIT_MISSING = 0, 2, 4
USER_ERRORS = (ValueError, FloatingPointError, FileNotFoundError)


def code_of(error: Exception) -> int:
    """Give the exit code of what a user did wrong."""
    return EXIT_MISSING if isinstance(error, FileNotFoundError) else EXIT_USAGE


def run(args: argparse.Namespace, command: str) -> int:
    """Do what was asked for, and give the exit code.

    Args:
        args: of `downstream.cli.build_parser`.
        command: as the user would type it again.

    Raises:
        ValueError, FloatingPointError, FileNotFoundError: what the user did wrong, in one line.
    """
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
    keep_freed_memory()
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
            code = code or code_of(error)
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
