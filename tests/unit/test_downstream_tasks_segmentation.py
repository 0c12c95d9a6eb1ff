"""A segmentation task chooses its profile, counts its samples, and digests what could move its number."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from downstream.config import load_task_config
from downstream.tasks import load_task
from downstream.tasks.ade20k import TASK
from downstream.tasks.base import RunOptions
from downstream.tasks.segmentation import _is_published, protocol_of, resolve_profile
from miniworld.layouts import write_ade20k

CONFIG = load_task_config("ade20k")


@settings(max_examples=25, deadline=None)
@given(total=st.integers(1, 3000), limit=st.integers(1, 5000) | st.floats(1e-6, 1, exclude_max=True))
def test_a_limit_keeps_at_least_one_sample_and_at_most_all(total: int, limit: float) -> None:
    count = RunOptions(limit=limit).count(total)
    assert 1 <= count <= total
    expected = limit * total if limit < 1 else min(limit, total)
    assert expected - 1e-6 <= count < expected + 1


def test_without_a_limit_all_samples_are_judged() -> None:
    assert RunOptions().count(2000) == 2000


@pytest.mark.parametrize(
    ("options", "profile"),
    [
        (RunOptions(), "mini"),
        (RunOptions(profile="paper"), "paper"),
        (RunOptions(checkpoint=Path("released.pth")), "paper"),
        (RunOptions(profile="mini", checkpoint=Path("released.pth")), "mini"),
        (RunOptions(data_root=Path("nowhere")), "mini"),
        (RunOptions(pretrained=Path("encoder.pt")), "mini"),
    ],
    ids=str,
)
def test_the_profile_follows_what_is_named(options: RunOptions, profile: str) -> None:
    assert TASK.choose_profile(CONFIG, options)[0] == profile


def test_the_whole_published_split_asks_for_the_paper_profile(tmp_path: Path) -> None:
    for folder, extension in (("images", "jpg"), ("annotations", "png")):
        place = tmp_path / "ADEChallengeData2016" / folder / "validation"
        place.mkdir(parents=True)
        for number in range(2000):
            (place / f"ADE_val_{number:08d}.{extension}").touch()
    name, reason = TASK.choose_profile(CONFIG, RunOptions(data_root=tmp_path))
    assert name == "paper"
    assert "whole published validation set" in reason


def protocol(*assignments: str, **changes) -> dict:
    options = RunOptions(assignments=assignments, **changes)
    return protocol_of(TASK.make_job(resolve_profile(CONFIG, "paper", options), options))


def test_the_protocol_is_the_targets_and_follows_only_the_evaluation() -> None:
    ids = {target["protocol"] for target in CONFIG.targets}
    assert {protocol()["id"], protocol(has_views=True)["id"]} == ids
    assert protocol() == protocol("training.lr=1e-3", seed=5)
    assert protocol() != protocol("geometry.stride_px=448")
    assert protocol() != protocol("precision=bfloat16")


def test_the_samples_judged_are_counted_and_digested(tmp_path: Path) -> None:
    tree = write_ade20k(tmp_path, seed=0, num_training=1, num_validation=3, width_px=64, height_px=48)
    pairs, data = TASK.open_data(CONFIG, tree, RunOptions(limit=2))
    _, whole = TASK.open_data(CONFIG, tree, RunOptions())
    assert (len(pairs), data.n, data.n_expected, whole.n) == (2, 2, 3, 3)
    assert data.version == "miniworld"
    assert data.digest != whole.digest
    assert data.ids_sha256 != whole.ids_sha256


def test_data_of_the_user_is_expected_whole(tmp_path: Path) -> None:
    tree = write_ade20k(tmp_path, seed=0, num_training=1, num_validation=2, width_px=64, height_px=48)
    (tree / "miniworld.json").unlink()
    _, data = TASK.open_data(CONFIG, tree, RunOptions())
    assert (data.name, data.n, data.n_expected) == ("ADE20K", 2, 2000)


@pytest.mark.parametrize(
    ("name", "metadata", "is_published"),
    [
        ("released.pth", None, True),
        ("ours.safetensors", {"profile": '{"size": "4b"}'}, False),
        ("converted.safetensors", {"source": "released.pth"}, True),
    ],
)
def test_weights_of_our_own_are_not_taken_for_published_ones(
    tmp_path: Path, name: str, metadata: dict[str, str] | None, is_published: bool
) -> None:
    path = tmp_path / name
    if metadata is None:
        path.write_bytes(b"x")
    else:
        save_file({"a": torch.zeros(2)}, path, metadata=metadata)
    assert _is_published(path) is is_published
    assert not _is_published(None)


def test_an_unknown_task_has_no_module() -> None:
    with pytest.raises(ValueError, match="unknown task 'base'"):
        load_task("base")
