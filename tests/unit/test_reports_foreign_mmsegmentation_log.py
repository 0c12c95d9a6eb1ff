"""Logs of MMSegmentation: each layout by lines as they are really written, each on its own scale."""

from pathlib import Path

import pytest

from reports.foreign.mmsegmentation_log import read
from reports.foreign.reading import Entry, Question, Reading

SUMMARY = """\
Summary:
+-------+------+-------+
|  aAcc | mIoU |  mAcc |
+-------+------+-------+
| 87.18 | 62.0 | 76.42 |
+-------+------+-------+
"""  # reference one_peace_vision/seg/README.md

OLD_TEXT = """\
2022-05-22 02:47:05,870 - mmseg - INFO - Iter [1600/3200]\tlr: 9.799e-07, eta: 1 day, time: 0.409, loss: 5.6517
2021-10-05 07:56:31,771 - mmseg - INFO - Summary:
2021-10-05 07:56:31,771 - mmseg - INFO -
+-------+------+-------+
|  aAcc | mIoU |  mAcc |
+-------+------+-------+
| 92.82 | 53.26 | 59.06 |
+-------+------+-------+
2021-10-05 07:56:31,771 - mmseg - INFO - Exp name: fcn_r50-d8_769x769_80k_cityscapes.py
2021-10-05 07:56:31,771 - mmseg - INFO - Iter(val) [250]      mIoU: 0.5326, mAcc: 0.5906, aAcc: 0.9282
2022-05-22 02:47:05,870 - mmseg - INFO - Iter [3200/3200]\tlr: 9.799e-07, time: 0.409, loss: 5.6517
2021-10-05 08:56:31,771 - mmseg - INFO - Iter(val) [250]      mIoU: 0.5400, mAcc: 0.6, aAcc: 0.93
"""

NEW_TEXT = """\
2026/11/24 10:34:01 - mmengine - INFO - Iter(train) [2/4]  lr: 1.0000e-02  eta: 0:00:00  time: 0.0043  loss: 0.3491
2026/11/24 10:34:01 - mmengine - INFO - Iter(val) [4/4]    eta: 0:00:00  time: 0.0016  data_time: 0.0003  
2026/11/24 10:34:01 - mmengine - INFO - Iter(val) [4/4]    aAcc: 87.1800  mIoU: 62.0000  mAcc: 76.4200  time: 0.0016
"""  # noqa: W291, as mmengine writes it

OLD_JSON = """\
{"env_info": "sys.platform: linux", "seed": 0}
{"mode": "train", "epoch": 1, "iter": 2000, "lr": 0.0001, "loss": 1.2}
{"mode": "val", "epoch": 31, "iter": 250, "lr": 0.0001, "mIoU": 0.67085, "mAcc": 0.76958, "aAcc": 0.92709, \
"IoU.wall": 0.775, "Acc.wall": 0.88, "IoU.sky": NaN}
"""

NEW_JSON = """\
{"lr": 0.01, "data_time": 0.0009, "loss": 0.34, "time": 0.004, "iter": 2, "step": 2}
{"aAcc": 87.18, "mIoU": 62.0, "mAcc": 76.42, "data_time": 0.0003, "time": 0.0016, "step": 0}
{"lr": 0.01, "data_time": 0.001, "loss": 0.31, "time": 0.003, "iter": 4, "step": 4}
"""


def _read(tmp_path: Path, text: str) -> Reading:
    path = tmp_path / "x.log"
    path.write_text(text, encoding="utf-8")
    return read(path, Question())


def _values(entry: Entry) -> dict[str, float]:
    return {metric.name: metric.value for metric in entry.metrics}


@pytest.mark.parametrize(
    ("text", "values", "layout"),
    [
        (SUMMARY, {"aacc": 87.18, "miou": 62.0, "macc": 76.42}, "text log"),
        (NEW_TEXT, {"aacc": 87.18, "miou": 62.0, "macc": 76.42}, "text log"),
        (NEW_JSON, {"aacc": 87.18, "miou": 62.0, "macc": 76.42}, "1.x, scalars"),
        ('{"aAcc": 87.18, "mIoU": 62.0, "mAcc": 76.42, "time": 0.1}', {"miou": 62.0}, "1.x, scalars"),
        (OLD_TEXT, {"miou": 54.0, "macc": 60.0, "aacc": 93.0}, "text log"),
        (OLD_JSON, {"miou": 67.085, "macc": 76.958, "aacc": 92.709}, "0.x, JSON log"),
        ('{\n "config": "c.py",\n "metric": {\n  "aAcc": 0.8718,\n  "mIoU": 0.62\n }\n}\n', {"miou": 62.0}, "a test"),
        ('{"config": "c.py", "metric": {"aAcc": 0.8718, "mIoU": 0.62}}', {"miou": 62.0}, "1.x"),
    ],
)
def test_every_layout_gives_per_cent(text: str, values: dict[str, float], layout: str, tmp_path: Path) -> None:
    reading = _read(tmp_path, text)
    found = _values(reading.entries[-1])
    assert {name: found[name] for name in values} == pytest.approx(values)
    assert layout in reading.layout
    assert all(metric.n is None and metric.ci_low is None for metric in reading.entries[-1].metrics)


def test_an_evaluation_bears_the_iteration_of_the_training_and_counts_once(tmp_path: Path) -> None:
    assert [entry.step for entry in _read(tmp_path, OLD_TEXT).entries] == [1600, 3200]
    assert [entry.step for entry in _read(tmp_path, NEW_TEXT).entries] == [2]
    assert [entry.step for entry in _read(tmp_path, OLD_JSON).entries] == [2000]  # 250 are batches
    assert [entry.step for entry in _read(tmp_path, NEW_JSON).entries] == [2]  # its own step is an epoch
    assert [entry.step for entry in _read(tmp_path, SUMMARY).entries] == [None]
    assert _read(tmp_path, OLD_TEXT).entries[1].where == "line 12"


def test_classes_come_along(tmp_path: Path) -> None:
    classes = _read(tmp_path, OLD_JSON).entries[0].per_class
    assert classes["wall"] == 77.5
    assert list(classes) == ["wall", "sky"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (OLD_TEXT.replace("0.5400", "54.00"), "mIoU is 54, expected a value from 0 to 1"),
        (NEW_JSON.replace("62.0", "6200.0"), "expected a value from 0 to 100"),
        (NEW_JSON + '{"aAcc": ', "line 4 is no JSON object"),
        ("an unrelated file\n", "no evaluation found"),
        ("", "no evaluation found"),
        ('{"a": 1}\n', "no evaluation found"),
        ("[1, 2]", "no evaluation found"),
        (SUMMARY.replace("| 87.18 | 62.0 | 76.42 |\n", ""), "no evaluation found"),
    ],
)
def test_what_is_no_such_log_is_one_line(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        _read(tmp_path, text)
    assert "\n" not in str(caught.value)
