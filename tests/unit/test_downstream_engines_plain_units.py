"""A unit is named by what is in it."""

from pathlib import Path

import pytest

from downstream.engines.plain.units import Unit, list_files, unit_key

HERE, THERE, OTHER = Path("a.wav"), Path("b/c.wav"), Path("d.wav")
DIGESTS = {HERE: "1" * 64, THERE: "1" * 64, OTHER: "2" * 64}


def test_a_key_depends_on_content_and_not_on_the_place_of_a_file() -> None:
    assert unit_key(Unit.of(audio=HERE), DIGESTS) == unit_key(Unit.of(audio=THERE), DIGESTS)
    assert unit_key(Unit.of(audio=HERE), DIGESTS) != unit_key(Unit.of(audio=OTHER), DIGESTS)


@pytest.mark.parametrize(
    "other",
    [
        Unit.of(image=HERE),
        Unit.of(text="words", audio=HERE),
        Unit.of(text="1" * 64),
        Unit.of(audio="1" * 64),
        Unit(((("audio", HERE),), (("audio", HERE),))),
    ],
    ids=["modality", "with a text", "text that spells the digest", "text of that modality", "twice"],
)
def test_no_two_different_units_share_a_key(other: Unit) -> None:
    assert unit_key(other, DIGESTS) != unit_key(Unit.of(audio=HERE), DIGESTS)


def test_texts_that_differ_by_a_blank_or_are_cut_elsewhere_differ() -> None:
    texts = [Unit.of(text="a dog"), Unit.of(text="a dog "), Unit.of(text='a", "dog')]
    pairs = [Unit.of(text="a", other="b c"), Unit.of(text="a b", other="c")]
    assert len({unit_key(unit, {}) for unit in (*texts, *pairs)}) == 5


def test_the_signature_lists_the_modalities_of_each_pass() -> None:
    unit = Unit(((("text", "x"), ("image", HERE)), (("text", "x"), ("image", OTHER))))
    assert unit.signature == (("text", "image"), ("text", "image"))
    assert Unit.of(audio=HERE).signature == (("audio",),)


def test_files_are_listed_once_and_in_order() -> None:
    units = [Unit.of(audio=OTHER, text="x"), Unit.of(audio=HERE), Unit.of(audio=OTHER)]
    assert list_files(units) == (OTHER, HERE)
