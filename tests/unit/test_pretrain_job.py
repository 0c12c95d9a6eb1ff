"""A run goes on with the settings that it was begun with, and with those that came later at their defaults."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from pretrain.config import StageConfig, load_stage
from pretrain.job import CONFIG_FILE, claim


def configure(*assignments: str) -> StageConfig:
    return load_stage("stage1", "tiny", assignments=assignments)


def change(folder: Path, edit: Any) -> None:
    path = folder / CONFIG_FILE
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    edit(values)
    path.write_text(yaml.safe_dump(values), encoding="utf-8")


def test_a_run_goes_on_with_its_own_settings(tmp_path: Path) -> None:
    claim(tmp_path / "run", configure())
    before = (tmp_path / "run" / CONFIG_FILE).read_bytes()
    claim(tmp_path / "run", configure("num_workers=2", "parallel.recompute=cheap"))
    assert (tmp_path / "run" / CONFIG_FILE).read_bytes() == before


def test_a_run_from_before_a_setting_was_there_goes_on_with_its_default(tmp_path: Path) -> None:
    claim(tmp_path, configure())

    def make_older(values: dict[str, Any]) -> None:
        del values["optim"]["state"]
        del values["parallel"]["recompute"]
        values["parallel"]["has_checkpointing"] = False

    change(tmp_path, make_older)
    claim(tmp_path, configure())
    with pytest.raises(ValueError, match="was begun with another 'optim'"):
        claim(tmp_path, configure("optim.state=int8"))


@pytest.mark.parametrize(
    ("assignment", "named"), [("optim.lr=2e-3", "optim"), ("seed=1", "seed"), ("steps=3", "steps")]
)
def test_other_settings_are_refused_by_name(tmp_path: Path, assignment: str, named: str) -> None:
    claim(tmp_path, configure())
    with pytest.raises(ValueError, match=f"was begun with another '{named}'; go on with the same") as told:
        claim(tmp_path, configure(assignment))
    assert "\n" not in str(told.value)
