"""The profile of a plain task is what its config says, with the user's changes, or one line that says what is wrong."""

from typing import Any

import pytest

from downstream.config import TaskConfig, load_task_config
from downstream.tasks import load_task
from downstream.tasks.base import RunOptions
from downstream.tasks.plain import list_recipe, resolve_profile


def config_of(**profile: Any) -> TaskConfig:
    config = load_task_config("coco")
    return config.model_copy(update={"profiles": {"mini": {**config.profiles["mini"], **profile}}})


def test_options_change_every_setting_and_assignments_one() -> None:
    options = RunOptions(
        dtype="bfloat16", batch_size=3, assignments=("settings.zero-shot.inputs.image.arguments.size_px=96",)
    )
    profile, _ = resolve_profile(config_of(), "mini", options)
    assert {setting.precision for setting in profile.settings.values()} == {"bfloat16"}
    assert {setting.batch_size for setting in profile.settings.values()} == {3}
    assert profile.settings["zero-shot"].protocol_id == "image-square-96-text/zero-shot"
    assert profile.settings["fine-tuned"].protocol_id == "image-square-64-text/fine-tuned"


def test_what_sources_dispute_is_shown_and_can_be_chosen_otherwise() -> None:
    config = load_task_config("coco")
    profile, told = resolve_profile(config, "paper", RunOptions())
    assert profile.settings["fine-tuned"].inputs["image"].arguments == {"size_px": 432}
    assert any("the paper says 432, the release 256; paper used" in line for line in told)
    found = load_task("coco").plan(config, RunOptions(profile="paper"))
    assert told[0] in found.facts.values()


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("sise=tiny", "unknown key 'sise'. Did you mean 'size'?"),
        ("size=tini", "unknown size 'tini'. Did you mean 'tiny'?"),
        ("settings.zero-shot.batch_size=0", "batch_size"),
        ("settings.fine-tuned.training.micro_batch_size=7", "is no multiple of micro_batch_size 7"),
        ("settings.zero-shot.protocol=x{text.size_px}", "asks for what the inputs do not say"),
    ],
)
def test_a_profile_that_cannot_be_is_one_line(assignment: str, message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        resolve_profile(config_of(), "mini", RunOptions(assignments=(assignment,)))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_recipe_is_all_but_how_it_is_cut_into_memory() -> None:
    training = load_task_config("coco").profiles["mini"]["settings"]["fine-tuned"]["training"]
    recipe = list_recipe({**training, "has_checkpointing": True})
    assert set(training) - set(recipe) == {"state_interval"}
    assert "has_checkpointing" not in recipe
    assert recipe["micro_batch_size"] == training["micro_batch_size"], "it decides what is computed at once"
