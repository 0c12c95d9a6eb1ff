"""A profile says everything, once, and what cannot be is refused in a sentence."""

from typing import Any

import pytest

from downstream.config import list_tasks, load_task_config
from downstream.engines.plain.settings import FineTuning, PlainProfile, SettingProfile, settle

TRAINING: dict[str, Any] = {
    "data": ["here"],
    "validation": "here/val",
    "select_by": "accuracy",
    "steps": 10,
    "batch_size": 12,
    "micro_batch_size": 4,
    "optim": {"lr": 1e-3, "warmup_share": 0.1},
    "layer_decay": 0.9,
    "drop_path_rate": 0.1,
    "state_interval": 5,
}
SETTING: dict[str, Any] = {
    "protocol": "audio-{audio.max_duration_s:g}s/fine-tuned",
    "inputs": {"audio": {"protocol": "audio", "arguments": {"max_duration_s": 15}}},
    "batch_size": 2,
}
PLAIN = [name for name in list_tasks() if load_task_config(name).engine == "plain"]


def training(**changes: Any) -> FineTuning:
    return FineTuning.parse({**TRAINING, **changes}, where="here")


def setting(**changes: Any) -> SettingProfile:
    return SettingProfile.parse({**SETTING, **changes}, where="here")


def dispute(use: Any) -> dict[str, Any]:
    return {"paper": 432, "release": 256, "use": use}


@pytest.mark.parametrize(("use", "value"), [("paper", 432), ("release", 256)])
def test_a_dispute_settles_as_it_says_and_is_told(use: str, value: int) -> None:
    values = {"size": "4b", "inputs": {"image": {"size_px": dispute(use), "other": 3}}}
    settled, told = settle(values)
    assert settled == {"size": "4b", "inputs": {"image": {"size_px": value, "other": 3}}}
    assert told == (f"inputs.image.size_px: the paper says 432, the release 256; {use} used",)


def test_what_nobody_disputes_stays_as_it_is() -> None:
    values = {
        "a": [1, {"paper": 1}],
        "b": {"paper": 1, "release": 2},
        "c": {"paper": 1, "release": 2, "use": 3, "d": 4},
    }
    assert settle(values) == (values, ())


@pytest.mark.parametrize("use", ["papers", None, 432])
def test_a_dispute_that_is_not_settled_is_refused(use: object) -> None:
    with pytest.raises(ValueError, match=r"^a\.b\.use .*, expected 'paper' or 'release'$"):
        settle({"a": {"b": dispute(use)}})


def test_the_values_given_are_not_changed() -> None:
    values = {"a": {"b": dispute("paper")}}
    settle(values)
    assert values == {"a": {"b": dispute("paper")}}


@pytest.mark.parametrize(
    ("duration", "said"), [(15, "audio-15s/fine-tuned"), (15.0, "audio-15s/fine-tuned"), (2.5, "audio-2.5s/fine-tuned")]
)
def test_the_protocol_says_what_the_inputs_say(duration: float, said: str) -> None:
    inputs = {"audio": {"protocol": "audio", "arguments": {"max_duration_s": duration}}}
    assert setting(inputs=inputs).protocol_id == said


@pytest.mark.parametrize(
    "protocol", ["audio-{audio.seconds}s", "audio-{image.size_px}", "audio-{}", "audio-{audio.max_duration_s:q}", "a{"]
)
def test_a_protocol_that_asks_for_more_than_inputs_say_is_refused(protocol: str) -> None:
    with pytest.raises(ValueError, match="asks for what the inputs do not say") as caught:
        setting(protocol=protocol)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 3}, "epochs 3 and steps 10: expected one of the two"),
        ({"steps": None}, "epochs None and steps None: expected one of the two"),
        ({"batch_size": 13}, "batch_size 13 is no multiple of micro_batch_size 4"),
        ({"micro_batch_size": 24}, "batch_size 12 is no multiple of micro_batch_size 24"),
        ({"negatives": "all"}, "negatives"),
        ({"layer_decay": 0.0}, "layer_decay"),
        ({"layer_decay": 1.1}, "layer_decay"),
        ({"drop_path_rate": 1.5}, "drop_path_rate"),
        ({"data": []}, "data"),
        ({"steps": 0}, "steps"),
        ({"num_validations": 0}, "num_validations"),
        ({"ema_decay": 1.0}, "ema_decay"),
        ({"ema_decay": 0.0}, "ema_decay"),
        ({"optim": {"lr": 1e-3, "warmup_share": 0.1, "min_lr": 1}}, "min_lr 1.0 is not below lr 0.001"),
        ({"leyer_decay": 0.9}, "unknown key 'leyer_decay'. Did you mean 'layer_decay'?"),
    ],
    ids=lambda value: "" if isinstance(value, str) else next(iter(value)),
)
def test_an_impossible_training_is_one_line(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        training(**changes)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "num_examples", "count"),
    [
        ({"steps": 7}, 1000, 7),
        ({"steps": None, "epochs": 3}, 40, 10),
        ({"steps": None, "epochs": 3}, 41, 11),  # the rest of the last pass is learned from too
        ({"steps": None, "epochs": 1}, 5, 1),
    ],
)
def test_steps_are_counted_from_epochs(changes: dict[str, Any], num_examples: int, count: int) -> None:
    assert training(**changes).count_steps(num_examples) == count


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("profile", ["paper", "mini"])
def test_every_profile_can_be_read(name: str, profile: Any) -> None:
    settled, _ = settle(load_task_config(name).profiles[profile])
    read = PlainProfile.parse(settled, where=name)
    for word, each in read.settings.items():
        assert each.protocol_id.endswith(f"/{word}")
        assert word == "fine-tuned" or each.training is None
        if each.training is not None:
            first, _, split = each.training.validation.partition("/")
            assert split in load_task_config(first).dataset.splits


@pytest.mark.parametrize("name", PLAIN)
def test_the_paper_profile_measures_what_was_published(name: str) -> None:
    config = load_task_config(name)
    profile = PlainProfile.parse(settle(config.profiles["paper"])[0], where=name)
    for word, each in profile.settings.items():
        published = {target["protocol"] for target in config.targets if target["setting"] == word}
        assert not published or each.protocol_id in published
