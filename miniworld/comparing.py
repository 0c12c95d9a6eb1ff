"""Claims about two pictures that are true or false, beyond doubt, by what the pictures show."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from miniworld.concepts import Concept
from miniworld.places import SIDES, Side, find_beside
from miniworld.scene import Thing
from miniworld.sentence import NUMBER_WORDS, PLURALS, name_group

Things: TypeAlias = Sequence[Thing]
Check: TypeAlias = Callable[[Things, Things], bool | None]  # of the left and the right picture

OTHER: Final[dict[Side, Side]] = {"left": "right", "right": "left"}


@dataclass(frozen=True)
class Claim:
    """A sentence about two pictures.

    Attributes:
        kind: what sort of claim it is.
        text: small letters, without full stop.
        check: says by the things in the left and the right picture whether it is true; None where that is in doubt.
    """

    kind: str
    text: str
    check: Check


def list_claims(theme: Concept, others: Sequence[str], *, width_px: int) -> tuple[Claim, ...]:
    """List what could be claimed about two pictures in which a theme may occur.

    Args:
        theme: what most claims are about.
        others: names of other things that may stand beside it.
        width_px: of a picture.
    """
    claims = [*_claim_both(theme), *_claim_numbers(theme)]
    for side in SIDES:
        claims += [*_claim_one(theme, side), *_claim_more(theme, side)]
        claims += [_claim_order(theme.name, side, other=other, width_px=width_px) for other in others]
    return tuple(claims)


def _claim_one(theme: Concept, side: Side) -> list[Claim]:
    """Claim what one picture shows."""
    name, plural = theme.name, _name_many(theme.name)
    texts = (f"the {side} picture shows {_name_one(name)}", f"there is {_name_one(name)} in the {side} picture")
    shown = [Claim("shown", text, lambda left, right: _count(_on(side, left, right), name) > 0) for text in texts]
    missing = Claim(
        "missing",
        f"there are no {plural} in the {side} picture",
        lambda left, right: _count(_on(side, left, right), name) == 0,
    )
    return [*shown, missing, *(_claim_colour(name, colour, side=side) for colour in theme.colours)]


def _claim_colour(name: str, colour: str, *, side: Side) -> Claim:
    return Claim(
        "colour",
        f"the {side} picture shows {name_group(name, colour)}",
        lambda left, right: _count(_on(side, left, right), name, colour) > 0,
    )


def _claim_both(theme: Concept) -> list[Claim]:
    """Claim of how many of the two pictures something is true."""
    name, one, plural = theme.name, _name_one(theme.name), _name_many(theme.name)
    texts = {
        f"there is {one} in both pictures": (2,),
        f"both pictures show {one}": (2,),
        f"only one of the pictures shows {one}": (1,),
        f"at least one of the pictures shows {one}": (1, 2),
        f"there are no {plural} in the pictures": (0,),
    }
    claims = [Claim("both", text, _check_pictures(name, None, wanted=wanted)) for text, wanted in texts.items()]
    for colour in theme.colours:
        text = f"at least one of the pictures shows {name_group(name, colour)}"
        claims.append(Claim("both colour", text, _check_pictures(name, colour, wanted=(1, 2))))
    return claims


def _check_pictures(name: str, colour: str | None, *, wanted: tuple[int, ...]) -> Check:
    return lambda left, right: sum(_count(things, name, colour) > 0 for things in (left, right)) in wanted


def _claim_numbers(theme: Concept) -> list[Claim]:
    """Claim how many there are in both pictures together."""
    return [
        Claim(
            "number",
            f"there are exactly {NUMBER_WORDS[number]} {_name_many(theme.name)} in the two pictures",
            _check_number(theme.name, number),
        )
        for number in (2, 3)
    ]


def _check_number(name: str, number: int) -> Check:
    return lambda left, right: _count(left, name) + _count(right, name) == number


def _claim_more(theme: Concept, side: Side) -> list[Claim]:
    """Claim that one picture shows more than the other one."""
    name, other = theme.name, OTHER[side]
    return [
        Claim(
            "more",
            f"there are more {_name_many(name)} in the {side} picture than in the {other} picture",
            lambda left, right: _count(_on(side, left, right), name) > _count(_on(other, left, right), name),
        ),
        Claim(
            "more things",
            f"there are more things in the {side} picture than in the {other} picture",
            lambda left, right: len(_on(side, left, right)) > len(_on(other, left, right)),
        ),
    ]


def _claim_order(name: str, side: Side, *, other: str, width_px: int) -> Claim:
    """Claim that in one picture the theme stands left of something else."""
    text = f"in the {side} picture {_name_one(name)} is left of {_name_one(other)}"

    def check(left: Things, right: Things) -> bool | None:
        things = _on(side, left, right)
        walkers = [thing for thing in things if thing.name == name]
        found = [
            find_beside(anchor, "left", among=walkers, width_px=width_px) for anchor in things if anchor.name == other
        ]
        return True if any(found) else None if None in found else False

    return Claim("order", text, check)


def _on(side: Side, left: Things, right: Things) -> Things:
    return left if side == "left" else right


def _count(things: Things, name: str, colour: str | None = None) -> int:
    return sum(thing.name == name and colour in (None, thing.colour) for thing in things)


def _name_one(name: str) -> str:
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def _name_many(name: str) -> str:
    return PLURALS.get(name, f"{name}s")
