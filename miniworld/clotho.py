"""Clips of two sounds with five sentences each, in the layout of Clotho.

`clotho/`, from `write_clotho`, for development, validation and evaluation:

    clotho_captions_<split>.csv     file_name,caption_1 to caption_5
    <split>/                        <file_name>: with blanks, in front and double ones too, with # and commas
    clotho_<split>_new.tsv          the authors' tables: uniq_id audio text duration, a row a caption; the id is the
                                    file's name as it is
    <split>_texts.json              {uniq_id: [captions]}, not for development

Lines of validation end as on Windows.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from miniworld.captions import CaptionedFile, draw_captioned_clip, make_caption_table, make_caption_texts
from miniworld.clips import Heard
from miniworld.orders import Order, make_order
from miniworld.samples import encode_sound
from miniworld.tables import Files, format_csv
from miniworld.tree import write_tree

SPLITS: Final = ("development", "validation", "evaluation")
LINE_ENDS: Final = {"validation": "\r\n"}
NUM_CAPTIONS: Final = 5
COLUMNS: Final = ("file_name", *(f"caption_{number}" for number in range(1, NUM_CAPTIONS + 1)))
FILE_NAMES: Final = (
    "{first} and {second} {number}.wav",
    "{first}  {second}#{number}.wav",
    "{first}, {second} ({number}).wav",
    " {number} {first} {second}.wav",
    "{first}-{second}_{number}.wav",
)


def write_clotho(
    root: Path,
    *,
    seed: int = 0,
    num_development: int = 240,
    num_validation: int = 40,
    num_evaluation: int = 120,
    scale: float = 1.0,
) -> Path:
    """Write `clotho` below `root`; the layout stands at the top of this module.

    Args:
        root: folder that receives the data set's own folder.
        seed: everything follows from it.
        num_development: clips to train on.
        num_validation: validation clips.
        num_evaluation: clips to judge by.
        scale: multiplies every count.

    Returns:
        The folder `clotho`; a complete one from the same arguments is kept as it is.

    Raises:
        ValueError: a number makes no sense, or other files stand where the folder belongs.
    """
    counts = {
        "num_development": num_development,
        "num_validation": num_validation,
        "num_evaluation": num_evaluation,
    }
    order = make_order("clotho", seed, counts=counts, scale=scale)
    return write_tree(root / "clotho", order.recipe, files=_make_files(order))


def _make_files(order: Order) -> Files:
    for split in SPLITS:
        files = []
        for index in range(order.counts[f"num_{split}"]):
            drawn = draw_captioned_clip(
                order.seed, f"clotho-{split}", index=index, num_captions=NUM_CAPTIONS, alone_share=0.0
            )
            name = _name_file(drawn.clip.heard, index)
            file = CaptionedFile(name, f"{split}/{name}", drawn.captions, drawn.clip.duration_s)
            yield file.audio, encode_sound(drawn.clip.samples, "WAV")
            files.append(file)
        rows = [(file.uniq_id, *file.captions) for file in files]
        yield f"clotho_captions_{split}.csv", format_csv(COLUMNS, rows, line_end=LINE_ENDS.get(split, "\n"))
        yield from make_caption_table(f"clotho_{split}_new.tsv", files)
        if split != "development":
            yield from make_caption_texts(f"{split}_texts.json", files)


def _name_file(heard: Sequence[Heard], index: int) -> str:
    """Name a file as people do who upload recordings, each in another way; the number keeps names apart."""
    first, second = (each.name.replace("_", " ") for each in heard)
    return FILE_NAMES[index % len(FILE_NAMES)].format(first=first, second=second, number=index + 1)
