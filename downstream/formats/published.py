"""How a listing differs in its counts from what is published."""

from typing import Any

from downstream.formats.base import Captioned, Listing

Listed = Listing[Any]


def list_differences(
    listing: Listed,
    *,
    num_samples: int,
    num_captions: int | None = None,
    num_classes: int | None = None,
    captions_per_item: int | None = None,
) -> tuple[str, ...]:
    """Say in a sentence each what differs from the published counts; nothing where all are equal.

    Args:
        listing: of one split.
        num_samples: published samples of the split.
        num_captions: published captions of the split; counted over the samples that are there.
        num_classes: published classes; not compared where the list names no classes.
        captions_per_item: published captions of every sample.
    """
    found = []
    if listing.num_listed != num_samples:
        found.append(f"{listing.num_listed} samples are listed, {num_samples} are published")
    if listing.absent:
        found.append(f"{len(listing.samples)} of {listing.num_listed} clips are there")
    found += _compare_captions(listing, num_captions, per_item=captions_per_item)
    if num_classes is not None and listing.class_names and len(listing.class_names) != num_classes:
        found.append(f"{len(listing.class_names)} classes are named, {num_classes} are published")
    return tuple(found)


def _compare_captions(listing: Listed, num_captions: int | None, *, per_item: int | None) -> list[str]:
    found = []
    counts = {sample.id: len(sample.captions) for sample in listing.samples if isinstance(sample, Captioned)}
    total = sum(counts.values())
    if num_captions is not None and total != num_captions:
        found.append(f"{total} captions are there, {num_captions} are published")
    others = [key for key, count in counts.items() if count != per_item]
    if per_item is not None and others:
        found.append(
            f"{len(others)} of {len(counts)} samples have another number of captions than {per_item}, the first "
            f"{others[0]!r} has {counts[others[0]]}"
        )
    return found
