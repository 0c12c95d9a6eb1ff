"""The table of things agrees with the classes of SceneParse150 and with itself."""

import pytest

from miniworld.colours import COLOURS
from miniworld.concepts import CONCEPTS, STUFF, THINGS, find_concept, read_ade20k_names

# objectInfo150.txt of ADEChallengeData2016 (CSAILVision/sceneparsing), first synonym of each name.
ADE20K_CLASS_OF = {
    "sky": (3, "sky"),
    "tree": (5, "tree"),
    "road": (7, "road"),
    "grass": (10, "grass"),
    "person": (13, "person"),
    "mountain": (17, "mountain"),
    "car": (21, "car"),
    "house": (26, "house"),
    "sea": (27, "sea"),
    "sand": (47, "sand"),
    "flower": (67, "flower"),
    "boat": (77, "boat"),
    "tower": (85, "tower"),
    "streetlight": (88, "streetlight"),
    "airplane": (91, "airplane"),
    "sheep": (127, "animal"),
    "cow": (127, "animal"),
    "dog": (127, "animal"),
    "bird": (127, "animal"),
    "clock": (149, "clock"),
    "flag": (150, "flag"),
}


def test_every_concept_has_its_real_class_number() -> None:
    names = read_ade20k_names()
    found = {concept.name: (concept.ade20k_number, names[concept.ade20k_number - 1]) for concept in CONCEPTS}
    assert found == ADE20K_CLASS_OF


def test_there_are_150_different_class_names() -> None:
    names = read_ade20k_names()
    assert len(names) == len({name.strip() for name in names}) == 150
    assert (names[0], names[1], names[149]) == ("wall", "building", "flag")


def test_things_have_colour_words_and_ground_has_none() -> None:
    assert all(concept.colours and set(concept.colours) <= set(COLOURS) for concept in THINGS)
    assert not any(concept.colours or concept.form for concept in STUFF)


def test_counts_are_shares_of_all_pictures() -> None:
    for concept in THINGS:
        assert concept.form is not None
        assert sum(concept.form.counts) == pytest.approx(1.0), concept.name


def test_an_unknown_concept_is_named_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"unknown concept 'hous'.*house"):
        find_concept("hous")
