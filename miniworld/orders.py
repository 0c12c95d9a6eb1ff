"""How much of a benchmark is to be made, checked before anything is written."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from miniworld.scene import check_seed

BENCHMARKS_VERSION: Final = 1  # goes up with every change that moves a byte of the benchmarks' layouts


@dataclass(frozen=True)
class Order:
    """A layout, the seed that all follows from, and how many there are to be of everything.

    Attributes:
        layout: its name.
        seed: 0 or more.
        counts: by parameter, already scaled.
    """

    layout: str
    seed: int
    counts: Mapping[str, int]

    @property
    def recipe(self) -> dict[str, str | int]:
        """What the files follow from, as `write_tree` keeps it."""
        return {
            "generator": "miniworld",
            "version": BENCHMARKS_VERSION,
            "layout": self.layout,
            "seed": self.seed,
            **self.counts,
        }


def make_order(
    layout: str, seed: int, *, counts: Mapping[str, int], scale: float = 1.0, at_least: int = 1, step: int = 1
) -> Order:
    """Scale counts and check them.

    Args:
        layout: its name.
        seed: 0 or more.
        counts: by parameter, what would be made at scale 1.
        scale: multiplies every count.
        at_least: no count is scaled below it; what was asked for in smaller numbers stays as it is.
        step: scaled counts are multiples of it.

    Raises:
        ValueError: a number makes no sense.
    """
    check_seed(seed)
    if not 0 < scale < math.inf:
        raise ValueError(f"scale is {scale}; expected a number above 0")
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f"{name} is {count}; expected at least 1")
        if count % step:
            raise ValueError(f"{name} is {count}; expected a multiple of {step}")
    scaled = {
        name: max(step * round(count * scale / step), min(count, max(at_least, step))) for name, count in counts.items()
    }
    return Order(layout, seed, scaled)
