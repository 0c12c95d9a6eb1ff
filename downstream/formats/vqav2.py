"""VQA v2: `v2_OpenEnded_mscoco_<split>_questions.json` with annotations and COCO's pictures; or the authors' tables."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from downstream.formats.authors import find_media
from downstream.formats.base import Listing, MissingDataError, PictureQuestion
from downstream.formats.places import DataSet, Source, find_source, make_listing
from downstream.formats.tables import Place, Row, make_row, make_rows, read_json, read_table, show
from downstream.formats.vqa_answers import Scores, order_scores, read_answer_vocabulary, score_answers

FILE_SPLITS: Final = {"train": "train2014", "val": "val2014", "test": "test2015", "test-dev": "test-dev2015"}
IMAGES: Final = {"train": "train2014", "val": "val2014", "test": "test2015", "test-dev": "test2015"}
ALIASES: Final = {"test-dev2015": "test-dev", "test2015": "test"}
ANSWERED: Final = ("train", "val")  # what was said to the others is known to the evaluation server alone
VOCABULARY: Final = "trainval_label2ans.json"
NUM_ANSWERS: Final = 10
MAX_IMAGE_ID: Final = 10**12
COLUMNS: Final = ("uniq_id", "image", "question", "refs")
BETWEEN: Final = "&&"  # answers; reference one_peace/data/vl_data/vqa_dataset.py
WITHIN: Final = "|!+"  # an answer, its number and its score
DATA_SET: Final = DataSet(
    name="VQAv2",
    folders=("vqav2", "VQAv2", "vqa"),
    lists={split: (f"v2_OpenEnded_mscoco_{name}_questions.json",) for split, name in FILE_SPLITS.items()},
    tables={split: (f"vqav2_{split}", f"vqa_{split}") for split in FILE_SPLITS},
)


def read(root: Path, split: str) -> Listing[PictureQuestion]:
    """Read the questions of a split, each with what its answers are worth: 0.3 a person of ten, at most 1.

    The answers are normalised as the official evaluation does it; those outside the vocabulary are still there. A table
    gives them as its authors wrote them. The listing's classes are the vocabulary, `trainval_label2ans.json` beside the
    lists.

    Args:
        root: see `find_source`; the pictures lie in `train2014`, `val2014` and `test2015`.
        split: `train`, `val`, `test` or `test-dev`; nobody tells the answers of the last two.

    Raises:
        MissingDataError: a list or a picture is missing.
        ValueError: faulty content; the message names the list and the question or annotation, counted from 1.
    """
    split = ALIASES.get(split, split)
    source = find_source(DATA_SET, root, split=split)
    vocabulary = source.tree / VOCABULARY
    answers = read_answer_vocabulary(vocabulary)
    if source.layout == "authors' table":
        rows = _list_rows(source, answers if split in ANSWERED else None)
        return make_listing(rows, source, vocabularies=[vocabulary], class_names=answers)
    annotations = source.tree / f"v2_mscoco_{FILE_SPLITS[split]}_annotations.json"
    questions = _read_questions(source.path)
    scores = _read_scores(annotations, questions) if split in ANSWERED else {}
    vocabularies = [vocabulary, annotations] if split in ANSWERED else [vocabulary]
    samples = (
        _make_question(row, source.tree, folder=IMAGES[split], scores=scores.get(key)) for key, row in questions.items()
    )
    return make_listing(samples, source, vocabularies=vocabularies, class_names=answers)


def _read_questions(path: Path) -> dict[int, Row]:
    content = make_row(Place(path, 1), read_json(path))
    return _by_question(make_rows(path, content.items("questions"), unit="question"))


def _by_question(rows: tuple[Row, ...]) -> dict[int, Row]:
    found: dict[int, Row] = {}
    for row in rows:
        key = row.whole("question_id")
        if key in found:
            raise row.place.error(f"question_id {key} is that of {found[key].place}; expected each once")
        found[key] = row
    return found


def _read_scores(path: Path, questions: Mapping[int, Row]) -> dict[int, Scores]:
    """Read what was said to every question; both lists name the same questions."""
    if not path.is_file():
        raise MissingDataError(f"{path} is missing; unpack the annotations of the same split beside the questions")
    content = make_row(Place(path, 1), read_json(path))
    annotations = _by_question(make_rows(path, content.items("annotations"), unit="annotation"))
    for key, row in questions.items():
        if key not in annotations:
            raise row.place.error(f"question_id {key} has no annotation in {path}; expected one for each question")
    scores = {}
    for key, row in annotations.items():
        if key not in questions:
            raise row.place.error(f"question_id {key} is no question of this split; expected one for each question")
        if "image_id" in row.values and row.whole("image_id") != questions[key].whole("image_id"):
            raise row.place.error(f"image_id is {row.whole('image_id')}, another than in {questions[key].place}")
        scores[key] = score_answers(_take_answers(row))
    return scores


def _take_answers(row: Row) -> list[str]:
    given = [make_row(row.place, answer).values.get("answer") for answer in row.items("answers")]
    answers = [answer for answer in given if isinstance(answer, str)]
    if len(answers) < len(given) or len(given) != NUM_ANSWERS:
        raise row.place.error(f"answers is {show(given)}, expected {NUM_ANSWERS}, each with its text as 'answer'")
    return answers


def _make_question(row: Row, tree: Path, *, folder: str, scores: Scores | None) -> PictureQuestion:
    number = row.whole("image_id", stop=MAX_IMAGE_ID)
    return PictureQuestion(
        str(row.whole("question_id")),
        tree / folder / f"COCO_{folder}_{number:012d}.jpg",
        row.text("question"),
        scores,
        row.place.seen_from(tree),
    )


def _list_rows(source: Source, answers: tuple[str, ...] | None) -> Iterator[PictureQuestion]:
    """Give the rows of a table; what stands for the answers of a test split is not looked at."""
    known = dict(enumerate(answers or ()))
    for row in read_table(source.path, COLUMNS):
        media = find_media(row.text("image"), source.path)
        scores = None if answers is None else _take_refs(row, known)
        yield PictureQuestion(
            row.text("uniq_id"), media, row.text("question"), scores, row.place.seen_from(source.tree)
        )


def _take_refs(row: Row, known: dict[int, str]) -> Scores:
    """Read the answers of a row; `known` has them by number, which is that of the vocabulary in every row."""
    scores: dict[str, float] = {}
    for part in row.text("refs").strip().split(BETWEEN):
        answer, number, score = _split_ref(part, row)
        if known.setdefault(number, answer) != answer:
            raise row.place.error(
                f"answer {number} is {show(answer)}, elsewhere {show(known[number])}; take both lists from one place"
            )
        if answer in scores:
            raise row.place.error(f"refs gives the answer {show(answer)} twice, expected each once")
        scores[answer] = score
    return order_scores(scores.items())


def _split_ref(part: str, row: Row) -> tuple[str, int, float]:
    answer, *rest = part.split(WITHIN)
    try:
        number, score = int(rest[0]), float(rest[1])
    except (ValueError, IndexError):
        number, score = -1, 0.0
    if len(rest) != 2 or number < 0 or not 0 < score <= 1:
        raise row.place.error(
            f"refs holds {show(part)}, expected <answer>{WITHIN}<its number>{WITHIN}<its score, above 0 and up to 1>, "
            f"joined by {BETWEEN}"
        )
    return answer, number, score
