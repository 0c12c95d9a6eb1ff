"""Results of detectron2: its JSON lines and its printed lines give the same numbers; predictions give none."""

import json
import math
from pathlib import Path

import pytest

from reports.foreign.detectron2_log import read
from reports.foreign.reading import Question, Reading

README = """\
Task: bbox
AP,AP50,AP75,APs,APm,APl
60.3704,79.2223,65.5209,44.8737,64.9417,75.5091
"""  # reference one_peace_vision/det/README.md

LOG = """\
[04/29 03:30:01 d2.utils.events]:  eta: 0:12:03  iter: 4999  total_loss: 0.52
[04/29 03:40:01] d2.evaluation.testing INFO: copypaste: Task: bbox
[04/29 03:40:01] d2.evaluation.testing INFO: copypaste: AP,AP50,AP75,APs,APm,APl
another process prints 1,2
[04/29 03:40:01] d2.evaluation.testing INFO: copypaste: 50.0,70.0,55.0,nan,50.0,60.0
[04/29 03:40:01] d2.evaluation.testing INFO: copypaste: Task: segm
[04/29 03:40:01] d2.evaluation.testing INFO: copypaste: AP,AP50,AP75,APs,APm,APl
[04/29 03:40:01] d2.evaluation.testing INFO: copypaste: 45.0,65.0,50.0,30.0,45.0,55.0
[04/29 04:30:01 d2.utils.events]:  eta: 0:00:03  iter: 9999  total_loss: 0.42
[04/29 04:40:01] d2.evaluation.testing INFO: copypaste: Task: bbox
[04/29 04:40:01] d2.evaluation.testing INFO: copypaste: AP,AP50,AP75,APs,APm,APl,AP-person
[04/29 04:40:01] d2.evaluation.testing INFO: copypaste: 60.3704,79.2223,65.5209,44.8737,64.9417,75.5091,61.0
"""

METRICS = """\
{"iteration": 19, "total_loss": 1.5, "lr": 0.0001}
{"bbox/AP": 60.3704, "bbox/AP50": 79.2223, "bbox/APs": NaN, "segm/AP": 52.8513, "iteration": 92186}
{"sem_seg/mIoU": 40.5, "sem_seg/fwIoU": 60.1, "sem_seg/mACC": 50.0, "sem_seg/pACC": 80.0, "iteration": 92187}
"""


def _read(tmp_path: Path, text: str) -> Reading:
    path = tmp_path / "metrics.json"
    path.write_text(text, encoding="utf-8")
    return read(path, Question())


def test_the_published_lines_are_read(tmp_path: Path) -> None:
    (entry,) = _read(tmp_path, README).entries
    assert {metric.name: metric.value for metric in entry.metrics} == {
        "box_ap": 60.3704,
        "box_ap50": 79.2223,
        "box_ap75": 65.5209,
        "box_ap_small": 44.8737,
        "box_ap_medium": 64.9417,
        "box_ap_large": 75.5091,
    }
    assert all((metric.n, metric.ci_low) == (None, None) for metric in entry.metrics)


def test_boxes_and_masks_of_one_evaluation_stay_together(tmp_path: Path) -> None:
    first, second = _read(tmp_path, LOG).entries
    assert (first.step, second.step) == (4999, 9999)
    values = {metric.name: metric.value for metric in first.metrics}
    assert (values["box_ap"], values["mask_ap"], len(values)) == (50.0, 45.0, 12)
    assert math.isnan(values["box_ap_small"])  # no small thing: detectron2 says nan
    assert second.metrics[0].value == 60.3704
    assert second.where == "line 12"


def test_two_evaluations_without_a_training_are_two(tmp_path: Path) -> None:
    assert len(_read(tmp_path, README + README).entries) == 2


def test_json_lines_give_every_task(tmp_path: Path) -> None:
    detection, segmentation = _read(tmp_path, METRICS).entries
    assert (detection.step, detection.where) == (92186, "line 2")
    assert [(metric.name, metric.value) for metric in detection.metrics if metric.name != "box_ap_small"] == [
        ("box_ap", 60.3704),
        ("box_ap50", 79.2223),
        ("mask_ap", 52.8513),
    ]
    assert [metric.name for metric in segmentation.metrics] == ["miou", "macc", "aacc", "fwiou"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (README.replace(",75.5091", ""), "5 values under the names AP, AP50"),
        (README.replace("60.3704", "603.704"), "expected a value from 0 to 100"),
        (METRICS.replace("60.3704", "-1.0"), "bbox AP is -1"),
        (METRICS + '{"bbox/AP": ', "line 4 is no JSON object"),
        ("Task: bbox\n", "no evaluation found"),
        ("", "no evaluation found"),
        ("unrelated", "no evaluation found"),
        ('{"iteration": 19, "total_loss": 1.5}', "no evaluation found"),
    ],
)
def test_what_is_no_such_file_is_one_line(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        _read(tmp_path, text)
    assert "\n" not in str(caught.value)


def test_predictions_without_truth_say_what_to_read_instead(tmp_path: Path) -> None:
    rows = [{"image_id": 1, "category_id": 2, "bbox": [0, 0, 1, 1], "score": 0.5}] * 3
    with pytest.raises(ValueError, match=r"3 predictions without their truth, .* metrics\.json"):
        _read(tmp_path, json.dumps(rows))
