"""What a reader gives to a task: the samples of one split, and how they stand to what was published. No torch."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, Literal, Protocol, TypeVar

Layout = Literal["original", "authors' table"]


class MissingDataError(FileNotFoundError):
    """Something of a data set is not where it belongs."""


class MissingListError(MissingDataError):
    """Nothing of a data set is there: not even a list of what there is."""


class Sample(Protocol):
    """What every kind of sample has; `origin` is for messages: the list that names it, and its line."""

    @property
    def id(self) -> str:
        """Unique in its split, and the same whichever layout it was read from."""
        ...

    @property
    def files(self) -> tuple[Path, ...]:
        """Its pictures or sounds."""
        ...

    @property
    def origin(self) -> str:
        """The list and its line: "meta/esc50.csv, line 17"."""
        ...


@dataclass(frozen=True)
class _OneFile:
    id: str
    media: Path

    @property
    def files(self) -> tuple[Path, ...]:
        """Its picture or sound."""
        return (self.media,)


@dataclass(frozen=True)
class Captioned(_OneFile):
    """A picture or a sound with all that was said of it."""

    captions: tuple[str, ...]
    """At least one, as written: nothing stripped, nothing lowered."""
    origin: str = field(default="", compare=False)


@dataclass(frozen=True)
class Labelled(_OneFile):
    """A picture or a sound with its classes."""

    labels: tuple[int, ...]
    """Class numbers from 0, ascending, at least one."""
    origin: str = field(default="", compare=False)


@dataclass(frozen=True)
class Question(_OneFile):
    """A question about a sound with the answers to choose from."""

    question: str
    choices: tuple[str, ...]
    answer: int
    """Which of the choices is right, from 0."""
    origin: str = field(default="", compare=False)


@dataclass(frozen=True)
class Referred(_OneFile):
    """A sentence that means one thing in a picture, and where it is."""

    text: str
    box: tuple[float, float, float, float]
    """Left, top, right and bottom in the picture's own pixels."""
    origin: str = field(default="", compare=False)


@dataclass(frozen=True)
class PictureQuestion(_OneFile):
    """A question about a picture, and what each answer to it is worth."""

    question: str
    scores: tuple[tuple[str, float], ...] | None
    """Answer and its score from 0 to 1, the best first; None where nobody tells."""
    origin: str = field(default="", compare=False)


@dataclass(frozen=True)
class PicturePair:
    """A sentence about two pictures, which is true or false."""

    id: str
    first: Path
    second: Path
    text: str
    is_true: bool
    origin: str = field(default="", compare=False)

    @property
    def files(self) -> tuple[Path, ...]:
        """Both pictures, the left one first."""
        return (self.first, self.second)


S_co = TypeVar("S_co", bound=Sample, covariant=True)


@dataclass(frozen=True)
class Listing(Generic[S_co]):
    """One split of a data set as its files list it."""

    samples: tuple[S_co, ...]
    """Those whose picture or sound is there, in the order of the list."""
    absent: tuple[str, ...]
    """Ids of those that are listed and whose file is not there; only sets that lose clips with time may have any."""
    layout: Layout
    sources: tuple[Path, ...]
    """The lists that were read, annotations and vocabularies, each once."""
    class_names: tuple[str, ...] = ()
    """By class number, where there are classes."""

    @property
    def num_listed(self) -> int:
        """Samples of the split by its list."""
        return len(self.samples) + len(self.absent)
