"""Answers of VQA: brought to one spelling, scored by how many people gave them, and the vocabulary in common use."""

import functools
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from downstream.formats.places import is_file
from downstream.formats.tables import Place, read_json, show

Scores = tuple[tuple[str, float], ...]

LABELS_FILE: Final = "trainval_ans2label.json"
VOTE_TENTHS: Final = 3  # what a person's answer is worth
FULL_TENTHS: Final = 10

# All below: github.com/GT-Vision-Lab/VQA, PythonEvaluationTools/vqaEvaluation/vqaEval.py.
PUNCTUATION: Final = (
    ";",
    "/",
    "[",
    "]",
    '"',
    "{",
    "}",
    "(",
    ")",
    "=",
    "+",
    "\\",
    "_",
    "-",
    ">",
    "<",
    "@",
    "`",
    ",",
    "?",
    "!",
)
GROUPED_DIGITS: Final = re.compile(r"(\d)(,)(\d)")
PERIOD: Final = re.compile(r"\.(?!\d)")  # theirs also looks for "<=" and a digit before it, which no period is
MAX_PERIODS: Final = 32  # they hand over a flag where a count belongs
DIGITS: Final = {"none": "0", "zero": "0"} | {
    word: str(number)
    for number, word in enumerate(("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"), 1)
}
ARTICLES: Final = ("a", "an", "the")
# Theirs lists each of these without one of its apostrophes.
SHORTENED: Final = """
    ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd he'd've
    he's how'd how'll how's isn't it'd it'd've it'll ma'am mightn't mightn't've might've mustn't must've needn't not've
    o'clock oughtn't 'ow's'at shan't she'd've should've shouldn't shouldn't've somebody'd've somebody'll somebody's
    someone'd someone'd've someone'll someone's something'd something'd've something'll that's there'd there'd've
    there're there's they'd they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll what're what's
    what've when's where'd where's where've who'd who'd've who'll who's who've why'll why're why's won't would've
    wouldn't wouldn't've y'all y'all'll y'all'd've you'd you'd've you'll you're you've
"""


def _list_contractions() -> dict[str, str]:
    return {
        word[:place] + word[place + 1 :]: word
        for word in SHORTENED.split()
        for place, sign in enumerate(word)
        if sign == "'"
    } | {"somebody'd": "somebodyd"}


CONTRACTIONS: Final = _list_contractions()


@functools.lru_cache(maxsize=2**16)  # four million answers are a hundred thousand different ones
def normalise_answer(answer: str) -> str:
    """Bring an answer to the spelling that the official evaluation compares: `"The two dogs."` is `2 dogs`.

    Line ends and tabs become blanks; punctuation becomes a blank, or nothing where a blank stands beside it; periods
    go but before a digit; lower case; numbers up to ten in digits; no articles; contractions get their apostrophes.

    Returns:
        What is left, which may be the empty string.

    Source: `vqaEval.py` as above, with its peculiarities: whether a sign leaves a blank depends on the whole answer,
    and a comma between digits makes all signs go without one. Differs: there people's answers keep their numbers and
    articles, and all else where the ten are one string; a vocabulary holds none but normalised ones, so here all are.
    """
    text = answer.replace("\n", " ").replace("\t", " ").strip()
    words = (DIGITS.get(word, word) for word in _drop_punctuation(text).lower().split())
    return " ".join(CONTRACTIONS.get(word, word) for word in words if word not in ARTICLES)


def _drop_punctuation(text: str) -> str:
    has_groups = GROUPED_DIGITS.search(text) is not None
    dropped = text
    for sign in PUNCTUATION:
        is_beside_blank = f"{sign} " in text or f" {sign}" in text
        dropped = dropped.replace(sign, "" if is_beside_blank or has_groups else " ")
    return PERIOD.sub("", dropped, count=MAX_PERIODS)


def score_answers(answers: Iterable[str]) -> Scores:
    """Score what people said: 0.3 for each who gave an answer, at most 1.

    Args:
        answers: of ten people, as they wrote them.

    Returns:
        Each normalised answer with its score, the best first, equal ones by the alphabet.

    Source: github.com/hengyuan-hu/bottom-up-attention-vqa, tools/compute_softscore.py. The evaluation itself averages
    over every nine of the ten and takes a third a person, at most 1; that average is 0.3 n, at most 1.
    """
    counts = Counter(map(normalise_answer, answers))
    return order_scores(
        (answer, min(FULL_TENTHS, VOTE_TENTHS * count) / FULL_TENTHS) for answer, count in counts.items()
    )


def order_scores(scores: Iterable[tuple[str, float]]) -> Scores:
    """Put the best first, equal ones by the alphabet."""
    return tuple(sorted(scores, key=lambda pair: (-pair[1], pair[0])))


def read_answer_vocabulary(path: Path) -> tuple[str, ...]:
    """Read `trainval_label2ans.json`: the answers by number; the first may be the empty string.

    Where `trainval_ans2label.json` lies beside it, that has to number the same answers in the same way.

    Raises:
        MissingDataError: no such file.
        ValueError: no list of different answers, or the file beside it is not its inverse.
    """
    content = read_json(path)
    if not isinstance(content, list) or not content:
        raise ValueError(f"{path} holds {show(content)}, expected a list of answers by number")
    numbers: dict[str, int] = {}
    for number, answer in enumerate(content):
        place = Place(path, number, "answer")
        if not isinstance(answer, str) or not (answer.strip() or number == 0):
            raise place.error(f"{show(answer)}, expected text; only answer 0 may be empty")
        if answer in numbers:
            raise place.error(f"{show(answer)} is answer {numbers[answer]} already, expected each once")
        numbers[answer] = number
    if is_file(inverse := path.with_name(LABELS_FILE)):
        _check_inverse(inverse, numbers, path)
    return tuple(numbers)


def _check_inverse(path: Path, numbers: dict[str, int], other: Path) -> None:
    content = read_json(path)
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds {show(content)}, expected the number of each answer in {other.name}")
    for answer in [*numbers, *content]:
        ours, theirs = numbers.get(answer), content.get(answer)
        if ours != theirs or type(theirs) is not int:
            raise ValueError(
                f"{path} gives the answer {show(answer)} the number {show(theirs)}, {other.name} {show(ours)}; "
                "expected the same, fetch both files from one place"
            )
