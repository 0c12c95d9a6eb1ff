"""What is said of a picture or a sound is true, and says what is in it."""

from collections import Counter

import numpy as np
import pytest

from miniworld.concepts import find_concept
from miniworld.pairs import draw_pair_scene
from miniworld.sayings import SAYINGS
from miniworld.scene import Scene, Thing, draw_scene
from miniworld.sentence import describe_scene, describe_sound, name_group, pick_main_things
from miniworld.sound import SOUNDS

SIDE_PX = 48


def _scene(*things: tuple[str, str, tuple[int, int, int, int]], ground: str = "grass") -> Scene:
    """Make a plain scene of 100 by 100 pixels with things that fill their boxes."""
    label = np.full((100, 100), find_concept(ground).ade20k_number, dtype=np.uint8)
    instances = np.zeros((100, 100), dtype=np.uint8)
    placed = []
    for instance, (colour, name, box) in enumerate(things, start=1):
        x0, y0, x1, y1 = box
        instances[y0:y1, x0:x1] = instance
        label[y0:y1, x0:x1] = find_concept(name).ade20k_number
        placed.append(Thing(name, colour, box, instance))
    return Scene(np.zeros((100, 100, 3), dtype=np.uint8), label, instances, tuple(placed))


def _say(scene: Scene, num: int = 200) -> list[str]:
    return [describe_scene(scene, np.random.default_rng(seed)) for seed in range(num)]


HOUSE_AND_TREE = _scene(("red", "house", (5, 30, 40, 70)), ("green", "tree", (60, 30, 90, 72)))
LEFT_FIRST = ("left of", "to the left of", "left side of")
RIGHT_FIRST = ("right of", "to the right of", "right side of")


def test_every_sentence_of_a_simple_picture_names_all_things_with_their_colours() -> None:
    for seed in range(30):
        scene = draw_pair_scene(seed, width_px=SIDE_PX, height_px=SIDE_PX)
        text = describe_scene(scene, np.random.default_rng(seed))
        kinds = Counter((thing.name, thing.colour) for thing in scene.things)
        for (name, colour), count in kinds.items():
            assert name_group(name, colour, count=count) in text


def test_left_and_right_are_never_swapped() -> None:
    for text in _say(HOUSE_AND_TREE):
        is_house_first = text.index("house") < text.index("tree")
        assert is_house_first or not any(words in text for words in LEFT_FIRST), text
        assert not is_house_first or not any(words in text for words in RIGHT_FIRST), text


def test_many_different_sentences_are_said_of_one_picture() -> None:
    assert len(set(_say(HOUSE_AND_TREE))) > 40


def test_things_one_above_the_other_stand_in_no_order() -> None:
    scene = _scene(("red", "house", (30, 40, 60, 70)), ("grey", "sheep", (32, 72, 62, 95)))
    assert not any("left" in text or "right" in text for text in _say(scene))


def test_what_flies_is_above_or_in_the_sky() -> None:
    scene = _scene(("blue", "bird", (10, 5, 40, 20)), ("red", "house", (30, 50, 70, 90)))
    texts = _say(scene)
    assert all(any(word in text for word in ("above", "over", "below", "under", "in the sky")) for text in texts)
    for text in texts:
        is_bird_first = text.index("bird") < text.index("house")
        assert is_bird_first or not any(f" {word} " in text for word in ("above", "over")), text
        assert not is_bird_first or not any(f" {word} " in text for word in ("below", "under")), text


def test_what_is_nearer_is_in_front() -> None:
    scene = _scene(("red", "house", (5, 30, 40, 60)), ("black", "dog", (60, 70, 90, 95)))
    for text in _say(scene):
        assert "in front of a red house" in text or "in front of" not in text
        assert "behind a black dog" in text or "behind" not in text


def test_equal_things_are_counted() -> None:
    scene = _scene(("white", "sheep", (5, 60, 30, 80)), ("white", "sheep", (60, 60, 85, 80)))
    assert all("two white sheep" in text for text in _say(scene))


def test_the_ground_is_named_only_where_it_can_be_seen_and_fits() -> None:
    assert not any(" sea" in text or " road" in text for text in _say(HOUSE_AND_TREE))
    assert any("grass" in text for text in _say(HOUSE_AND_TREE))
    boat = _scene(("red", "boat", (30, 30, 60, 50)))
    assert not any("grass" in text or "field" in text or "meadow" in text for text in _say(boat))


def test_of_a_full_scene_the_three_largest_things_are_named() -> None:
    scene = draw_scene(4, width_px=96, height_px=72)
    assert len(scene.things) > 3
    areas = {thing.instance: int((scene.instances == thing.instance).sum()) for thing in scene.things}
    named = pick_main_things(scene)
    assert sorted(areas[thing.instance] for thing in named) == sorted(areas.values())[-3:]
    assert all(thing.name in describe_scene(scene, np.random.default_rng(0)) for thing in named)


def test_few_of_many_pictures_share_a_sentence() -> None:
    texts = [
        describe_scene(draw_pair_scene(seed, width_px=SIDE_PX, height_px=SIDE_PX), np.random.default_rng(seed))
        for seed in range(100)
    ]
    assert len(texts) - len(set(texts)) <= 2


def test_a_picture_without_things_is_refused() -> None:
    with pytest.raises(ValueError, match="no things"):
        describe_scene(_scene(), np.random.default_rng(0))


@pytest.mark.parametrize(
    ("name", "colour", "count", "expected"),
    [
        ("tree", "orange", 1, "an orange tree"),
        ("person", "red", 2, "two red people"),
        ("sheep", "grey", 3, "three grey sheep"),
        ("clock", "black", 1, "a black clock"),
    ],
)
def test_groups_are_named_as_people_would(name: str, colour: str, count: int, expected: str) -> None:
    assert name_group(name, colour, count=count) == expected


def test_numbers_without_a_word_are_refused() -> None:
    with pytest.raises(ValueError, match="no word for 11 things"):
        name_group("car", "red", count=11)
    with pytest.raises(ValueError, match="no word for 11 times"):
        [describe_sound("dog", np.random.default_rng(seed), num_events=11) for seed in range(20)]


def test_every_sound_has_its_words() -> None:
    assert set(SAYINGS) == {sound.name for sound in SOUNDS}


@pytest.mark.parametrize("sound", SOUNDS, ids=lambda sound: sound.name)
def test_sentences_of_a_sound_name_its_thing_in_3_to_15_words(sound) -> None:
    rng = np.random.default_rng(0)
    texts = [describe_sound(sound.name, rng, num_events=2) for _ in range(200)]
    assert all(3 <= len(text.split()) <= 15 for text in texts)
    assert len(set(texts)) > 30
    assert sound.concept is None or all(sound.concept in text.split() for text in texts)


def test_how_often_is_said_only_where_it_is_known_and_rightly() -> None:
    rng = np.random.default_rng(0)
    words = ("once", "twice", "times")
    unknown = [describe_sound("dog", rng) for _ in range(100)]
    assert not any(word in text for text in unknown for word in words)
    thrice = [describe_sound("dog", rng, num_events=3) for _ in range(100)]
    assert any("barks three times" in text for text in thrice)
    assert not any("once" in text or "twice" in text for text in thrice)


def test_an_unknown_sound_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown sound 'cat'"):
        describe_sound("cat", np.random.default_rng(0))
