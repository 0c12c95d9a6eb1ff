"""Logs and results of the reference implementation: shares and per cent told apart, counts taken along."""

import json
from pathlib import Path
from typing import Any

import pytest

from reports.foreign.one_peace_log import read
from reports.foreign.reading import Question, Reading
from reports.interval import wilson_interval

PICTURES = frozenset({"recall_at_1_image_to_text", "recall_at_1_text_to_image"})
SOUNDS = frozenset({"recall_at_1_audio_to_text", "recall_at_1_text_to_audio"})

# OFA-Sys/ONE-PEACE issue 59, the authors' own second run on RefCOCO+
EVALUATED = "INFO:one_peace.evaluate:{'iou_acc': 0.8874326082915039, 'score_sum': 9547.0, 'score_cnt': 10758}"
RECALLS: dict[str, Any] = {"txt_r1": 84.1, "txt_r5": 96.3, "txt_r10": 98.3, "txt_r_mean": 92.9, "img_count": 5000}
RECALLS |= {"img_r1": 65.4058, "img_r5": 86.3, "img_r10": 91.9, "img_r_mean": 81.2, "r_mean": 87.05, "txt_count": 25010}
START = "2023-06-13 17:32:38 | INFO | "
VALID = (
    START + "valid | epoch 0{epoch} | valid on 'valid' subset | accuracy {value} | score_sum {hits} | score_cnt 200 "
)
VALID += "| predict_results {{}} | num_updates {step} | best_accuracy 0.99\n"


def _read(tmp_path: Path, text: str, published: frozenset[str] = frozenset()) -> Reading:
    path = tmp_path / "x"
    path.write_text(text, encoding="utf-8")
    return read(path, Question(published))


@pytest.mark.parametrize(
    "line",
    [
        EVALUATED,
        "2024-10-06 12:00:00 | INFO | " + EVALUATED.removeprefix("INFO:").replace("evaluate:", "evaluate | "),
        EVALUATED.replace("0.8874326082915039", "np.float64(0.8874326082915039)"),
        EVALUATED.replace("}", ", 'predict_results': {1: [0.5, 2.0], 'score_cnt': 3}}"),
    ],
)
def test_the_authors_second_run_is_read_to_the_last_hit(line: str, tmp_path: Path) -> None:
    (entry,) = _read(tmp_path, f"noise\n{line}\n").entries
    (metric,) = entry.metrics
    assert (metric.name, metric.n, metric.hits) == ("accuracy_at_iou_50", 10758, 9547)
    assert metric.value == pytest.approx(100 * 9547 / 10758, abs=1e-9)
    assert metric.ci_low is None  # sentences of one picture hang together, and the log does not say which
    assert entry.where == "line 2"


@pytest.mark.parametrize(
    ("content", "name", "value", "n", "hits"),
    [
        (
            {"accuracy": 0.862, "score_sum": 172.4, "score_cnt": 200, "predict_results": {}},
            "accuracy",
            86.2,
            200,
            172.4,
        ),
        ({"map": 0.697, "map_cnt": 10231, "predict_results": {}}, "map", 69.7, 10231, None),
        ({"accuracy": 0.5}, "accuracy", 50.0, None, None),
    ],
)
def test_shares_become_per_cent(
    content: dict[str, Any], name: str, value: float, n: int | None, hits: float | None, tmp_path: Path
) -> None:
    (metric,) = _read(tmp_path, json.dumps(content)).entries[0].metrics
    assert (metric.name, metric.n, metric.hits) == (name, n, hits)
    assert metric.value == pytest.approx(value)


def test_recall_stays_in_per_cent_with_the_queries_of_its_direction(tmp_path: Path) -> None:
    content = {**RECALLS, "predict_txt": {"1": [1, 2]}, "predict_img": {"2": [3]}}
    (entry,) = _read(tmp_path, json.dumps(content), PICTURES).entries
    metrics = {metric.name: metric for metric in entry.metrics}
    assert next(iter(metrics)) == "recall_at_1_image_to_text"
    assert len(metrics) == 7
    to_text, to_image = metrics["recall_at_1_image_to_text"], metrics["recall_at_1_text_to_image"]
    assert (to_text.value, to_text.n, to_text.hits) == (84.1, 5000, 4205)
    assert (to_text.ci_low, to_text.ci_high) == wilson_interval(4205, 5000)
    assert (to_image.value, to_image.n, to_image.hits, to_image.ci_low) == (65.4058, 25010, 16358, None)
    assert (metrics["recall_mean"].value, metrics["recall_mean"].n) == (87.05, None)


def test_sounds_go_by_what_is_published_for_the_task(tmp_path: Path) -> None:
    (entry,) = _read(tmp_path, json.dumps(RECALLS), SOUNDS).entries
    assert entry.metrics[0].name == "recall_at_1_audio_to_text"
    with pytest.raises(ValueError, match="pictures or of sounds"):
        _read(tmp_path, json.dumps(RECALLS))
    with pytest.raises(ValueError, match="pictures or of sounds"):
        _read(tmp_path, json.dumps(RECALLS), SOUNDS | PICTURES)


def test_classes_of_sounds_are_an_accuracy(tmp_path: Path) -> None:
    content = {**RECALLS, "txt_r1": 91.8, "img_count": 2000}
    (metric,) = _read(tmp_path, json.dumps(content), frozenset({"accuracy"})).entries[0].metrics
    assert (metric.name, metric.value, metric.n, metric.hits) == ("accuracy", 91.8, 2000, 1836)
    assert (metric.ci_low, metric.ci_high) == wilson_interval(1836, 2000)


def test_a_training_tells_of_every_validation_and_never_of_its_best(tmp_path: Path) -> None:
    text = START + "fairseq_cli.train | begin validation\n" + START + "train | epoch 001 | loss 3.2 | accuracy 0.99\n"
    text += VALID.format(epoch="01", value=0.86, hits=172, step=100)
    text += VALID.format(epoch="02", value=0.85, hits=170, step=200)
    first, last = _read(tmp_path, text).entries
    assert (first.step, last.step) == (100, 200)
    assert (last.metrics[0].value, last.metrics[0].n, last.metrics[0].hits) == (85.0, 200, 170)


def test_a_training_that_logs_json_and_calls_sounds_by_their_name_is_read(tmp_path: Path) -> None:
    row = {f"valid_{key.replace('img', 'audio')}": f"{value:g}" for key, value in RECALLS.items()}
    text = START + 'train_inner | {"epoch": 1, "accuracy": "0.98"}\n'
    text += START + 'train | {"epoch": 1, "train_accuracy": "0.99"}\n'
    text += START + "valid | " + json.dumps({"epoch": 1, **row, "valid_num_updates": "300"}) + "\n"
    (entry,) = _read(tmp_path, text).entries
    assert entry.step == 300
    assert [metric.name for metric in entry.metrics][3] == "recall_at_1_text_to_audio"
    assert entry.metrics[3].hits == 16358


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"accuracy": 86.2}', "accuracy is 86.2, expected a value from 0 to 1"),
        ('{"accuracy": 0.9, "score_sum": 1.0, "score_cnt": 200}', "contradicts itself"),
        (EVALUATED.replace("9547.0", "947.0"), "contradicts itself"),
        (json.dumps({"txt_r1": 84.1, "img_count": 5}), "no number for recall_at_5_image_to_text"),
        ('[{"question_id": 1, "answer": "yes"}]', "no evaluation found"),
        ('{"a": 1}', "no evaluation found"),
        ("INFO:one_peace.evaluate:{}", "no evaluation found"),
        ("", "no evaluation found"),
        ("an unrelated log\n", "no evaluation found"),
    ],
)
def test_what_is_no_such_file_is_one_line(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        _read(tmp_path, text, PICTURES)
    assert "\n" not in str(caught.value)


def test_nothing_in_a_line_is_executed(tmp_path: Path) -> None:
    harmful = f"INFO:one_peace.evaluate:{{'accuracy': __import__('pathlib').Path('{tmp_path}/made').touch() or 0.5}}"
    with pytest.raises(ValueError, match="no evaluation found"):
        _read(tmp_path, harmful)
    assert not (tmp_path / "made").exists()
