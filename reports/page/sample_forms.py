"""What rows of predictions say of a sample, by the kind of task that wrote them: how it ranks, what is told of it."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from reports.page.data import Box, Said, Score

Row = Mapping[str, Any]

MAX_CHARS: Final = 300  # of a text that a sample shows
MAX_SCORES: Final = 6
BROKEN: Final = (KeyError, TypeError, ValueError, IndexError, AttributeError)
"""What a row that is not what its keys promise may raise."""


@dataclass(frozen=True)
class Needed:
    """A picture or a sound that a sample is shown with: the file's name, or the sample's id."""

    name: str
    caption: str
    boxes: tuple[Box, ...] = ()
    masks: Mapping[str, Mapping[int, int]] = field(default_factory=dict)
    """Of `truth` and `prediction`, how many pixels each class fills; label files have to say the same."""


@dataclass(frozen=True)
class Told:
    """A sample before its pictures are looked for."""

    id: str
    is_right: bool | None
    said: tuple[Said, ...] = ()
    scores: tuple[Score, ...] = ()
    needed: tuple[Needed, ...] = ()


@dataclass(frozen=True)
class Context:
    """What rows leave to others: the classes by number, from 0, and a caption of each sample."""

    class_names: Sequence[str] = ()
    captions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Form:
    """Rows of one kind of task.

    Attributes:
        keys: that such a row has; of several forms the first counts.
        rule: how samples are ordered, in words.
        rank: what they are ordered by; higher is better.
        tell: what is said of one.
    """

    keys: frozenset[str]
    rule: str
    rank: Callable[[Row], float]
    tell: Callable[[Row, Context], Told]


def _text(value: object) -> str:
    """Put any value into one line of bounded length."""
    line = " ".join(str(value).split())
    return line if len(line) <= MAX_CHARS else f"{line[: MAX_CHARS - 1]}\N{HORIZONTAL ELLIPSIS}"


def _number(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError("not a finite number")
    return number


def _box(role: str, corners: Sequence[Any]) -> Box:
    left, top, right, bottom = (_number(corner) for corner in corners)
    return Box(role=role, left=left, top=top, right=right, bottom=bottom)  # type: ignore[arg-type]


def _tell_box(row: Row, _: Context) -> Told:
    boxes = (_box("truth", row["truth"]), _box("prediction", row["prediction"]))
    return Told(
        id=_text(row["id"]),
        is_right=_number(row["iou"]) >= 0.5,
        said=(Said(name="asked for", text=_text(row["text"])),),
        scores=(Score(name="IoU", value=_number(row["iou"])),),
        needed=(Needed(str(row["picture"]), "true box solid, found box dashed", boxes),),
    )


def _rank_found(row: Row) -> float:
    """Take how sure the surest find is: what is true does not stand in such a row."""
    return max((_number(each["score"]) for each in row["found"]), default=0.0)


def _tell_found(row: Row, _: Context) -> Told:
    surest = sorted(row["found"], key=lambda each: -_number(each["score"]))[:MAX_SCORES]
    boxes = [_corners(each["box"]) for each in surest]
    return Told(
        id=_text(row["id"]),
        is_right=None,
        said=(Said(name="found", text=f"{len(row['found'])} things, of which the surest are shown"),),
        scores=tuple(Score(name=f"category {int(each['category'])}", value=_number(each["score"])) for each in surest),
        needed=(Needed(str(row["picture"]), "found boxes dashed", tuple(_box("prediction", box) for box in boxes)),),
    )


def _corners(box: Sequence[Any]) -> tuple[float, ...]:
    """Turn left, top, width and height into corners."""
    left, top, width, height = (_number(each) for each in box)
    return left, top, left + width, top + height


def _tell_answer(row: Row, _: Context) -> Told:
    given = dict(row.get("truth") or {})
    truth = [Said(name="people said", text=_text(", ".join(given)))] if given else []
    worth = [] if row.get("worth") is None else [Score(name="worth", value=_number(row["worth"]))]
    return Told(
        id=_text(row["id"]),
        is_right=None if row.get("worth") is None else _number(row["worth"]) > 0,
        said=(
            Said(name="question", text=_text(row["question"])),
            Said(name="answer", text=_text(row["answer"])),
            *truth,
        ),
        scores=(*worth, Score(name="confidence", value=_number(row["share"]))),
        needed=(Needed(str(row["picture"]), "picture"),),
    )


def _rank_answer(row: Row) -> float:
    """Order by worth, and among answers of one worth by confidence: sure and wrong is worst."""
    worth = 0.0 if row.get("worth") is None else _number(row["worth"])
    share = _number(row["share"])
    return worth + share if worth > 0 else -share


def _tell_pair(row: Row, _: Context) -> Told:
    left, right = row["pictures"]
    words = {True: "true of the pair", False: "not true of the pair"}
    return Told(
        id=_text(row["id"]),
        is_right=bool(row["truth"]) == bool(row["prediction"]),
        said=(
            Said(name="statement", text=_text(row["text"])),
            Said(name="truth", text=words[bool(row["truth"])]),
            Said(name="prediction", text=words[bool(row["prediction"])]),
        ),
        scores=(Score(name="confidence", value=_number(row["share"])),),
        needed=(Needed(str(left), "left"), Needed(str(right), "right")),
    )


def _ious(row: Row) -> dict[int, float]:
    """Give the IoU of every class that occurs in a picture, in per cent."""
    counts = [{int(k): _number(v) for k, v in row[name].items()} for name in ("intersect", "predicted", "labelled")]
    hit, said, true = counts
    unions = {k: said.get(k, 0) + true.get(k, 0) - hit.get(k, 0) for k in said.keys() | true.keys()}
    return {k: 100 * hit.get(k, 0) / union for k, union in sorted(unions.items()) if union > 0}


def _count(areas: Mapping[str, Any]) -> dict[int, int]:
    return {int(number): int(pixels) for number, pixels in areas.items() if int(pixels) > 0}


def _rank_masks(row: Row) -> float:
    ious = _ious(row)
    return sum(ious.values()) / len(ious) if ious else math.nan


def _tell_masks(row: Row, context: Context) -> Told:
    ious, areas = _ious(row), {int(k): _number(v) for k, v in row["labelled"].items()}
    largest = sorted((k for k in ious if k in areas), key=lambda k: (-areas[k], k))[: MAX_SCORES - 1]
    masks = {role: _count(row[key]) for role, key in (("truth", "labelled"), ("prediction", "predicted"))}
    names = [context.class_names[k] if k < len(context.class_names) else f"class {k + 1}" for k in largest]
    return Told(
        id=_text(row["id"]),
        is_right=None,
        scores=(
            Score(name="mean IoU", value=_rank_masks(row), unit="%"),
            *(Score(name=_text(name), value=ious[k], unit="%") for name, k in zip(names, largest, strict=True)),
        ),
        needed=(Needed(str(row["id"]), "picture", masks=masks),),
    )


def first_found(row: Row) -> list[str]:
    """Name what a search put first; nothing where it found nothing."""
    best = row.get("best")
    return [str(best[0])] if isinstance(best, list) and best else []


def _tell_retrieved(row: Row, context: Context) -> Told:
    own, place, is_text = str(row["id"]), row["place"], "caption" in row
    found = [name for name in first_found(row) if name != own]
    said = [("direction", str(row["direction"]).replace("_", " "))]
    if is_text:
        said.append(("asked for", row["caption"]))
    else:
        said += [("its sentence", context.captions[own])] if own in context.captions else []
        said += [("found first", context.captions[name]) for name in found if name in context.captions]
    said += [("place", "not among the first ones")] if place is None else []
    return Told(
        id=_text(own),
        is_right=place == 1,
        said=tuple(Said(name=name, text=_text(text)) for name, text in said),
        scores=() if place is None else (Score(name="place", value=int(place)),),
        needed=(
            Needed(own, "the right one" if is_text else "asked with"),
            *(Needed(name, "found first") for name in found),
        ),
    )


def _rank_retrieved(row: Row) -> float:
    return -math.inf if row["place"] is None else -_number(row["place"])


def _tell_choice(row: Row, _: Context) -> Told:
    truth, prediction = int(row["truth"]), int(row["prediction"])
    scores = [_number(value) for value in row["scores"]]
    return Told(
        id=_text(row["id"]),
        is_right=truth == prediction,
        said=(
            Said(name="right choice", text=f"number {truth + 1}"),
            Said(name="chosen", text=f"number {prediction + 1}"),
        ),
        scores=tuple(
            Score(name=f"score of choice {i + 1}", value=value) for i, value in enumerate(scores[:MAX_SCORES])
        ),
        needed=(Needed(str(row["id"]), "sound"),),
    )


def _rank_choice(row: Row) -> float:
    """Take how far the right choice is ahead of the best wrong one."""
    scores, truth = [_number(value) for value in row["scores"]], int(row["truth"])
    return scores[truth] - max(value for i, value in enumerate(scores) if i != truth)


def _tell_class(row: Row, _: Context) -> Told:
    best = [_text(name) for name in row.get("best", ())][1:MAX_SCORES]
    confidence = row.get("share", next(iter(row.get("shares", ())), None))
    shares = [] if confidence is None else [Score(name="confidence", value=_number(confidence))]
    return Told(
        id=_text(row["id"]),
        is_right=row["truth"] == row["prediction"],
        said=(
            Said(name="truth", text=_text(row["truth"])),
            Said(name="prediction", text=_text(row["prediction"])),
            *([Said(name="next", text=_text(", ".join(best)))] if best else []),
        ),
        scores=tuple(shares),
        needed=(Needed(str(row["id"]), "input"),),
    )


def _rank_share(row: Row) -> float:
    share = _number(row["share"] if "share" in row else row["shares"][0])
    return share if row["truth"] == row["prediction"] else -share


def _rank_prompted(row: Row) -> float:
    best = list(row["best"])
    return -float(best.index(row["truth"]) if row["truth"] in best else len(best))


def _tell_labels(row: Row, _: Context) -> Told:
    truth, found = [_text(name) for name in row["truth"]], dict(row["prediction"])
    return Told(
        id=_text(row["id"]),
        is_right=None,
        said=(Said(name="truth", text=_text(", ".join(truth))),),
        scores=tuple(
            Score(name=_text(f"{name}, {'true' if name in truth else 'not true'}"), value=_number(value))
            for name, value in list(found.items())[:MAX_SCORES]
        ),
        needed=(Needed(str(row["id"]), "input"),),
    )


def _rank_labels(row: Row) -> float:
    """Take the share of true classes among the first ones; how sure it is of them settles ties."""
    truth, found = set(row["truth"]), list(row["prediction"].items())
    first = found[: min(len(truth), len(found))]
    right = sum(name in truth for name, _ in first)
    sure = sum(_number(value) if name in truth else -_number(value) for name, value in found) / (len(found) or 1)
    return right / (len(first) or 1) + 1e-3 * sure


def _form(keys: str, rule: str, rank: Callable[[Row], float], tell: Callable[[Row, Context], Told]) -> Form:
    return Form(frozenset(keys.split()), rule, rank, tell)


_SURE: Final = "sure and wrong is worst, sure and right is best"

FORMS: Final = (
    _form("id picture text truth prediction iou", "by IoU", lambda row: _number(row["iou"]), _tell_box),
    _form(
        "id picture found", "by how sure the surest find is; the truth is not among the rows", _rank_found, _tell_found
    ),
    _form("id picture question answer share", f"by what people said: {_SURE}", _rank_answer, _tell_answer),
    _form("id pictures text truth prediction share", _SURE, _rank_share, _tell_pair),
    _form("id intersect predicted labelled", "by the picture's mean IoU", _rank_masks, _tell_masks),
    _form("id direction best place", "by the place of the right one", _rank_retrieved, _tell_retrieved),
    _form("id truth prediction scores", "by how far the right choice is ahead", _rank_choice, _tell_choice),
    _form("id truth prediction best shares", _SURE, _rank_share, _tell_class),
    _form("id truth prediction best", "by the place of the right class", _rank_prompted, _tell_class),
    _form("id truth prediction share", _SURE, _rank_share, _tell_class),
    _form("id truth prediction", "by the true classes among the first ones", _rank_labels, _tell_labels),
)
