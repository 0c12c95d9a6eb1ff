"""Worst and best samples out of the rows of every kind, and no row, however odd, that stops the page."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from reports.page.sample_forms import MAX_CHARS
from reports.page.samples import Extremes, pick_samples

BOX = [1.0, 2.0, 3.0, 4.0]


def _pick(folder: Path, rows: Iterable[Mapping[str, Any] | str], names: tuple[str, ...] = ()) -> Extremes:
    path = folder / "predictions.jsonl"
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return pick_samples(path, names)


def _ids(found: Extremes) -> tuple[list[str], list[str]]:
    return [told.id for told in found.worst], [told.id for told in found.best]


def test_boxes_are_ordered_by_overlap(tmp_path: Path) -> None:
    ious = {"a": 0.9, "b": 0.1, "c": 0.5, "d": 0.0, "e": 0.7, "f": 0.6, "g": 0.2}
    rows = [
        {"id": name, "picture": f"{name}.jpg", "text": "a bird", "truth": BOX, "prediction": BOX, "iou": iou}
        for name, iou in ious.items()
    ]
    found = _pick(tmp_path, rows)
    assert _ids(found) == (["d", "b", "g"], ["a", "e", "f"])
    assert (found.num_rows, found.rule, found.note) == (7, "by IoU", None)
    worst = found.worst[0]
    assert (worst.is_right, found.best[0].is_right) == (False, True)
    assert (worst.needed[0].name, [box.role for box in worst.needed[0].boxes]) == ("d.jpg", ["truth", "prediction"])


def test_a_sure_mistake_is_worse_than_an_unsure_one(tmp_path: Path) -> None:
    rows = [
        {"id": "sure-wrong", "truth": "a", "prediction": "b", "share": 0.9},
        {"id": "unsure-wrong", "truth": "a", "prediction": "b", "share": 0.3},
        {"id": "unsure-right", "truth": "a", "prediction": "a", "share": 0.3},
        {"id": "sure-right", "truth": "a", "prediction": "a", "share": 0.9},
    ]
    worst, best = _ids(_pick(tmp_path, rows))
    assert (worst[0], best[:2]) == ("sure-wrong", ["sure-right", "unsure-right"])


def test_no_sample_is_both_worst_and_best(tmp_path: Path) -> None:
    rows = [{"id": str(i), "truth": "a", "prediction": "a", "share": i / 10} for i in range(4)]
    worst, best = _ids(_pick(tmp_path, rows))
    assert (worst, best) == (["0"], ["3", "2", "1"])


def test_classes_found_by_prompts_are_ordered_by_the_place_of_the_right_one(tmp_path: Path) -> None:
    rows = [
        {"id": "first", "truth": "a", "prediction": "a", "best": ["a", "b", "c"]},
        {"id": "third", "truth": "c", "prediction": "a", "best": ["a", "b", "c"]},
        {"id": "nowhere", "truth": "z", "prediction": "a", "best": ["a", "b", "c"]},
        {"id": "second", "truth": "b", "prediction": "a", "best": ["a", "b", "c"]},
    ]
    worst, best = _ids(_pick(tmp_path, rows))
    assert (worst, best) == (["nowhere"], ["first", "second", "third"])


def test_retrieval_shows_both_directions_and_a_sample_once(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"direction": "image_to_text", "id": name, "best": ["x", name], "place": place}
        for name, place in (("x", 1), ("y", 2), ("z", None), ("w", 5))
    ]
    rows += [
        {"direction": "text_to_image", "id": name, "caption": f"{name} {i}", "best": ["x", name], "place": place}
        for name, place in (("x", 1), ("y", 2), ("z", None), ("w", 5))
        for i in range(3)
    ]
    found = _pick(tmp_path, rows)
    assert _ids(found) == (["z", "w", "z", "w"], ["x", "y", "x", "y"])
    by_picture, by_text = found.worst[0], found.worst[2]
    said = {one.name: one.text for one in by_picture.said}
    assert said == {"direction": "image to text", "its sentence": "z 0", "found first": "x 0", "place": said["place"]}
    assert [one.name for one in by_picture.needed] == ["z", "x"]
    assert {one.name: one.text for one in by_text.said}["asked for"] == "z 0"
    assert (found.best[0].is_right, found.worst[1].scores[0].value) == (True, 5)


def test_masks_are_ordered_by_the_pictures_mean_iou_and_name_their_classes(tmp_path: Path) -> None:
    def row(name: str, hit: int) -> dict[str, Any]:
        areas = {"predicted": {"0": 50, "2": 50}, "labelled": {"0": 60, "2": 40}}
        return {"id": name, "num_classes": 3, "intersect": {"0": hit, "2": hit}, **areas}

    found = _pick(tmp_path, [row("good", 40), row("bad", 10)], ("sky", "sea", "sand"))
    assert found.best[0].id == "good"
    scores = {one.name: one.value for one in found.best[0].scores}
    assert scores["sky"] == pytest.approx(100 * 40 / 70)
    assert scores["sand"] == pytest.approx(100 * 40 / 50)
    assert scores["mean IoU"] == pytest.approx((scores["sky"] + scores["sand"]) / 2)
    assert found.best[0].needed[0].masks == {"truth": {0: 60, 2: 40}, "prediction": {0: 50, 2: 50}}


def test_choices_are_ordered_by_how_far_the_right_one_is_ahead(tmp_path: Path) -> None:
    rows = [
        {"id": "close", "truth": 0, "prediction": 0, "scores": [2.0, 1.9, 0.0]},
        {"id": "wrong", "truth": 1, "prediction": 0, "scores": [2.0, 0.1, 0.0]},
        {"id": "clear", "truth": 2, "prediction": 2, "scores": [0.0, 0.1, 5.0]},
    ]
    found = _pick(tmp_path, rows)
    assert [told.id for told in found.best] == ["clear", "close", "wrong"]


def test_finds_without_a_truth_are_ordered_by_how_sure_they_are(tmp_path: Path) -> None:
    def row(name: int, *scores: float) -> dict[str, Any]:
        found = [{"category": 18, "box": [1, 2, 10, 20], "score": score, "runs": {}} for score in scores]
        return {"id": name, "picture": f"{name}.jpg", "found": found}

    found = _pick(tmp_path, [row(1, 0.2, 0.9), row(2), row(3, 0.4)])
    assert [told.id for told in found.best] == ["1", "3", "2"]
    (box, _) = found.best[0].needed[0].boxes
    assert (box.left, box.top, box.right, box.bottom) == (1, 2, 11, 22)
    assert [one.value for one in found.best[0].scores] == [0.9, 0.2]


def test_answers_pairs_and_labels_are_told(tmp_path: Path) -> None:
    answer = {"id": "q", "question_id": "q", "picture": "p.jpg", "question": "what?", "answer": "a cat", "share": 0.5}
    told = _pick(tmp_path, [{**answer, "truth": {"a cat": 1.0}, "worth": 0.3}, {**answer, "id": "r"}]).best
    assert [one.is_right for one in told] == [True, None]
    pair = {"id": "n", "pictures": ["l.png", "r.png"], "text": "two", "truth": True, "prediction": False, "share": 0.9}
    (told_pair,) = _pick(tmp_path, [pair]).best
    assert ([one.name for one in told_pair.needed], told_pair.is_right) == (["l.png", "r.png"], False)
    label = {"id": "66", "truth": ["Dog", "Cat"], "prediction": {"Dog": 0.9, "Cow": 0.5, "Cat": 0.4}}
    (told_label,) = _pick(tmp_path, [label]).best
    assert [one.name for one in told_label.scores] == ["Dog, true", "Cow, not true", "Cat, true"]


@pytest.mark.parametrize(
    "odd",
    [
        "{torn",
        "[1, 2]",
        "null",
        '{"id": "x"}',
        '{"id": "x", "truth": "a", "prediction": "b", "share": NaN}',
        '{"id": "x", "truth": "a", "prediction": "b", "share": "much"}',
        '{"id": "x", "truth": "a", "prediction": "b", "share": null}',
    ],
)
def test_a_row_that_is_none_is_passed_over(odd: str, tmp_path: Path) -> None:
    sound = {"id": "y", "truth": "a", "prediction": "a", "share": 0.5}
    assert _ids(_pick(tmp_path, [sound, odd])) == ([], ["y"])


def test_rows_of_no_known_form_are_told(tmp_path: Path) -> None:
    assert _pick(tmp_path, [{"id": "x", "mood": "fine"}]).note == "rows of a form that this page does not know"
    assert _pick(tmp_path, []).note == "no sample was written"


def test_texts_are_put_into_one_line_of_bounded_length(tmp_path: Path) -> None:
    row = {"id": "i" * 5000, "truth": "a\nb", "prediction": "c" * 5000, "share": 0.5}
    (told,) = _pick(tmp_path, [row]).best
    assert len(told.id) == MAX_CHARS
    assert [len(one.text) for one in told.said] == [3, MAX_CHARS]
