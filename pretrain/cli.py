"""Command line of pretraining: python pretrain/run.py stage1 --size mini."""

import argparse
import os
import re
import shlex
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from models.threads import wait_briefly
from pretrain.stage_names import list_stages

if TYPE_CHECKING:
    from models.world import World
    from pretrain.config import StageConfig
    from pretrain.job import Result

ROOT = Path(__file__).resolve().parent.parent
EXIT_DONE, EXIT_USAGE, EXIT_MISSING, EXIT_INTERRUPTED = 0, 2, 4, 130
EXIT_FAULT = 70  # ours: sysexits' "internal software error"


def main(argv: Sequence[str] | None = None) -> int:
    """Train, plan or judge; exit codes: 0 done or stopped in order, 2 usage error, 4 something is missing."""
    args = build_parser().parse_args(argv)
    wait_briefly()
    args.command_line = shlex.join(["python", "pretrain/run.py", *(sys.argv[1:] if argv is None else argv)])
    command: Callable[[argparse.Namespace], int] = args.run_command
    try:
        return command(args)
    except KeyboardInterrupt:
        print("interrupted; go on with --resume", file=sys.stderr)
        return EXIT_INTERRUPTED
    except (ValueError, FloatingPointError, OSError) as error:
        if args.traceback:
            raise
        print(f"error: {error}", file=sys.stderr)
        return EXIT_USAGE if isinstance(error, ValueError | FloatingPointError) else EXIT_MISSING
    except Exception:
        if not args.traceback:
            print("error: this is a fault of the suite, not of your input; its traceback follows", file=sys.stderr)
        import traceback

        traceback.print_exc()
        return EXIT_FAULT


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    parser = argparse.ArgumentParser(prog="python pretrain/run.py", description="Pretrain ONE-PEACE, stage by stage.")
    parser.add_argument("--traceback", action="store_true", help="show tracebacks of user errors too")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for stage in list_stages():
        _add_stage(commands.add_parser(stage, help="train this stage"), stage)
    _add_plan(commands.add_parser("plan", help="memory, time and flags of a stage on given GPUs, before any is used"))
    _add_evaluate(commands.add_parser("evaluate", help="judge weights by the held-out part of a miniworld"))
    _add_ablate(commands.add_parser("ablate", help="train small variants of the model and compare them"))
    _add_ship(commands.add_parser("ship", help="make a trained small size the one that comes with the project"))
    _add_bench(commands.add_parser("bench", help="time the steps beside a plain formulation of the same arithmetic"))
    return parser


def _add_stage(parser: argparse.ArgumentParser, stage: str) -> None:
    parser.add_argument("--size", default="4b", help="4b (the paper's), mini or tiny (default: 4b)")
    parser.add_argument("--start", type=Path, metavar="PATH", help="weights of the stage before, or its run's folder")
    parser.add_argument("--modality", help="the modality to add, in a stage that adds any")
    parser.add_argument("--data", metavar="PATH", help="the source's path, such as 'shards/{00000..00123}.tar'")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change the config")
    parser.add_argument(
        "--run",
        "--run-name",  # torchrun takes `--run` for an option of its own
        dest="run",
        metavar="NAME",
        help="the run's folder below --output-dir; one that is there goes on (under torchrun: --run-name)",
    )
    parser.add_argument("--resume", action="store_true", help="go on with this stage's latest run")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument("-o", "--output-dir", type=Path, default=ROOT / "runs", help="where runs are written")
    parser.add_argument("--tracking-uri", default=f"sqlite:///{ROOT / 'mlflow.db'}", help="MLflow store")
    parser.add_argument("--dry-run", action="store_true", help="every check that needs no compute")
    parser.set_defaults(run_command=_run_stage, stage=stage)


def _add_plan(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--stage", default="stage1", choices=list_stages())
    parser.add_argument("--size", default="4b")
    parser.add_argument("--modality", help="the modality to add, in a stage that adds any")
    parser.add_argument("--gpus", type=int, required=True, help="how many")
    parser.add_argument("--gpu", required=True, help="which kind, such as h100; see pretrain/gpus.yaml")
    parser.add_argument("--text-tokens", type=int, help="longest text of a micro-batch (default: the longest there is)")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change the config")
    parser.set_defaults(run_command=_plan)


def _add_evaluate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("weights", type=Path, help="weights of a stage, or its run's folder")
    parser.add_argument("--size", default="mini")
    parser.add_argument("--held-out", type=Path, help="folder of the held-out part (default: of the size's miniworld)")
    parser.add_argument("--json", action="store_true", help="every digit, as JSON")
    parser.set_defaults(run_command=_evaluate)


def _add_ablate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("tables", nargs="*", metavar="TABLE", help="sharing, terms, loss, emergent (default: all)")
    parser.add_argument("--size", default="mini", help="mini or tiny (default: mini)")
    parser.add_argument("--steps", type=int, metavar="N", help="of every training (default: see ablations.yaml)")
    parser.add_argument("--seeds", type=int, metavar="N", help="trainings of every variant (default: 3)")
    parser.add_argument("--weights", type=Path, nargs="+", default=[], help="finished runs that `emergent` judges")
    parser.add_argument("--run", metavar="NAME", help="the run's folder below --output-dir; one that is there goes on")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument("-o", "--output-dir", type=Path, default=ROOT / "runs", help="where runs are written")
    parser.add_argument("--tracking-uri", default=f"sqlite:///{ROOT / 'mlflow.db'}", help="MLflow store")
    parser.add_argument("--dry-run", action="store_true", help="list what would be trained")
    parser.set_defaults(run_command=_ablate)


def _add_ship(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, help="folder of the last stage's run")
    parser.set_defaults(run_command=_ship)


def _add_bench(parser: argparse.ArgumentParser) -> None:
    from models.cli import add_bench

    add_bench(parser)
    parser.set_defaults(run_command=_bench)


def _run_stage(args: argparse.Namespace) -> int:
    config = _read_config(args)
    if (config.starts_from is None) != (args.start is None):
        wish = f"name the weights of {config.starts_from} by --start" if config.starts_from else "leave --start out"
        raise ValueError(f"{config.stage} starts from {config.starts_from or 'nothing'}; {wish}")
    if args.start is not None and not args.start.exists():
        raise FileNotFoundError(f"no weights at {args.start}; expected those of {config.starts_from}")
    if args.dry_run:
        _announce(config, sys.stdout)
        return _check_data(config)
    from models.allocator import keep_freed_memory
    from models.world import World

    keep_freed_memory()
    with World.join(args.device) as world:
        if world.is_first:
            _announce(config, sys.stderr)
        folder = _open_folder(args, config, world)
        return _train(args, config, folder=folder, world=world)


def _read_config(args: argparse.Namespace) -> "StageConfig":
    from pretrain.config import load_stage  # not at the top: `--help` answers without it

    config = load_stage(args.stage, args.size, modality=args.modality, assignments=args.set)
    if args.data is None:
        return config
    if len(config.data.sources) > 1:
        raise ValueError(f"--data for {len(config.data.sources)} sources, expected one; set data.sources by --set")
    source = config.data.sources[0].model_copy(update={"path": args.data})
    data = config.data.model_copy(update={"sources": [source]})
    return config.model_copy(update={"data": data, "world": None})


def _announce(config: "StageConfig", stream: TextIO) -> None:
    print(f"{config.stage}, {config.title}, size {config.size}", file=stream)
    if config.size != "4b":
        print("  A small model on a small world: it shows the effect, not the paper's numbers.", file=stream)
    first, second = config.objective.pair
    batch = config.batch
    print(
        f"  {first} and {second}, {config.steps} steps of {batch.batch_size} in micro-batches of "
        f"{batch.micro_batch_size}; trained: {config.trained}; terms: {', '.join(config.objective.terms) or 'none'}",
        file=stream,
    )


def _check_data(config: "StageConfig") -> int:
    """Look for the data without reading it."""
    if config.world is not None:
        print(f"  data: the miniworld, drawn into {config.world.folder} when the training begins")
        return EXIT_DONE
    from pretrain.data.sources import open_sources

    source = open_sources(config.data.sources, say=lambda line: print(f"  {line}", file=sys.stderr))
    print(f"  data: {len(source.shards)} shards")
    return EXIT_DONE


def _open_folder(args: argparse.Namespace, config: "StageConfig", world: "World") -> Path:
    """Choose the run's folder, the same on every rank."""
    from pretrain.job import claim

    if args.run and args.resume:
        raise ValueError("--run and --resume name a run each; expected one of them")
    name = args.run or (_find_latest(args.output_dir, config) if args.resume else _new_name(config))
    if Path(name).name != name or name == "..":
        raise ValueError(f"--run {name!r}, expected a folder's name; its place is --output-dir")
    folder: Path = args.output_dir / world.share_text(name)
    if world.is_first:
        claim(folder, config)
    return folder


def _new_name(config: "StageConfig") -> str:
    return f"{time.strftime('%Y%m%d-%H%M%S')}_{config.stage}-{config.size}_{uuid.uuid4().hex[:6]}"


def _find_latest(folder: Path, config: "StageConfig") -> str:
    pattern = re.compile(rf"\d{{8}}-\d{{6}}_{re.escape(config.stage)}-{re.escape(config.size)}_[0-9a-f]{{6}}")
    earlier = sorted(path.name for path in folder.glob("*") if pattern.fullmatch(path.name))
    if not earlier:
        raise FileNotFoundError(f"no run of {config.stage}, size {config.size}, in {folder}; leave --resume out")
    return earlier[-1]


def _train(args: argparse.Namespace, config: "StageConfig", *, folder: Path, world: "World") -> int:
    from pretrain.job import run_stage
    from pretrain.reporting import Reporter

    with Reporter(config, folder=folder, world=world, tracking_uri=args.tracking_uri) as reporter:
        result = run_stage(
            config, folder=folder, start=args.start, world=world, say=reporter.say, journal=reporter.journal
        )
        if world.is_first:
            reporter.conclude(result, command=args.command_line)
    if world.is_first:
        _conclude(result, config)
    return EXIT_DONE


def _conclude(result: "Result", config: "StageConfig") -> None:
    from pretrain.evaluate import render
    from pretrain.weights import WEIGHTS_FILE

    where = os.path.relpath(result.folder)
    if not result.outcome.is_complete:
        done = f"{result.outcome.steps} of {config.steps}"
        print(f"stopped after step {done}, and saved; go on with --run {result.folder.name}")
        return
    if result.evaluation is not None:
        sys.stdout.write(render(result.evaluation))
    print(f"weights:     {where}/{WEIGHTS_FILE}")


def _plan(args: argparse.Namespace) -> int:
    from pretrain.config import load_stage
    from pretrain.plan import build_plan, render_plan

    config = load_stage(args.stage, args.size, modality=args.modality, assignments=args.set)
    plan = build_plan(config, gpu=args.gpu, gpus=args.gpus, text_tokens=args.text_tokens)
    sys.stdout.write(render_plan(plan))
    return EXIT_DONE


def _evaluate(args: argparse.Namespace) -> int:
    from pretrain.config import load_stage
    from pretrain.evaluate import render
    from pretrain.job import find_held_out, judge
    from pretrain.weights import find_weights

    held_out = args.held_out or find_held_out(load_stage("stage1", args.size))
    evaluation = judge(find_weights(args.weights), args.size, held_out, say=lambda line: print(line, file=sys.stderr))
    sys.stdout.write(evaluation.to_json() + "\n" if args.json else render(evaluation))
    return EXIT_DONE


def _ablate(args: argparse.Namespace) -> int:
    from pretrain.ablation.config import describe_jobs, load_ablations, make_order, plan_jobs

    ablations, has_weights = load_ablations(), bool(args.weights)
    order = make_order(
        ablations, args.tables, size=args.size, steps=args.steps, num_seeds=args.seeds, has_weights=has_weights
    )
    name = args.run or f"{time.strftime('%Y%m%d-%H%M%S')}_ablate-{args.size}_{uuid.uuid4().hex[:6]}"
    if Path(name).name != name:
        raise ValueError(f"--run {name!r}, expected a folder's name; its place is --output-dir")
    print(describe_jobs(plan_jobs(ablations, order, with_emergent=not has_weights)), file=sys.stderr)
    if args.dry_run:
        return EXIT_DONE
    from pretrain.ablate import Request, ablate

    folder, weights = args.output_dir / name, tuple(args.weights)
    sys.stdout.write(ablate(Request(order, folder, weights, args.device, args.tracking_uri, args.command_line)))
    return EXIT_DONE


def _ship(args: argparse.Namespace) -> int:
    from pretrain.ship import ship

    print(ship(args.run))
    return EXIT_DONE


def _bench(args: argparse.Namespace) -> int:
    from models.bench.command import Order
    from models.cli import read_bench_options
    from pretrain.bench.command import bench_pretraining
    from pretrain.bench.workloads import NAMES

    options = {**read_bench_options(args), "command": args.command_line}
    sys.stdout.write(bench_pretraining(Order.parse(**options, known=NAMES)))
    return EXIT_DONE
