"""The words for every class of sounds: which thing makes it, what it does, and where it may be."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Saying:
    """The words for one class of sounds.

    Attributes:
        nouns: what makes the sound; each names the thing that can be seen, if there is one.
        verbs: what it does; the first one can be followed by "twice".
        gerunds: the same as in "the barking of a dog".
        places: where, for colour; a listener could not tell.
        is_counted: whether one would say how often.
    """

    nouns: tuple[str, ...]
    verbs: tuple[str, ...]
    gerunds: tuple[str, ...]
    places: tuple[str, ...]
    is_counted: bool = False


SAYINGS: Final = {
    "airplane": Saying(
        ("an airplane", "a large airplane", "an airplane engine"),
        ("roars", "flies over", "passes", "is roaring"),
        ("roaring", "flying"),
        ("in the sky", "high above us", "in the distance"),
    ),
    "boat_horn": Saying(
        ("the horn of a boat", "a boat horn", "a large boat horn"),
        ("blows", "is blowing", "honks"),
        ("blowing", "honking"),
        ("at sea", "in the harbor", "on the water"),
        is_counted=True,
    ),
    "car_engine": Saying(
        ("a car", "the engine of a car", "a car engine", "the motor of a car"),
        ("revs", "is running", "hums", "idles"),
        ("revving", "humming", "running"),
        ("on the road", "in the street", "close by"),
    ),
    "chirping_birds": Saying(
        ("a bird", "a small bird", "a little bird", "a bird in the sky"),
        ("chirps", "sings", "is chirping", "tweets"),
        ("chirping", "singing"),
        ("in the morning", "in the garden", "outside"),
    ),
    "tower_bell": Saying(
        ("a church bell in a tower", "the bell of a tower", "a bell in a tall tower", "the tower bell"),
        ("rings", "tolls", "is ringing", "chimes"),
        ("ringing", "chiming"),
        ("in the village", "in the distance", "across the town"),
        is_counted=True,
    ),
    "clock_tick": Saying(
        ("a clock", "an old clock", "the hand of a clock"),
        ("ticks", "is ticking", "ticks and ticks", "clicks"),
        ("ticking", "clicking"),
        ("on the wall", "in a quiet room", "in the kitchen"),
    ),
    "cow": Saying(
        ("a cow", "a big cow", "a lonely cow"),
        ("moos", "is mooing", "calls"),
        ("mooing", "calling"),
        ("in the meadow", "on a farm", "in the field"),
        is_counted=True,
    ),
    "dog": Saying(
        ("a dog", "a small dog", "a loud dog"),
        ("barks", "is barking"),
        ("barking",),
        ("in the yard", "outside", "on the street"),
        is_counted=True,
    ),
    "house_door_knock": Saying(
        ("someone at the door of a house", "a hand on the wooden door of a house", "a friend at the door of a house"),
        ("knocks", "is knocking", "taps"),
        ("knocking", "tapping"),
        ("in the evening", "from outside", "quickly"),
        is_counted=True,
    ),
    "flag_flapping": Saying(
        ("a flag", "the cloth of a flag", "a flag on a pole"),
        ("flaps", "waves", "is flapping", "moves"),
        ("flapping", "waving"),
        ("in the wind", "in a cold wind", "outside"),
    ),
    "person_walking": Saying(
        ("a person", "a lonely person", "a person in heavy shoes"),
        ("walks", "is walking", "walks past", "comes closer"),
        ("walking", "passing"),
        ("on a path", "on the road", "over small stones"),
    ),
    "flower_bees": Saying(
        ("a bee at a flower", "a bee near a flower", "a bee on a flower"),
        ("buzzes", "hums", "is buzzing"),
        ("buzzing", "humming"),
        ("in the garden", "in summer", "close by"),
    ),
    "rain": Saying(
        ("the rain", "heavy rain", "rain"),
        ("falls", "is falling", "pours down"),
        ("falling", "pouring"),
        ("on the ground", "outside", "on a window"),
    ),
    "tree_leaves": Saying(
        ("a tree", "a tree full of leaves", "the crown of a tree"),
        ("rustles", "is rustling", "moves and rustles"),
        ("rustling", "moving"),
        ("in the wind", "in a soft wind", "in the forest"),
    ),
    "sea_waves": Saying(
        ("the sea", "a wave of the sea", "the water of the sea"),
        ("splashes", "comes in", "rises and falls", "roars"),
        ("splashing", "coming in", "roaring"),
        ("on the beach", "on the sand", "against the rocks"),
    ),
    "sheep": Saying(
        ("a sheep", "a small sheep", "a young sheep"),
        ("bleats", "is bleating", "calls"),
        ("bleating", "calling"),
        ("in the field", "on the meadow", "on a farm"),
        is_counted=True,
    ),
    "siren": Saying(
        ("a siren", "a loud siren", "the siren of an alarm"),
        ("wails", "is wailing", "screams"),
        ("wailing", "screaming"),
        ("in the city", "in the distance", "in the street"),
    ),
}
