"""Command line of the model: python models/run.py inspect | convert | verify | embed | bench."""

import argparse
import os
import re
import shlex
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from models.threads import wait_briefly

ROOT = Path(__file__).resolve().parent.parent
EXIT_DONE, EXIT_USAGE, EXIT_MISSING, EXIT_INTERRUPTED = 0, 2, 4, 130
EXIT_FAULT = 70  # ours: sysexits' "internal software error"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and give its exit code: 0 done, 2 wrong input or a wrong hash, 4 something is missing."""
    args = _build_parser().parse_args(argv)
    wait_briefly()
    args.command_line = shlex.join(["python", "models/run.py", *(sys.argv[1:] if argv is None else argv)])
    try:
        sys.stdout.write(_COMMANDS[args.command](args))
        sys.stdout.flush()
        return EXIT_DONE
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # the reader of our output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_DONE
    except (ValueError, OSError) as error:
        if args.traceback:
            raise
        print(f"error: {_told(error)}", file=sys.stderr)
        return EXIT_MISSING if isinstance(error, FileNotFoundError) else EXIT_USAGE
    except Exception:
        print("error: this is a fault of the suite, not of your input; its traceback follows", file=sys.stderr)
        traceback.print_exc()
        return EXIT_FAULT


def _told(error: ValueError | OSError) -> str:
    """Put an error into one line; the system's own say what happened to which file."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror.lower()}; check the path, its rights and the room on the disk"
    return " ".join(str(error).split())


def _inspect(args: argparse.Namespace) -> str:
    from models.checkpoint.describe import describe, to_json, to_text
    from models.checkpoint.reader import open_checkpoint

    description = describe(open_checkpoint(args.file))
    return f"{to_json(description)}\n" if args.json else to_text(description)


def _convert(args: argparse.Namespace) -> str:
    from models.checkpoint.convert import convert
    from models.checkpoint.load import parse_dtype

    done = convert(
        args.file,
        args.out,
        args.branches,
        dtype=None if args.dtype is None else parse_dtype(args.dtype),
        with_head=args.with_head,
        overwrite=args.overwrite,
        progress=_show_progress,
    )
    for part in done.left_out:
        print(f"left out by choice: {len(part.names)} names, {part.reason}", file=sys.stderr)
    return f"{done.path}: {done.num_tensors} tensors, {done.num_bytes / 2**30:.2f} GiB\n"


def _show_progress(names: Iterable[str]) -> Iterable[str]:
    from tqdm import tqdm

    bar: Iterable[str] = tqdm(names, desc="writing", unit="tensor", disable=None)  # on a terminal only
    return bar


def _verify(args: argparse.Namespace) -> str:
    from models.checkpoint.reader import file_sha256

    if not re.fullmatch(r"[0-9a-fA-F]{64}", args.sha256):
        raise ValueError(f"{args.sha256!r} is no SHA-256, expected 64 hexadecimal digits")
    if not args.file.is_file():
        raise FileNotFoundError(f"checkpoint {args.file} does not exist; give the path of a file")
    found = file_sha256(args.file)
    if found != args.sha256.lower():
        raise ValueError(f"{args.file} has the SHA-256 {found}, expected {args.sha256.lower()}; fetch it again")
    return f"{args.file}: SHA-256 is as expected\n"


def _embed(args: argparse.Namespace) -> str:
    sources: dict[str, Sequence[str | Path]] = {"text": args.text} if args.text else {}
    if not sources and not args.image and not args.audio:
        raise ValueError("nothing to embed; name --text, --image or --audio")
    if args.hop and not args.window:
        raise ValueError("--hop without --window; name how long a window is")
    from tqdm import tqdm

    from models.allocator import keep_freed_memory
    from models.embed_files import Windows, embed_files, list_files
    from models.embedding import load_model

    for name, folder in (("image", args.image), ("audio", args.audio)):
        if folder is not None:
            sources[name] = list_files(folder, name)
    keep_freed_memory()
    branches = args.branches or tuple(sources)
    model = load_model(args.model, branches=branches, dtype=args.dtype, device=args.device, seed=args.seed)
    windows = Windows(args.window, args.hop or args.window) if args.window else None
    model_name = f"{args.model}, seed {args.seed}" if args.seed is not None else f"{args.model}, {args.dtype}"
    with tqdm(desc="embedding", unit="source", disable=None) as bar:  # on a terminal only

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        counts = embed_files(model, sources, args.output, windows=windows, model_name=model_name, progress=show)
    return f"{args.output}: {', '.join(f'{count} {name}' for name, count in counts.items())}\n"


def _bench(args: argparse.Namespace) -> str:
    from models.bench.command import Order, bench_model
    from models.bench.workloads import NAMES

    return bench_model(Order.parse(**read_bench_options(args), known=NAMES))


def read_bench_options(args: argparse.Namespace) -> dict[str, Any]:
    """Give the options of a `bench` command, as `Order.parse` takes them."""
    names = ("size", "only", "device", "dtype", "threads", "repeats", "folder", "tracking_uri", "has_growth")
    return {**{name: getattr(args, name) for name in names}, "command": args.command_line}


_COMMANDS: dict[str, Callable[[argparse.Namespace], str]] = {
    "inspect": _inspect,
    "convert": _convert,
    "verify": _verify,
    "embed": _embed,
    "bench": _bench,
}


def _branches(text: str) -> tuple[str, ...]:
    """Read a list of modalities."""
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if not names:
        raise argparse.ArgumentTypeError("expected names such as image,text")
    return names


def _build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python models/run.py", description="Checkpoints, opened without executing anything in them."
    )
    parser.add_argument("--traceback", action="store_true", help="show where an error comes from")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_inspect(commands.add_parser("inspect", help="say what a checkpoint is"))
    _add_convert(commands.add_parser("convert", help="write some branches to a safetensors file with our names"))
    _add_verify(commands.add_parser("verify", help="compare a file with its published hash"))
    _add_embed(commands.add_parser("embed", help="turn sentences, pictures and sounds into vectors"))
    add_bench(commands.add_parser("bench", help="time it beside a plain formulation of the same arithmetic"))
    return parser


def _add_inspect(parser: argparse.ArgumentParser) -> None:
    _add_file(parser)
    parser.add_argument("--json", action="store_true", help="everything, as JSON")


def _add_convert(parser: argparse.ArgumentParser) -> None:
    _add_file(parser)
    parser.add_argument("out", type=Path, metavar="OUT", help="a new .safetensors file")
    parser.add_argument("--branches", type=_branches, required=True, metavar="LIST", help="such as image,text")
    parser.add_argument("--dtype", help="bf16, fp16 or fp32, or their long names (default: as stored)")
    parser.add_argument("--with-head", action="store_true", help="a classifier's head too (default: the encoder alone)")
    parser.add_argument("--overwrite", action="store_true", help="replace OUT where it exists")


def _add_verify(parser: argparse.ArgumentParser) -> None:
    _add_file(parser)
    parser.add_argument("--sha256", required=True, metavar="HEX", help="64 hexadecimal digits")


def _add_embed(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", required=True, help="a checkpoint, or a size: its shipped weights, or see --seed")
    parser.add_argument("--seed", type=int, help="with a size: fresh weights, to try things out")
    parser.add_argument("--text", nargs="+", metavar="SENTENCE", help="sentences")
    parser.add_argument("--image", type=Path, metavar="FOLDER", help="a folder of pictures, or one")
    parser.add_argument("--audio", type=Path, metavar="FOLDER", help="a folder of sounds, or one")
    parser.add_argument("--window", type=_seconds, metavar="S", help="cut sounds into windows of so many seconds")
    parser.add_argument("--hop", type=_seconds, metavar="S", help="from one window to the next (default: its length)")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="OUT", help="a .safetensors file")
    parser.add_argument("--branches", type=_branches, metavar="LIST", help="to load (default: what is embedded)")
    parser.add_argument("--dtype", default="float32", help="bf16, fp16 or fp32, or their long names")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1 (default: cpu)")
    parser.add_argument("--traceback", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)


def add_bench(parser: argparse.ArgumentParser) -> None:
    """Add the options of a `bench` command."""
    parser.add_argument("--size", default="small", help="a size, or `small`: the paper's with 12 layers of 384")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="workloads by name (default: all)")
    parser.add_argument("--repeats", type=int, default=7, metavar="N", help="runs of each formulation (default: 7)")
    parser.add_argument("--growth", dest="has_growth", action="store_true", help="also how costs grow (minutes)")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--dtype", default="float32", help="bf16, fp16 or fp32, or their long names")
    parser.add_argument("--threads", type=int, metavar="N", help="of the computation (default: torch's)")
    parser.add_argument(
        "-o", "--output-dir", dest="folder", type=Path, default=ROOT / "runs" / "benchmarks", help="where JSON goes"
    )
    parser.add_argument("--tracking-uri", default=f"sqlite:///{ROOT / 'mlflow.db'}", help="MLflow store")
    parser.add_argument("--traceback", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)


def _seconds(text: str) -> float:
    """Read a duration of at least one sample."""
    value = float(text)
    if not 0.001 <= value < 1e6:
        raise argparse.ArgumentTypeError(f"{text!r} is no duration in seconds")
    return value


def _add_file(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE", help="a checkpoint, or an index of shards")
    # Also after the command; without a default, so that it does not undo the one before it.
    parser.add_argument("--traceback", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
