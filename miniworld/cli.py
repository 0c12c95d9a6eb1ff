"""The command line: writes the miniworld in the layout of a real data set.

What draws and writes is imported when the command line is read, so that `--help` answers at once.
"""

import argparse
import logging
import re
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NoReturn

EXIT_DONE: Final = 0
EXIT_USAGE: Final = 2
EXIT_MISSING: Final = 4

BENCHMARKS: Final = (
    "esc50",
    "fsd50k",
    "vggsound",
    "audiocaps",
    "clotho",
    "avqa",
    "coco",
    "flickr30k",
    "refcoco",
    "refcoco_plus",
    "refcocog",
    "imagenet",
    "vqav2",
    "nlvr2",
)
"""Those of `miniworld.benchmarks`, in its order."""
LAYOUTS: Final[Mapping[str, Mapping[str, Any]]] = {
    "ade20k": {"training": 160, "validation": 32, "size": (128, 96), "preview": None},
    "cocostuff": {"training": 160, "validation": 32, "size": (128, 96)},
    "coco_detection": {"training": 320, "validation": 64, "size": (128, 96)},
    "pairs": {
        "pictures": 16_000,
        "sounds": 4_000,
        "held_out": 500,
        "clips": 15,
        "side": 72,
        "shard": 768,
        "workers": 2,
    },
    "pair-tables": {"pictures": 600, "sounds": 200, "side": 72},
    **{name: {"scale": 1.0} for name in BENCHMARKS},
}
"""The layouts that can be asked for: the options that each takes, with their values if none is given."""
OPTIONS: Final = tuple(dict.fromkeys(option for defaults in LAYOUTS.values() for option in defaults))


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_USAGE, f"error: {message}; see --help\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    args = _build_parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        print(_write(args))
    except (ValueError, OSError) as error:
        if args.traceback:
            traceback.print_exc()
        print(f"error: {error}", file=sys.stderr)
        return EXIT_MISSING if isinstance(error, OSError) else EXIT_USAGE
    return EXIT_DONE


def _build_parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="run.py",
        description="Write the miniworld from a seed: scenes with labels, pictures and sounds with sentences, or small "
        "benchmarks in the layouts of the real ones.",
    )
    parser.add_argument("out", metavar="OUT", type=Path, help="folder that receives the data set's own folder")
    parser.add_argument("--layout", choices=sorted(LAYOUTS), default="ade20k", help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="default: %(default)s")
    _add_layout_options(parser)
    parser.add_argument("--traceback", action="store_true", help="show where an error came from")
    return parser


def _add_layout_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that belong to some layouts only; one that is not given stays None."""
    scenes = parser.add_argument_group("for --layout ade20k, cocostuff, coco_detection (in brackets: its defaults)")
    scenes.add_argument("--training", type=int, metavar="N", help="training scenes, default: 160 (320)")
    scenes.add_argument("--validation", type=int, metavar="N", help="validation scenes, default: 32 (64)")
    scenes.add_argument("--size", type=_parse_size, metavar="WxH", help="in pixels, default: 128x96")
    scenes.add_argument(
        "--preview", type=Path, metavar="FILE.png", help="ade20k only: also draw a sheet of scenes and labels"
    )
    pairs = parser.add_argument_group("for --layout pairs (defaults in brackets: for pair-tables)")
    pairs.add_argument("--pictures", type=int, metavar="N", help="training pictures, default: 16000 (600)")
    pairs.add_argument("--sounds", type=int, metavar="N", help="training sounds, default: 4000 (200)")
    pairs.add_argument("--side", type=int, metavar="PX", help="width and height of a picture, default: 72 (72)")
    pairs.add_argument("--held-out", type=int, metavar="N", help="held-out pictures, default: 500")
    pairs.add_argument("--clips", type=int, metavar="N", help="held-out sounds a class, default: 15")
    pairs.add_argument("--shard", type=int, metavar="N", help="samples a shard, default: 768")
    pairs.add_argument("--workers", type=int, metavar="N", help="processes, default: 2")
    benchmarks = parser.add_argument_group(f"for --layout {', '.join(BENCHMARKS)}")
    benchmarks.add_argument("--scale", type=float, metavar="X", help="multiplies every count, default: 1.0")


def _parse_size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is no size; expected width x height, as in 128x96")
    return int(match[1]), int(match[2])


def _write(args: argparse.Namespace) -> Path:
    options = _choose_options(args)
    from miniworld.writing import write_layout

    return write_layout(args.layout, args.out, seed=args.seed, options=options)


def _choose_options(args: argparse.Namespace) -> dict[str, Any]:
    """Take what was given, else the default; refuse what the layout does not know."""
    defaults = LAYOUTS[args.layout]
    for option in OPTIONS:
        if getattr(args, option) is not None and option not in defaults:
            known = ", ".join("--" + name.replace("_", "-") for name in defaults)
            raise ValueError(
                f"--{option.replace('_', '-')} does not belong to the layout {args.layout!r}; it takes: {known}"
            )
    given = {option: getattr(args, option) for option in defaults}
    return {option: defaults[option] if value is None else value for option, value in given.items()}
