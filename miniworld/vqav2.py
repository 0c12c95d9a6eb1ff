"""Questions about pictures with ten answers each, in the layout of VQA v2.

`vqav2/`, from `write_vqav2`; `<split>` is `train2014` or `val2014`:

    v2_OpenEnded_mscoco_<split>_questions.json      questions of image_id, question, question_id
    v2_mscoco_<split>_annotations.json              annotations of question_id, image_id, question_type, answer_type,
                                                    multiple_choice_answer, answers
    <split>/                                        COCO_<split>_<image_id, 12 digits>.jpg
    trainval_label2ans.json                         all answers, the empty string first
    trainval_ans2label.json                         their places in that list
    vqa_{train,val}.tsv                             the authors' tables: uniq_id image question refs; refs are
                                                    <answer>|!+<its place>|!+<score>, joined by &&

Three questions share a picture: one for yes or no, one for a number, one for another word. Most of ten people agree.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from miniworld.orders import Order, make_order
from miniworld.pairs import Mix, draw_pair_scene
from miniworld.picture_asking import ANSWERS, PictureQuestion, ask_about
from miniworld.places import is_well_seen
from miniworld.samples import encode_picture, pair_seed
from miniworld.scene import Scene
from miniworld.sentence import begin_sentence
from miniworld.tables import Files, format_json, format_table
from miniworld.tree import write_tree

SIDE_PX: Final = 72
MIX: Final = Mix({1: 0.1, 2: 0.45, 3: 0.45}, twin_share=0.35)  # many twins, so that there is something to count
QUESTIONS_PER_PICTURE: Final = 3
NUM_ANSWERS: Final = 10
NUM_AGREEING: Final = (10, 10, 9, 8, 8, 7)
SURE: Final = ("yes", "yes", "yes", "maybe", "no")  # how sure people say they are
SPLITS: Final = ("train", "val")
LABELS: Final = {answer: place for place, answer in enumerate(("", *ANSWERS))}
QUESTION_COLUMNS: Final = ("uniq_id", "image", "question", "refs")


@dataclass(frozen=True, eq=False)
class AskedPicture:
    """A picture with three questions and what ten people said to each."""

    scene: Scene
    questions: tuple[PictureQuestion, ...]
    answers: tuple[tuple[str, ...], ...]


def write_vqav2(root: Path, *, seed: int = 0, num_train: int = 900, num_val: int = 240, scale: float = 1.0) -> Path:
    """Write `vqav2` below `root`; the layout stands at the top of this module.

    Args:
        root: folder that receives the data set's own folder.
        seed: everything follows from it.
        num_train: training questions.
        num_val: validation questions.
        scale: multiplies every count.

    Returns:
        The folder `vqav2`; a complete one from the same arguments is kept as it is.

    Raises:
        ValueError: a number makes no sense, or other files stand where the folder belongs.
    """
    order = make_order("vqav2", seed, counts={"num_train": num_train, "num_val": num_val}, scale=scale)
    return write_tree(root / "vqav2", order.recipe, files=_make_files(order))


def draw_asked_picture(seed: int, split: str, *, index: int) -> AskedPicture | None:
    """Draw one picture with its questions; None where something is hard to see or too little is beyond doubt."""
    own_seed = pair_seed(seed, f"vqav2-{split}", index=index)
    scene = draw_pair_scene(own_seed, width_px=SIDE_PX, height_px=SIDE_PX, mix=MIX)
    if not all(is_well_seen(thing, scene) for thing in scene.things):
        return None
    rng = np.random.default_rng([own_seed, 1])
    questions = ask_about(scene.things, rng, width_px=SIDE_PX)
    if len(questions) < QUESTIONS_PER_PICTURE:
        return None
    return AskedPicture(scene, questions, tuple(_poll(question, rng) for question in questions))


def _poll(question: PictureQuestion, rng: np.random.Generator) -> tuple[str, ...]:
    """Let ten people answer: at least seven of them are right."""
    num_right = int(rng.choice(NUM_AGREEING))
    wrong = [question.others[int(rng.integers(len(question.others)))] for _ in range(NUM_ANSWERS - num_right)]
    said = [question.answer] * num_right + wrong
    return tuple(said[place] for place in rng.permutation(NUM_ANSWERS).tolist())


def format_refs(said: tuple[str, ...]) -> str:
    """Score answers as the authors' table has them: four of ten people who agree make a full score."""
    counts = Counter(said).most_common()
    return "&&".join(f"{answer}|!+{LABELS[answer]}|!+{min(1.0, round(0.3 * count, 1))}" for answer, count in counts)


def _make_files(order: Order) -> Files:
    for place, split in enumerate(SPLITS):
        wanted, folder = order.counts[f"num_{split}"], f"{split}2014"
        questions: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        rows: list[tuple[str, ...]] = []
        for turn, drawn in zip(range(-(-wanted // QUESTIONS_PER_PICTURE)), _draw_all(order, split), strict=False):
            number = 9 + 71 * (len(SPLITS) * turn + place)
            image = f"{folder}/COCO_{folder}_{number:012d}.jpg"
            yield image, encode_picture(drawn.scene.image)
            for asked, said in list(zip(drawn.questions, drawn.answers, strict=True))[: wanted - len(rows)]:
                question_id = 1000 * number + len(questions) % QUESTIONS_PER_PICTURE
                text = f"{begin_sentence(asked.text)}?"
                questions.append({"image_id": number, "question": text, "question_id": question_id})
                annotations.append(_list_answers(asked, said, question_id=question_id))
                rows.append((str(question_id), image, text, format_refs(said)))
        yield f"v2_OpenEnded_mscoco_{folder}_questions.json", _format(folder, "questions", questions)
        yield f"v2_mscoco_{folder}_annotations.json", _format(folder, "annotations", annotations)
        yield f"vqa_{split}.tsv", format_table(QUESTION_COLUMNS, rows)
    yield "trainval_label2ans.json", format_json(list(LABELS))
    yield "trainval_ans2label.json", format_json(dict(sorted(LABELS.items())))


def _draw_all(order: Order, split: str) -> Iterator[AskedPicture]:
    index = 0
    while True:
        drawn = draw_asked_picture(order.seed, split, index=index)
        index += 1
        if drawn:
            yield drawn


def _list_answers(asked: PictureQuestion, said: tuple[str, ...], *, question_id: int) -> dict[str, Any]:
    return {
        "question_type": asked.opening,
        "multiple_choice_answer": asked.answer,
        "answers": [
            {"answer": answer, "answer_confidence": SURE[(question_id + turn) % len(SURE)], "answer_id": turn}
            for turn, answer in enumerate(said, start=1)
        ],
        "image_id": question_id // 1000,
        "answer_type": asked.kind,
        "question_id": question_id,
    }


def _format(folder: str, name: str, entries: list[dict[str, Any]]) -> bytes:
    head = {"info": {"description": "miniworld"}, "data_type": "mscoco", "data_subtype": folder}
    return format_json({**head, name: entries}, indent=None)
