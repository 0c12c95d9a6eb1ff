"""Single sounds with a category each, in the layout of ESC-50.

`ESC-50-master/`, from `write_esc50`:

    audio/              <fold>-<src_file>-<take>-<target>.wav; every class goes round the five folds
    meta/esc50.csv      filename,fold,target,category,esc10,src_file,take
    esc50.tsv           the authors' table: uniq_id audio text duration, text is the category
    esc50_label.json    the categories by class number
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from miniworld.orders import Order, make_order
from miniworld.samples import encode_sound, make_sound_of
from miniworld.sound import SOUNDS
from miniworld.tables import SOUND_COLUMNS, Files, format_csv, format_duration, format_json, format_table
from miniworld.tree import write_tree

NUM_FOLDS: Final = 5
ESC50_COLUMNS: Final = ("filename", "fold", "target", "category", "esc10", "src_file", "take")
# Those of this world's classes that belong to ESC-10 (ESC-50, meta/esc50.csv).
ESC10_NAMES: Final = frozenset({"clock_tick", "dog", "rain", "sea_waves"})
FIRST_SOURCE: Final = 100_000  # ESC-50 names clips by the number of the recording they were cut from
TAKE: Final = "A"


@dataclass(frozen=True)
class ClipName:
    """What the name of a clip tells: its fold from 1, its recording, its class."""

    fold: int
    source: int
    target: int

    @property
    def stem(self) -> str:
        """The file's name without extension."""
        return f"{self.fold}-{self.source}-{TAKE}-{self.target}"


def name_clip(index: int) -> ClipName:
    """Name one of a row of clips whose classes take turns; a class's clips go round the folds."""
    turn, target = divmod(index, len(SOUNDS))
    return ClipName(1 + turn % NUM_FOLDS, FIRST_SOURCE + index, target)


def list_clip(clip: ClipName) -> tuple[str, int, int, str, bool, int, str]:
    """Give the row of `meta/esc50.csv` for a clip."""
    name = SOUNDS[clip.target].name
    return (f"{clip.stem}.wav", clip.fold, clip.target, name, name in ESC10_NAMES, clip.source, TAKE)


def write_esc50(root: Path, *, seed: int = 0, clips_per_class: int = 10, scale: float = 1.0) -> Path:
    """Write `ESC-50-master` below `root`; the layout stands at the top of this module.

    Args:
        root: folder that receives the data set's own folder.
        seed: everything follows from it.
        clips_per_class: a multiple of 5, the number of folds.
        scale: multiplies the count; folds stay whole.

    Returns:
        The folder `ESC-50-master`; a complete one from the same arguments is kept as it is.

    Raises:
        ValueError: a number makes no sense, or other files stand where the folder belongs.
    """
    order = make_order("esc50", seed, counts={"clips_per_class": clips_per_class}, scale=scale, step=NUM_FOLDS)
    return write_tree(root / "ESC-50-master", order.recipe, files=_make_files(order))


def _make_files(order: Order) -> Files:
    listing, rows = [], []
    for index in range(order.counts["clips_per_class"] * len(SOUNDS)):
        clip, sound = name_clip(index), make_sound_of(order.seed, "esc50", index=index)
        yield f"audio/{clip.stem}.wav", encode_sound(sound.samples, "WAV")
        listing.append(list_clip(clip))
        rows.append((clip.stem, f"audio/{clip.stem}.wav", sound.sound.name, format_duration(sound.duration_s)))
    yield "meta/esc50.csv", format_csv(ESC50_COLUMNS, sorted(listing))
    yield "esc50.tsv", format_table(SOUND_COLUMNS, sorted(rows))
    yield "esc50_label.json", format_json([sound.name for sound in SOUNDS])
