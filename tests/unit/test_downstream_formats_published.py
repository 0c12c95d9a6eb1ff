"""What differs from the published counts is said in a sentence each."""

from pathlib import Path

from downstream.formats.base import Captioned, Labelled, Listing
from downstream.formats.published import list_differences

SOURCES = (Path("list.csv"),)


def captioned(*counts: int, absent: int = 0) -> Listing[Captioned]:
    samples = tuple(Captioned(f"id {number}", Path("a"), ("x",) * count) for number, count in enumerate(counts))
    return Listing(samples, tuple(f"gone {number}" for number in range(absent)), "original", SOURCES)


def test_equal_counts_are_not_worth_a_word() -> None:
    assert list_differences(captioned(5, 5, 5), num_samples=3, num_captions=15, captions_per_item=5) == ()


def test_samples_are_counted_as_listed_and_as_they_are_there() -> None:
    assert list_differences(captioned(5, 5, absent=2), num_samples=975) == (
        "4 samples are listed, 975 are published",
        "2 of 4 clips are there",
    )
    assert list_differences(captioned(5, absent=1), num_samples=2) == ("1 of 2 clips are there",)


def test_captions_are_counted_in_all_and_by_sample() -> None:
    assert list_differences(captioned(5, 6, 4), num_samples=3, num_captions=14, captions_per_item=5) == (
        "15 captions are there, 14 are published",
        "2 of 3 samples have another number of captions than 5, the first 'id 1' has 6",
    )


def test_classes_are_compared_where_they_are_named() -> None:
    samples = (Labelled("a", Path("a"), (0,)),)
    named = Listing(samples, (), "original", SOURCES, ("dog", "cat"))
    assert list_differences(named, num_samples=1, num_classes=50) == ("2 classes are named, 50 are published",)
    assert list_differences(named, num_samples=1, num_classes=2) == ()
    assert list_differences(Listing(samples, (), "authors' table", SOURCES), num_samples=1, num_classes=2) == ()
