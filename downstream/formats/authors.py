"""The authors' tables, tab-separated with a header: captions, class numbers, or questions for each picture or sound."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from downstream.formats.base import Captioned, Labelled, Listing, Question
from downstream.formats.places import Source, is_file, make_listing
from downstream.formats.tables import Place, Row, parse_whole, read_json, read_table, show

SEPARATOR: Final = "&&&"  # between question, answers and index; reference one_peace/data/audio_data/avqa_dataset.py
# Reference one_peace/run_scripts/image_text_retrieval/evaluate_{coco,flickr}.sh.
TEXTS_STARTS: Final = ("", "flickr30k_")


@dataclass(frozen=True)
class Columns:
    """What the columns of a table are called."""

    id: str
    media: str
    text: str

    @property
    def names(self) -> tuple[str, str, str]:
        """All of them."""
        return self.id, self.media, self.text


SOUND: Final = Columns("uniq_id", "audio", "text")
PICTURE: Final = Columns("image_id", "image", "caption")


def find_media(value: str, table: Path) -> Path:
    """Find what a table names by an absolute path, one from its own folder, or one from the folder above.

    Args:
        value: the path in the table.
        table: the published ones lie in `dataset/<name>/` and name files from `dataset/`.

    Returns:
        The file; where there is none, the path that it was looked for at.
    """
    inner, outer = table.parent / value, table.parent.parent / value
    if is_file(inner) or Path(value).is_absolute():
        return inner
    names_folder = len(Path(value).parts) > 1 and Path(value).parts[0] == table.parent.name
    return outer if names_folder or is_file(outer) else inner


def read_captioned(
    source: Source, split: str, *, columns: Columns = SOUND, may_lack: bool = False
) -> Listing[Captioned]:
    """Read a table with captions: of the texts json beside it, `<split>_texts.json`, or of the rows of one id in order.

    The authors' tables for judging, `..._new.tsv`, have one row for each id, so without the json all captions but the
    first are lacking; `list_differences` tells.

    Raises:
        MissingDataError: a file is missing; where `may_lack`, all of them.
        ValueError: faulty content, or the json and the table name different ids.
    """
    groups = _group(read_table(source.path, columns.names), columns)
    names = (source.path.with_name(f"{start}{split}_texts.json") for start in TEXTS_STARTS)
    texts = next(filter(is_file, names), None)
    given = _read_texts(texts, groups, table=source.path) if texts else {}
    samples = (
        Captioned(
            key,
            find_media(rows[0].text(columns.media), source.path),
            given[key] if given else tuple(row.text(columns.text) for row in rows),
            rows[0].place.seen_from(source.tree),
        )
        for key, rows in groups.items()
    )
    return make_listing(samples, source, vocabularies=[texts] if texts else [], may_lack=may_lack)


def _group(rows: Iterable[Row], columns: Columns) -> dict[str, list[Row]]:
    """Collect the rows of each id; they have to name the same picture or sound."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        same = groups.setdefault(row.text(columns.id), [])
        same.append(row)
        if row.text(columns.media) != same[0].text(columns.media):
            raise row.place.error(
                f"the id {show(row.text(columns.id))} names {show(row.text(columns.media))}, on line "
                f"{same[0].place.number} {show(same[0].text(columns.media))}; expected one file for an id"
            )
    return groups


def _read_texts(path: Path, groups: Mapping[str, Sequence[Row]], *, table: Path) -> dict[str, tuple[str, ...]]:
    """Read `{id: [captions]}` and hold it to the ids of the table."""
    content = read_json(path)
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds {show(content)}, expected an object of captions by id")
    texts = {}
    for number, (key, captions) in enumerate(content.items(), start=1):
        place = Place(path, number, "entry")
        if key not in groups:
            raise place.error(f"captions of the id {show(key)}, which is not in {table.name}; expected the same ids")
        texts[key] = _take_captions(captions, place, key=key)
    for key, rows in groups.items():
        if key not in texts:
            raise rows[0].place.error(f"the id {show(key)} has no captions in {path.name}; expected one or more")
    return texts


def _take_captions(captions: object, place: Place, *, key: str) -> tuple[str, ...]:
    if not isinstance(captions, list) or not captions:
        raise place.error(f"the id {show(key)} has {show(captions)}, expected a list of captions")
    for caption in captions:
        if not isinstance(caption, str) or not caption.strip():
            raise place.error(f"the id {show(key)} has the caption {show(caption)}, expected text")
    return tuple(captions)


def read_labelled(
    source: Source,
    *,
    class_names: tuple[str, ...],
    vocabularies: Sequence[Path] = (),
    is_single: bool = False,
    may_lack: bool = False,
) -> Listing[Labelled]:
    """Read a table whose text is class numbers joined by commas; where `is_single`, exactly one.

    Args:
        source: the table.
        class_names: by class number; the table itself names none.
        vocabularies: the lists that name them.
        is_single: whether a sample has one class.
        may_lack: whether files may be missing.

    Raises:
        MissingDataError: a file is missing; where `may_lack`, all of them.
        ValueError: faulty content, such as a class number out of range.
    """
    samples = []
    for row in read_table(source.path, SOUND.names):
        numbers = [
            parse_whole(part.strip(), row.place, name="class", stop=len(class_names))
            for part in row.text("text").split(",")
        ]
        if len(set(numbers)) < len(numbers) or (is_single and len(numbers) > 1):
            expected = "one class" if is_single else "each class once"
            raise row.place.error(f"text is {show(row.text('text'))}, expected {expected}")
        media = find_media(row.text("audio"), source.path)
        origin = row.place.seen_from(source.tree)
        samples.append(Labelled(row.text("uniq_id"), media, tuple(sorted(numbers)), origin))
    return make_listing(samples, source, vocabularies=vocabularies, class_names=class_names, may_lack=may_lack)


def read_questions(source: Source, *, num_choices: int, may_lack: bool = False) -> Listing[Question]:
    """Read a table whose text is a question, its choices and the index of the right one, joined by `&&&`.

    Raises:
        MissingDataError: a file is missing; where `may_lack`, all of them.
        ValueError: faulty content, such as another number of choices.
    """
    samples = []
    for row in read_table(source.path, SOUND.names):
        parts = row.text("text").split(SEPARATOR)
        if len(parts) != num_choices + 2 or not parts[0].strip():
            raise row.place.error(
                f"text is {show(row.text('text'))}, expected question, {num_choices} answers and an index, joined by "
                f"{SEPARATOR}"
            )
        answer = parse_whole(parts[-1].strip(), row.place, name="index of the answer", stop=num_choices)
        media = find_media(row.text("audio"), source.path)
        origin = row.place.seen_from(source.tree)
        samples.append(Question(row.text("uniq_id"), media, parts[0], tuple(parts[1:-1]), answer, origin))
    return make_listing(samples, source, may_lack=may_lack)
