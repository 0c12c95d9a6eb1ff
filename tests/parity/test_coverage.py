"""No golden case is passed over: each has a test here, or belongs to a part that is named as not there yet."""

import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.golden

# Beginning of the case's name, the file that checks it.
COVERED = {
    "00": "test_encoder.py",
    "01a": "test_encoder.py",
    "01b": "test_encoder.py",
    "01c": "test_encoder.py",
    "02a": "test_encoder.py",
    "02b": "test_encoder.py",
    "02c": "test_encoder.py",
    "02d": "test_encoder.py",
    "02e": "test_encoder.py",
    "03a": "test_heads.py",
    "03b": "test_heads.py",
    "03c": "test_heads.py",
    "03d": "test_heads.py",
    "03e": "test_heads.py",
    "03f": "test_heads.py",
    "03g": "test_narrowing.py",
    "04": "test_pretraining.py",
    "05_": "test_pretraining.py",
    "05b": "test_pretraining.py",
    "06a": "test_pretraining.py",
    "06b": "test_pretraining.py",
    "07_": "test_finetuning.py",
    "07b": "test_finetuning.py",
    "08": "test_metrics.py",
    "09a": "test_preprocessing.py",
    "09b": "test_preprocessing.py",
    "09c": "test_preprocessing.py",
    "10": "test_pretrain_masks.py",
    "11": "test_layer_decay.py",
    "12a": "test_vision.py",
    "12b": "test_vision.py",
    "12c": "test_vision.py",
    "12d": "test_vision.py",
    "12e": "test_vision.py",
    "12f": "test_vision.py",
    "12g": "test_vision.py",
    "13": "test_vision.py",
}
NOT_YET = {}


def prefix_of(name: str, prefixes) -> str | None:
    return next((prefix for prefix in prefixes if name.startswith(prefix)), None)


def test_every_case_is_covered_or_named_as_not_yet(golden_dir, record_property):
    names = [path.stem for path in sorted(golden_dir.glob("*.json"))]
    assert names
    assert [name for name in names if prefix_of(name, COVERED) is None and prefix_of(name, NOT_YET) is None] == []
    covered = [name for name in names if prefix_of(name, COVERED)]
    later = sorted({f"{prefix} ({NOT_YET[prefix]})" for name in names if (prefix := prefix_of(name, NOT_YET))})
    record_property("golden", f"{len(covered)} of {len(names)} cases covered; not yet: {', '.join(later) or 'none'}")


@pytest.mark.parametrize(("prefix", "file"), COVERED.items())
def test_every_covered_case_is_named_in_its_file(prefix, file):
    text = (Path(__file__).parent / file).read_text(encoding="utf-8")
    assert re.search(rf'"{prefix}["_]', text)
