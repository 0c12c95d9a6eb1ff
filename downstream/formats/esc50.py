"""ESC-50: `audio/*.wav` with `meta/esc50.csv`, or the authors' `esc50.tsv` with `esc50_label.json`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from downstream.formats.authors import SOUND, find_media
from downstream.formats.base import Labelled, Listing, MissingDataError
from downstream.formats.places import DataSet, Source, find_source, make_listing, plain_name
from downstream.formats.tables import Place, Row, parse_whole, read_csv, read_json, read_table, show

NUM_CLASSES: Final = 50
LABELS_FILE: Final = "esc50_label.json"
DATA_SET: Final = DataSet(
    name="ESC-50",
    folders=("ESC-50-master", "ESC-50", "esc50"),
    lists={"all": ("meta/esc50.csv",)},
    tables={"all": ("esc50",)},
)

CATEGORIES: Final = (  # meta/esc50.csv, by target
    *("dog", "rooster", "pig", "cow", "frog", "cat", "hen", "insects", "sheep", "crow"),
    *("rain", "sea_waves", "crackling_fire", "crickets", "chirping_birds"),
    *("water_drops", "wind", "pouring_water", "toilet_flush", "thunderstorm"),
    *("crying_baby", "sneezing", "clapping", "breathing", "coughing"),
    *("footsteps", "laughing", "brushing_teeth", "snoring", "drinking_sipping"),
    *("door_wood_knock", "mouse_click", "keyboard_typing", "door_wood_creaks", "can_opening"),
    *("washing_machine", "vacuum_cleaner", "clock_alarm", "clock_tick", "glass_breaking"),
    *("helicopter", "chainsaw", "siren", "car_horn", "engine"),
    *("train", "church_bells", "airplane", "fireworks", "hand_saw"),
)


def read(root: Path, split: str) -> Listing[Labelled]:
    """Read the clips of all five folds, each with one class.

    The class names are the makers' categories with underscores, or the labels of the authors' file. A list that names
    but some of the published categories, each by its own number, has all of them as classes.

    Args:
        root: see `find_source`.
        split: `all`.

    Raises:
        MissingDataError: a list or a clip is missing.
        ValueError: faulty content; the message names the list and its line.
    """
    source = find_source(DATA_SET, root, split=split)
    return _read_original(source) if source.layout == "original" else _read_table(source)


def _read_original(source: Source) -> Listing[Labelled]:
    samples = []
    categories: dict[int, str] = {}
    for row in read_csv(source.path, ("filename", "target", "category")):
        target, category = row.whole("target", stop=NUM_CLASSES), row.text("category")
        if categories.setdefault(target, category) != category:
            raise row.place.error(f"target {target} is {show(category)}, above {show(categories[target])}")
        name = plain_name(row.text("filename"), row.place)
        media = source.tree / "audio" / name
        samples.append(Labelled(Path(name).stem, media, (target,), row.place.seen_from(source.tree)))
    return make_listing(samples, source, class_names=_name_classes(categories, source.path))


def _name_classes(categories: Mapping[int, str], path: Path) -> tuple[str, ...]:
    """Name every class; those that a shorter list does not name are known only where it is a part of the real one."""
    _check_distinct(categories, path)
    if all(CATEGORIES[target] == category for target, category in categories.items()):
        return CATEGORIES
    for target in range(len(categories)):
        if target not in categories:
            raise ValueError(f"{path} names {len(categories)} categories, none for target {target}; add its clips")
    return tuple(categories[target] for target in range(len(categories)))


def _check_distinct(names: Mapping[int, str], path: Path) -> None:
    numbers: dict[str, int] = {}
    for number, name in sorted(names.items()):
        if numbers.setdefault(name, number) != number:
            raise ValueError(f"{path}: classes {numbers[name]} and {number} are both {show(name)}; expected two names")


def _read_table(source: Source) -> Listing[Labelled]:
    """Read the authors' table.

    Their scoring compares `uniq_id` with the keys of the labels file, so there `uniq_id` is the class and stands once
    for every clip of it; then the clip's file name without extension is its id.

    Source: reference one_peace/tasks/audio_tasks/audio_text_retrieval.py and one_peace/metrics/recall.py.
    """
    labels = source.path.with_name(LABELS_FILE)
    names = read_labels(labels)
    rows = read_table(source.path, SOUND.names)
    are_classes = all(row.text(SOUND.id) in map(str, range(len(names))) for row in rows)
    samples = []
    for row in rows:
        media = find_media(row.text(SOUND.media), source.path)
        number = _take_class(row, names, is_class=are_classes)
        key = media.stem if are_classes else row.text(SOUND.id)
        samples.append(Labelled(key, media, (number,), row.place.seen_from(source.tree)))
    return make_listing(samples, source, vocabularies=[labels], class_names=names)


def _take_class(row: Row, names: Sequence[str], *, is_class: bool) -> int:
    """Take the class by its label or number; where the id is the class, a text that is one too has to agree."""
    text = row.text(SOUND.text)
    key = row.text(SOUND.id)
    if text in names or text.isdigit():
        number = names.index(text) if text in names else parse_whole(text, row.place, name="class", stop=len(names))
        if is_class and number != int(key):
            raise row.place.error(f"the id says class {key}, the text {show(text)} class {number}; expected one class")
        return number
    if not is_class:
        raise row.place.error(f"unknown label {show(text)}, expected one of the {len(names)} in {LABELS_FILE}")
    return int(key)


def read_labels(path: Path) -> tuple[str, ...]:
    """Read the labels by class number: a list, or an object of labels by number or of numbers by label.

    A label by number may also be a list of one, as the authors' scoring takes it.

    Raises:
        MissingDataError: no such file.
        ValueError: no labels, numbers that are not 0, 1, 2, ..., or a label twice.
    """
    try:
        content = read_json(path)
    except MissingDataError:
        raise MissingDataError(f"{path} is missing, which names the classes; unpack the authors' archive") from None
    pairs = enumerate(content) if isinstance(content, list) else content.items() if isinstance(content, dict) else ()
    names = dict(_take_label(*pair, Place(path, number, "entry")) for number, pair in enumerate(pairs, start=1))
    if not names or len(names) > NUM_CLASSES or set(names) != set(range(len(content))):
        raise ValueError(f"{path} holds {show(content)}, expected {NUM_CLASSES} labels, numbered from 0")
    _check_distinct(names, path)
    return tuple(names[number] for number in range(len(names)))


def _take_label(key: int | str, value: object, place: Place) -> tuple[int, str]:
    """Take one entry of the labels file in any of its forms."""
    if isinstance(value, int) and isinstance(key, str):
        key, value = value, key
    if isinstance(value, list) and len(value) == 1:
        (value,) = value
    if not isinstance(value, str) or not value.strip():
        raise place.error(f"{show(value)}, expected a label")
    return parse_whole(key, place, name="class", stop=NUM_CLASSES), value
