"""Claims about two pictures are checked against what they show, recomputed here from their words."""

import itertools
import re

import pytest

from miniworld.comparing import Claim, list_claims
from miniworld.concepts import find_concept
from miniworld.scene import Thing

WIDTH_PX = 100
DOG = find_concept("dog")


def _thing(name: str, colour: str, middle: int, *, instance: int = 1) -> Thing:
    return Thing(name, colour, (middle - 10, 20, middle + 10, 60), instance)


BROWN, WHITE = _thing("dog", "brown", 20), _thing("dog", "white", 80, instance=2)
TREE = _thing("tree", "green", 50, instance=3)
PICTURES: tuple[tuple[Thing, ...], ...] = ((BROWN,), (WHITE, BROWN), (TREE,), (TREE, BROWN), (WHITE, TREE))


def _is_true(text: str, left: tuple[Thing, ...], right: tuple[Thing, ...]) -> bool:
    """Read a claim by its words, as somebody would who knows nothing of how it was made."""
    text = re.sub(r"\ban? ", "", text)
    of = {"left": left, "right": right}
    if found := re.fullmatch(
        r"(?:the (left|right) picture shows|there is) (\w+ )?dog(?: in the (left|right) picture)?", text
    ):
        things = of[found[1] or found[3]]
        return any(thing.name == "dog" and found[2] in (None, f"{thing.colour} ") for thing in things)
    if found := re.fullmatch(
        r"there are more (\w+) in the (left|right) picture than in the (left|right) picture", text
    ):
        assert found[2] != found[3]
        first, second = (
            [thing for thing in of[found[place]] if found[1] in ("things", f"{thing.name}s")] for place in (2, 3)
        )
        return len(first) > len(second)
    if found := re.fullmatch(r"in the (left|right) picture dog is left of tree", text):
        dogs, trees = ([thing for thing in of[found[1]] if thing.name == name] for name in ("dog", "tree"))
        return any(dog.box_px[0] < tree.box_px[0] for dog in dogs for tree in trees)
    num_dogs = {side: sum(thing.name == "dog" for thing in things) for side, things in of.items()}
    num_with = sum(count > 0 for count in num_dogs.values())
    colours = {thing.colour for thing in (*left, *right) if thing.name == "dog"}
    simple = {
        "there is dog in both pictures": num_with == 2,
        "both pictures show dog": num_with == 2,
        "only one of the pictures shows dog": num_with == 1,
        "at least one of the pictures shows dog": num_with > 0,
        "there are no dogs in the pictures": num_with == 0,
        "there are no dogs in the left picture": num_dogs["left"] == 0,
        "there are no dogs in the right picture": num_dogs["right"] == 0,
        "there are exactly two dogs in the two pictures": sum(num_dogs.values()) == 2,
        "there are exactly three dogs in the two pictures": sum(num_dogs.values()) == 3,
        **{f"at least one of the pictures shows {colour} dog": colour in colours for colour in DOG.colours},
    }
    return simple[text]


@pytest.fixture(scope="module")
def claims() -> tuple[Claim, ...]:
    return list_claims(DOG, ["tree"], width_px=WIDTH_PX)


def test_every_check_says_what_the_words_say(claims: tuple[Claim, ...]) -> None:
    for claim, left, right in itertools.product(claims, PICTURES, PICTURES):
        assert claim.check(left, right) == _is_true(claim.text, left, right), (claim.text, left, right)


def test_every_claim_is_true_of_some_pictures_and_false_of_others(claims: tuple[Claim, ...]) -> None:
    for claim in claims:
        found = {claim.check(left, right) for left, right in itertools.product(PICTURES, PICTURES)}
        assert found == {True, False} or "black" in claim.text


def test_an_order_in_doubt_is_no_claim(claims: tuple[Claim, ...]) -> None:
    (order,) = (claim for claim in claims if claim.text == "in the left picture a dog is left of a tree")
    assert order.check((_thing("dog", "brown", 47), TREE), ()) is None


def test_no_two_claims_say_the_same(claims: tuple[Claim, ...]) -> None:
    texts = [claim.text for claim in claims if claim.kind != "more things"]
    assert len(set(texts)) == len(texts)
    assert len({claim.kind for claim in claims}) == 9
