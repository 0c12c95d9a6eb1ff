"""The command line: writes the miniworld in the layout of a real data set."""

import argparse
import logging
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NoReturn

from miniworld.layouts import scene_seed, write_ade20k
from miniworld.preview import draw_preview
from miniworld.scene import draw_scene

EXIT_DONE: Final = 0
EXIT_USAGE: Final = 2
EXIT_MISSING: Final = 4

NUM_PREVIEW_SCENES: Final = 8
PREVIEW_SCENE_WIDTH_PX: Final = 256

LAYOUTS: Final[dict[str, Callable[..., Path]]] = {"ade20k": write_ade20k}


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
    parser = _Parser(prog="run.py", description="Write the miniworld: drawn scenes with labels, all from a seed.")
    parser.add_argument("out", metavar="OUT", type=Path, help="folder that receives the data set's own folder")
    parser.add_argument("--layout", choices=sorted(LAYOUTS), default="ade20k", help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="default: %(default)s")
    parser.add_argument("--training", type=int, default=160, metavar="N", help="training scenes, default: %(default)s")
    parser.add_argument(
        "--validation", type=int, default=32, metavar="N", help="validation scenes, default: %(default)s"
    )
    parser.add_argument("--size", type=_parse_size, default=(128, 96), metavar="WxH", help="in pixels, default: 128x96")
    parser.add_argument("--preview", type=Path, metavar="FILE.png", help="also draw a sheet of scenes and labels")
    parser.add_argument("--traceback", action="store_true", help="show where an error came from")
    return parser


def _parse_size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is no size; expected width x height, as in 128x96")
    return int(match[1]), int(match[2])


def _write(args: argparse.Namespace) -> Path:
    if args.preview:
        _check_preview(args.preview)
    width_px, height_px = args.size
    written = LAYOUTS[args.layout](
        args.out,
        seed=args.seed,
        num_training=args.training,
        num_validation=args.validation,
        width_px=width_px,
        height_px=height_px,
    )
    if args.preview:
        _write_preview(args.preview, args.seed, size_px=args.size)
    return written


def _check_preview(file: Path) -> None:
    if file.suffix != ".png":
        raise ValueError(f"the preview {file} is no .png file; give it a name that ends so")
    if not file.parent.is_dir():
        raise FileNotFoundError(f"the folder of the preview {file} does not exist; make it first")


def _write_preview(file: Path, seed: int, *, size_px: tuple[int, int]) -> None:
    """Draw the first validation scenes, enlarged where they are small."""
    width_px, height_px = size_px
    seeds = [scene_seed(seed, "validation", index=index) for index in range(NUM_PREVIEW_SCENES)]
    scenes = [draw_scene(each, width_px=width_px, height_px=height_px) for each in seeds]
    draw_preview(scenes, num_columns=2, zoom=max(1, PREVIEW_SCENE_WIDTH_PX // width_px)).save(file)
    logging.getLogger(__name__).info("drew %s", file)
