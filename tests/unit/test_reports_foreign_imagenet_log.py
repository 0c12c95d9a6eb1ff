"""Logs of the reference's ImageNet classification."""

from pathlib import Path

import pytest

from reports.foreign.imagenet_log import read
from reports.foreign.reading import Question, Reading
from reports.interval import wilson_interval

SUMMARY = "* Acc@1 89.558 Acc@5 98.984 loss 0.653\n"  # reference one_peace_vision/classification/README.md
ROW = '{{"train_lr": 3e-5, "test_loss": 0.7, "test_acc1": {value}, "test_acc5": 98.0, "epoch": {epoch}}}\n'


def _read(tmp_path: Path, text: str) -> Reading:
    path = tmp_path / "log.txt"
    path.write_text(text, encoding="utf-8")
    return read(path, Question())


def test_the_published_line_gives_three_numbers(tmp_path: Path) -> None:
    (entry,) = _read(tmp_path, SUMMARY).entries
    assert [(metric.name, metric.value, metric.unit, metric.direction) for metric in entry.metrics] == [
        ("accuracy_top_1", 89.558, "%", "higher"),
        ("accuracy_top_5", 98.984, "%", "higher"),
        ("loss", 0.653, "nats", "lower"),
    ]
    assert all((metric.n, metric.ci_low) == (None, None) for metric in entry.metrics)


def test_a_printed_count_gives_hits_and_an_interval_to_the_evaluation_it_belongs_to(tmp_path: Path) -> None:
    first, second = _read(tmp_path, f"Evaluating 50000 images.\n{SUMMARY}{SUMMARY}").entries
    top1 = first.metrics[0]
    assert (top1.n, top1.hits) == (50_000, 44_779)
    assert (top1.ci_low, top1.ci_high) == wilson_interval(44_779, 50_000)
    assert (first.metrics[2].n, second.metrics[0].n) == (50_000, None)


def test_a_fine_tuning_tells_of_every_epoch(tmp_path: Path) -> None:
    text = ROW.format(value=88.0, epoch=0) + '{"train_loss": 1.0, "epoch": 1}\n' + ROW.format(value=87.5, epoch=2)
    first, last = _read(tmp_path, text).entries
    assert (first.step, last.step, last.metrics[0].value, last.where) == (0, 2, 87.5, "line 3")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (SUMMARY.replace("89.558", "895.58"), "expected a value from 0 to 100"),
        ("Evaluating 50000 images.\n", "no evaluation found"),
        ("", "no evaluation found"),
        ("a text\n", "no evaluation found"),
    ],
)
def test_what_is_no_such_log_is_one_line(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        _read(tmp_path, text)
    assert "\n" not in str(caught.value)
