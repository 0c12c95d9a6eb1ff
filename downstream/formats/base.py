"""What a reader gives to a task: the samples of one split, and how they stand to what was published. No torch."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, Literal, Protocol, TypeVar

Layout = Literal["original", "authors' table"]


class MissingDataError(FileNotFoundError):
    """Something of a data set is not where it belongs."""


class Sample(Protocol):
    """What every kind of sample has."""

    @property
    def id(self) -> str:
        """Unique in its split, and the same whichever layout it was read from."""
        ...

    @property
    def media(self) -> Path:
        """Its picture or sound."""
        ...


@dataclass(frozen=True)
class Captioned:
    """A picture or a sound with all that was said of it."""

    id: str
    media: Path
    captions: tuple[str, ...]
    """At least one, as written: nothing stripped, nothing lowered."""
    origin: str = field(default="", compare=False)
    """The list and its line, for messages: "meta/esc50.csv, line 17"."""


@dataclass(frozen=True)
class Labelled:
    """A picture or a sound with its classes."""

    id: str
    media: Path
    labels: tuple[int, ...]
    """Class numbers from 0, ascending, at least one."""
    origin: str = field(default="", compare=False)
    """The list and its line, for messages: "meta/esc50.csv, line 17"."""


@dataclass(frozen=True)
class Question:
    """A question about a sound with the answers to choose from."""

    id: str
    media: Path
    question: str
    choices: tuple[str, ...]
    answer: int
    """Which of the choices is right, from 0."""
    origin: str = field(default="", compare=False)
    """The list and its line, for messages: "meta/esc50.csv, line 17"."""


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
