"""A run's worst and best samples with what there is to see of them."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from reports.page.data import Picture, Sample, Samples, Swatch
from reports.page.media_files import SOUNDS, MediaFiles
from reports.page.pictures import (
    REST,
    UNREADABLE,
    Labels,
    choose_colours,
    encode_labels,
    encode_picture,
    encode_sheet,
    encode_sound,
    read_classes,
)
from reports.page.run_files import RunFiles
from reports.page.sample_forms import Needed, Told
from reports.page.samples import pick_samples
from reports.record import Record

PREDICTIONS: Final = "predictions"
"""What a record calls its rows; where it names none, nothing was judged sample by sample."""
LABELS: Final = "labels"
SHEETS: Final = ("pictures", "boxes")


@dataclass(frozen=True)
class _Place:
    """Where a run's things are looked for."""

    record: Record
    files: RunFiles
    media: MediaFiles

    @property
    def class_names(self) -> list[str]:
        """By number, from 0."""
        return [name.strip() for name in self.record.per_class]


Masks = dict[Literal["truth", "prediction"], Labels]


def show_samples(record: Record, files: RunFiles, media: MediaFiles) -> Samples:
    """Pick the worst and the best samples of a run, and show what can be found of each."""
    name, place = record.artifacts.get(PREDICTIONS), _Place(record, files, media)
    path = None if name is None else files.find(record, name)
    if path is None:
        why = "this run judges no single samples" if name is None else f"{name} of this run was not found"
        return Samples(rule="", num_rows=0, note=f"No sample: {why}.")
    found = pick_samples(path, place.class_names)
    masks = {
        needed.name: _read_masks(needed, place)
        for told in (*found.worst, *found.best)
        for needed in told.needed
        if needed.masks
    }
    colours = choose_colours(labels for each in masks.values() for labels in each.values())
    worst, best = (
        tuple(_show(told, place, masks=masks, colours=colours) for told in group) for group in (found.worst, found.best)
    )
    has_pictures = any(sample.pictures for sample in (*worst, *best))
    return Samples(
        rule=found.rule,
        num_rows=found.num_rows,
        worst=worst,
        best=best,
        legend=tuple(_explain(colours, place.class_names)) if has_pictures else (),
        sheet=None if has_pictures else _show_sheet(place),
        note=None if found.note is None else f"No sample: {found.note}.",
    )


def _show(told: Told, place: _Place, *, masks: Mapping[str, Masks], colours: Mapping[int, str]) -> Sample:
    pictures: list[Picture] = []
    missing: list[str] = []
    for needed in told.needed:
        found = place.media.find(needed.name, place.record)
        try:
            if isinstance(found, str):
                missing.append(f"{needed.name}: {found}")
            elif found.suffix.lower() in SOUNDS:
                pictures.append(_show_sound(found, needed))
            else:
                pictures.append(_show_picture(found, needed))
                pictures += _show_masks(masks.get(needed.name, {}), colours, place.class_names)
        except UNREADABLE as error:
            missing.append(f"{needed.name}: cannot be read ({type(error).__name__})")
    return Sample(
        id=told.id,
        is_right=told.is_right,
        said=told.said,
        scores=told.scores,
        pictures=tuple(pictures),
        note=f"Not shown: {'; '.join(missing)}." if missing else None,
    )


def _show_picture(path: Path, needed: Needed) -> Picture:
    source, width, height = encode_picture(path)
    boxed = " with the true and the found box" if needed.boxes else ""
    return Picture(
        role="picture",
        caption=needed.caption,
        alt=f"picture {path.name}{boxed}",
        source=source,
        width_px=width,
        height_px=height,
        boxes=needed.boxes,
    )


def _show_sound(path: Path, needed: Needed) -> Picture:
    (source, width, height), duration_s, highest_hz = encode_sound(path)
    return Picture(
        role="spectrogram",
        caption=needed.caption,
        alt=f"spectrogram of {path.name}, time to the right, 40 to {highest_hz:.0f} Hz upwards on the mel scale",
        source=source,
        width_px=width,
        height_px=height,
        duration_s=duration_s,
    )


def _read_masks(needed: Needed, place: _Place) -> Masks:
    """Read the classes of every pixel of a picture, as they are and as they were found."""
    masks: Masks = {}
    truth, prediction = place.media.find_label(needed.name, place.record), _find_prediction(needed.name, place)
    if isinstance(truth, Path):
        with contextlib.suppress(*UNREADABLE):
            masks["truth"] = read_classes(truth, needed.masks["truth"])
    if prediction is not None:
        judged = masks["truth"] > 0 if "truth" in masks else None  # a benchmark counts no pixel without a class
        with contextlib.suppress(*UNREADABLE):
            masks["prediction"] = read_classes(prediction, needed.masks["prediction"], judged=judged)
    return masks


def _find_prediction(name: str, place: _Place) -> Path | None:
    """Find the label file that the run wrote for a sample."""
    artifact = place.record.artifacts.get(LABELS)
    return None if artifact is None else place.files.find(place.record, f"{artifact}/{name}.png")


def _show_masks(masks: Masks, colours: Mapping[int, str], names: Sequence[str]) -> Iterator[Picture]:
    for role, labels in masks.items():
        source, width, height = encode_labels(labels, colours)
        largest = ", ".join(_name(number, names) for number in list(choose_colours([labels]))[:3])
        yield Picture(
            role=role,
            caption=role,
            alt=f"{role} by class; most of it is {largest}",
            source=source,
            width_px=width,
            height_px=height,
        )


def _explain(colours: Mapping[int, str], names: Sequence[str]) -> Iterator[Swatch]:
    for number, colour in colours.items():
        yield Swatch(colour=colour, name=_name(number, names))
    if colours:
        yield Swatch(colour=REST, name="all others")


def _name(number: int, names: Sequence[str]) -> str:
    return names[number - 1] if number <= len(names) else f"class {number}"


def _show_sheet(place: _Place) -> Picture | None:
    """Show the sheet that the run drew itself, where its samples cannot be shown one by one."""
    names = [place.record.artifacts[sheet] for sheet in SHEETS if sheet in place.record.artifacts]
    path = next((found for name in names if (found := place.files.find(place.record, name)) is not None), None)
    if path is None:
        return None
    try:
        source, width, height = encode_sheet(path)
    except UNREADABLE:
        return None
    words = "the run's own sheet of its best and its worst samples, with truth and prediction"
    return Picture(role="sheet", caption=words, alt=words, source=source, width_px=width, height_px=height)
