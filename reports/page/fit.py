"""Keeps the page below its size: pictures are left out from the back, and it is told."""

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from reports.page.data import Page, Picture, Run, Sample, Samples

MAX_BYTES: Final = 2_000_000
MARGIN_BYTES: Final = 10_000  # for what is told of pictures that were left out


class Place(NamedTuple):
    """Where a picture is; in their order, pictures are more and more dispensable: first samples go last."""

    number: int
    """Of the sample in its group."""
    group: str
    run: int
    picture: int


def fit(page: Page, render: Callable[[Page], str], *, max_bytes: int = MAX_BYTES) -> Page:
    """Leave out as many pictures as it takes to keep the page below a size.

    Args:
        page: with all pictures.
        render: to HTML.
        max_bytes: of the HTML.

    Raises:
        ValueError: too large without any picture.
    """
    bare = _keep(page, set())
    size = len(render(bare).encode())
    if size + MARGIN_BYTES > max_bytes:
        raise ValueError(
            f"the page takes {size:,} bytes without any picture, expected at most {max_bytes:,}. "
            "Name fewer records with --records DIR."
        )
    left, kept, num_pictures = max_bytes - MARGIN_BYTES - size, set(), 0
    for place, picture in sorted(_list_pictures(page), key=lambda item: item[0]):
        needed = len(picture.source or "")
        num_pictures += 1
        if needed <= left:
            kept.add(place)
            left -= needed
    if len(kept) == num_pictures:
        return page
    note = (
        f"{num_pictures - len(kept)} of {num_pictures} pictures were left out to keep the page below "
        f"{max_bytes / 1e6:g} MB."
    )
    return _keep(page, kept).model_copy(update={"notes": (*page.notes, note)})


def _list_pictures(page: Page) -> Iterator[tuple[Place, Picture]]:
    for number, run in enumerate(page.runs):
        if run.samples.sheet is not None:
            yield Place(0, "sheet", number, 0), run.samples.sheet
        for group, samples in (("worst", run.samples.worst), ("best", run.samples.best)):
            for i, sample in enumerate(samples):
                yield from ((Place(i, group, number, j), picture) for j, picture in enumerate(sample.pictures))


def _keep(page: Page, kept: set[Place]) -> Page:
    runs = tuple(_keep_of_run(run, number, kept) for number, run in enumerate(page.runs))
    return page.model_copy(update={"runs": runs})


def _keep_of_run(run: Run, number: int, kept: set[Place]) -> Run:
    def prune(picture: Picture, place: Place) -> Picture:
        return picture if place in kept else picture.model_copy(update={"source": None})

    def prune_all(samples: tuple[Sample, ...], group: str) -> tuple[Sample, ...]:
        return tuple(
            sample.model_copy(
                update={
                    "pictures": tuple(
                        prune(picture, Place(i, group, number, j)) for j, picture in enumerate(sample.pictures)
                    )
                }
            )
            for i, sample in enumerate(samples)
        )

    samples: Samples = run.samples
    changed = {
        "worst": prune_all(samples.worst, "worst"),
        "best": prune_all(samples.best, "best"),
        "sheet": None if samples.sheet is None else prune(samples.sheet, Place(0, "sheet", number, 0)),
    }
    return run.model_copy(update={"samples": samples.model_copy(update=changed)})
