"""Mixes of one to three sounds with all their classes, in the layout of FSD50K.

`FSD50K/`, from `write_fsd50k`:

    FSD50K.dev_audio/       <fname>.wav, splits train and val
    FSD50K.eval_audio/      <fname>.wav
    FSD50K.ground_truth/
        vocabulary.csv      no header: index,name,mid; the names ascend
        dev.csv             fname,labels,mids,split
        eval.csv            fname,labels,mids
    fsd50K_dev.tsv          the authors' tables: uniq_id audio text duration, text is class numbers joined by commas;
    fsd50K_val.tsv          dev holds the split train
    fsd50K_eval.tsv

A class implies its parents, as in AudioSet's ontology: a clip of a cow is one of livestock and of an animal too.
"""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from miniworld.clips import Clip, compose_clip, pick_names
from miniworld.orders import Order, make_order
from miniworld.samples import encode_sound, pair_seed
from miniworld.sound import SOUNDS
from miniworld.tables import SOUND_COLUMNS, Files, format_csv, format_duration, format_table
from miniworld.tree import write_tree

FOLDERS: Final = {"train": "dev", "val": "dev", "eval": "eval"}  # by split
TABLES: Final = {"train": "fsd50K_dev.tsv", "val": "fsd50K_val.tsv", "eval": "fsd50K_eval.tsv"}
FIRST_FNAME: Final = 64
SHARES: Final = (0.35, 0.4, 0.25)  # of clips of one, two and three sounds

PARENTS: Final[Mapping[str, tuple[str, ...]]] = {
    "Airplane": ("Engine", "Vehicle"),
    "Bird": ("Animal",),
    "Boat_horn": ("Alarm", "Vehicle"),
    "Car_engine": ("Engine", "Motor_vehicle_(road)"),
    "Chirping_birds": ("Bird",),
    "Clock_tick": ("Mechanisms",),
    "Cow": ("Livestock",),
    "Dog": ("Animal",),
    "Engine": ("Mechanisms",),
    "Flag_flapping": ("Wind",),
    "Flower_bees": ("Insect",),
    "House_door_knock": ("Human_sounds",),
    "Insect": ("Animal",),
    "Livestock": ("Animal",),
    "Motor_vehicle_(road)": ("Vehicle",),
    "Person_walking": ("Human_sounds",),
    "Rain": ("Water",),
    "Sea_waves": ("Water",),
    "Sheep": ("Livestock",),
    "Siren": ("Alarm",),
    "Tower_bell": ("Bell",),
    "Tree_leaves": ("Wind",),
}
VOCABULARY: Final = tuple(sorted({*PARENTS, *(parent for parents in PARENTS.values() for parent in parents)}))


@dataclass(frozen=True, eq=False)
class LabelledClip:
    """A clip with its number as a file name and all its labels, in no order."""

    fname: int
    clip: Clip
    labels: tuple[str, ...]


def write_fsd50k(
    root: Path, *, seed: int = 0, num_train: int = 480, num_val: int = 60, num_eval: int = 200, scale: float = 1.0
) -> Path:
    """Write `FSD50K` below `root`; the layout stands at the top of this module.

    Args:
        root: folder that receives the data set's own folder.
        seed: everything follows from it.
        num_train: clips of dev's split train.
        num_val: clips of dev's split val.
        num_eval: clips of eval.
        scale: multiplies every count, down to a clip for each sound.

    Returns:
        The folder `FSD50K`; a complete one from the same arguments is kept as it is.

    Raises:
        ValueError: a number makes no sense, or other files stand where the folder belongs.
    """
    counts = {"num_train": num_train, "num_val": num_val, "num_eval": num_eval}
    order = make_order("fsd50k", seed, counts=counts, scale=scale, at_least=len(SOUNDS))
    return write_tree(root / "FSD50K", order.recipe, files=_make_files(order))


def draw_labelled_clip(seed: int, split: str, *, index: int) -> LabelledClip:
    """Draw one clip; one of its sounds is the one whose turn it is, the others come by chance."""
    own_seed = pair_seed(seed, f"fsd50k-{split}", index=index)
    rng = np.random.default_rng([own_seed, 1])
    num_sounds = 1 + int(rng.choice(len(SHARES), p=SHARES))
    names = pick_names(rng, num_sounds, first=SOUNDS[index % len(SOUNDS)].name)
    labels = find_labels(names)
    shuffled = tuple(labels[place] for place in rng.permutation(len(labels)).tolist())
    fname = FIRST_FNAME + len(FOLDERS) * index + list(FOLDERS).index(split)
    return LabelledClip(fname, compose_clip(names, own_seed), shuffled)


def find_labels(names: Sequence[str]) -> tuple[str, ...]:
    """List the labels of sounds, with the parents of each and theirs, every one once."""
    labels = dict.fromkeys(name.capitalize() for name in names)
    waiting = list(labels)
    while waiting:
        parents = PARENTS.get(waiting.pop(), ())
        waiting += parents
        labels |= dict.fromkeys(parents)
    return tuple(labels)


def find_mid(label: str) -> str:
    """Invent the id of a label in the form of AudioSet's."""
    return f"/m/0{zlib.crc32(label.encode()):08x}"


@dataclass(frozen=True)
class _Row:
    fname: int
    labels: tuple[str, ...]
    split: str
    duration_s: float

    def cells(self) -> tuple[object, ...]:
        return (self.fname, ",".join(self.labels), ",".join(find_mid(label) for label in self.labels))


def _make_files(order: Order) -> Files:
    rows = []
    for split, folder in FOLDERS.items():
        for index in range(order.counts[f"num_{split}"]):
            drawn = draw_labelled_clip(order.seed, split, index=index)
            yield f"FSD50K.{folder}_audio/{drawn.fname}.wav", encode_sound(drawn.clip.samples, "WAV")
            rows.append(_Row(drawn.fname, drawn.labels, split, drawn.clip.duration_s))
    rows.sort(key=lambda row: row.fname)
    yield from _make_ground_truth(rows)
    for split, name in TABLES.items():
        yield name, format_table(SOUND_COLUMNS, [_list_row(row) for row in rows if row.split == split])


def _make_ground_truth(rows: Sequence[_Row]) -> Files:
    vocabulary = [(number, name, find_mid(name)) for number, name in enumerate(VOCABULARY)]
    yield "FSD50K.ground_truth/vocabulary.csv", format_csv((), vocabulary)
    dev = [(*row.cells(), row.split) for row in rows if FOLDERS[row.split] == "dev"]
    yield "FSD50K.ground_truth/dev.csv", format_csv(("fname", "labels", "mids", "split"), dev)
    held_out = [row.cells() for row in rows if row.split == "eval"]
    yield "FSD50K.ground_truth/eval.csv", format_csv(("fname", "labels", "mids"), held_out)


def _list_row(row: _Row) -> tuple[str, ...]:
    audio = f"FSD50K.{FOLDERS[row.split]}_audio/{row.fname}.wav"
    classes = ",".join(str(VOCABULARY.index(label)) for label in row.labels)
    return (str(row.fname), audio, classes, format_duration(row.duration_s))
