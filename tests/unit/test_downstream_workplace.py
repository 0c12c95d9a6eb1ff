"""A run's folder belongs to the settings it was started with."""

from pathlib import Path

import pytest
import yaml

from downstream.workplace import CONFIG_FILE, Workplace

CONFIG = {"task": "t", "profile": {"lr": 1e-5, "scales": [1, 2]}, "limit": None, "mean": [0.5, 1.5]}


@pytest.fixture
def workplace(tmp_path: Path) -> Workplace:
    return Workplace(tmp_path, tmp_path.parent, "command", is_resumed=False, say=print, progress=lambda *_: None)


def test_the_first_claim_writes_the_resolved_config(workplace: Workplace) -> None:
    workplace.claim(CONFIG)
    assert yaml.safe_load((workplace.folder / CONFIG_FILE).read_text()) == CONFIG
    assert [path.name for path in workplace.folder.iterdir()] == [CONFIG_FILE]


def test_the_same_settings_may_go_on_and_change_nothing(workplace: Workplace) -> None:
    workplace.claim(CONFIG)
    before = (workplace.folder / CONFIG_FILE).read_bytes()
    workplace.claim(dict(reversed(CONFIG.items())))
    assert (workplace.folder / CONFIG_FILE).read_bytes() == before


@pytest.mark.parametrize(
    ("changes", "name"),
    [({"profile": {"lr": 2e-5, "scales": [1, 2]}}, "profile"), ({"limit": 3}, "limit"), ({"extra": 1}, "extra")],
)
def test_other_settings_are_refused_by_name(workplace: Workplace, changes: dict, name: str) -> None:
    workplace.claim(CONFIG)
    with pytest.raises(ValueError, match=f"was started with another '{name}'; resume it with the same"):
        workplace.claim({**CONFIG, **changes})
