"""Single sounds with a label each, in the layout of VGGSound.

`vggsound/`, from `write_vggsound`:

    audio/                      <id>_<start second, 6 digits>.flac
    vggsound.csv                no header: id,start second,label,split
    stat.csv                    no header: label,clips,group; a label's row is its class number
    test.csv                    no header: <id>_<start second, 6 digits>.mp4,label
    vggsound_train_new.tsv      the authors' tables: uniq_id audio text duration, text is the class number
    vggsound_test_new.tsv

As in the real set some ids begin with a dash, some labels hold commas, and lines end in two ways.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from miniworld.clips import Video, name_video
from miniworld.orders import Order, make_order
from miniworld.samples import encode_sound, make_sound_of, pair_seed
from miniworld.tables import SOUND_COLUMNS, Files, format_csv, format_duration, format_table
from miniworld.tree import write_tree

SPLITS: Final = ("train", "test")

# By sound: its label and the label's group. No two are the same up to the first comma.
LABELS: Final[Mapping[str, tuple[str, str]]] = {
    "airplane": ("airplane flying over", "vehicle"),
    "boat_horn": ("boat horn blowing", "vehicle"),
    "car_engine": ("car engine running, humming, revving", "vehicle"),
    "chirping_birds": ("bird chirping, singing", "animals"),
    "tower_bell": ("church bell ringing", "others"),
    "clock_tick": ("clock ticking", "home"),
    "cow": ("cow mooing", "animals"),
    "dog": ("dog barking", "animals"),
    "house_door_knock": ("hand knocking on door, tapping", "home"),
    "flag_flapping": ("flag flapping in the wind", "others"),
    "person_walking": ("person walking, passing", "people"),
    "flower_bees": ("bee, insect, etc. buzzing", "animals"),
    "rain": ("rain falling", "nature"),
    "tree_leaves": ("tree rustling", "nature"),
    "sea_waves": ("sea waves splashing", "nature"),
    "sheep": ("sheep bleating", "animals"),
    "siren": ("siren wailing, screaming", "vehicle"),
}
CLASSES: Final = tuple(LABELS)


def write_vggsound(root: Path, *, seed: int = 0, num_train: int = 600, num_test: int = 170, scale: float = 1.0) -> Path:
    """Write `vggsound` below `root`; the layout stands at the top of this module.

    Args:
        root: folder that receives the data set's own folder.
        seed: everything follows from it.
        num_train: training clips; the classes take turns.
        num_test: test clips.
        scale: multiplies every count, down to a clip for each class.

    Returns:
        The folder `vggsound`; a complete one from the same arguments is kept as it is.

    Raises:
        ValueError: a number makes no sense, or other files stand where the folder belongs.
    """
    counts = {"num_train": num_train, "num_test": num_test}
    order = make_order("vggsound", seed, counts=counts, scale=scale, at_least=len(CLASSES))
    return write_tree(root / "vggsound", order.recipe, files=_make_files(order))


@dataclass(frozen=True)
class _Row:
    video: Video
    sound: str
    split: str
    duration_s: float

    @property
    def label(self) -> str:
        return LABELS[self.sound][0]


def _make_files(order: Order) -> Files:
    rows = []
    for split in SPLITS:
        for index in range(order.counts[f"num_{split}"]):
            stream = f"vggsound-{split}"
            sound = make_sound_of(order.seed, stream, index=index)
            video = name_video(np.random.default_rng([pair_seed(order.seed, stream, index=index), 2]))
            yield f"audio/{video.stem}.flac", encode_sound(sound.samples, "FLAC")
            rows.append(_Row(video, sound.sound.name, split, sound.duration_s))
    rows.sort(key=lambda row: row.video.stem)
    yield from _make_lists(rows)
    for split in SPLITS:
        table = [_list_row(row) for row in rows if row.split == split]
        yield f"vggsound_{split}_new.tsv", format_table(SOUND_COLUMNS, table)


def _make_lists(rows: Sequence[_Row]) -> Files:
    listing = [(row.video.id, row.video.start_s, row.label, row.split) for row in rows]
    yield "vggsound.csv", format_csv((), listing)
    sounds = [row.sound for row in rows]
    stat = [(LABELS[name][0], sounds.count(name), LABELS[name][1]) for name in CLASSES]
    yield "stat.csv", format_csv((), stat, line_end="\r\n")
    test = [(f"{row.video.stem}.mp4", row.label) for row in rows if row.split == "test"]
    yield "test.csv", format_csv((), test, line_end="\r\n")


def _list_row(row: _Row) -> tuple[str, ...]:
    number = str(CLASSES.index(row.sound))
    return (row.video.stem, f"audio/{row.video.stem}.flac", number, format_duration(row.duration_s))
