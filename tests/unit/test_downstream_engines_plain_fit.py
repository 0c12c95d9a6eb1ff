"""A fine-tuning learns, whatever its batches are cut into, keeps its best weights, and goes on where it was killed."""

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image
from safetensors import safe_open
from torch import Tensor

from downstream.engines.plain import fit as fit_module
from downstream.engines.plain.fit import BEST_FILE, Fitting, fit
from downstream.engines.plain.inputs import Preparer
from downstream.engines.plain.model import build_trainee
from downstream.engines.plain.settings import SettingProfile
from downstream.engines.plain.training_state import STATE_FILE, Progress
from downstream.engines.plain.units import Example, Unit
from downstream.formats.base import Captioned, Labelled, PicturePair, PictureQuestion, Question
from downstream.kinds import load_kind
from downstream.kinds.base import Facts
from models.world import World
from reports.log_file import read_log

Validate = Callable[[], float]
CPU = World(0, 1, torch.device("cpu"))
WORDS = (
    "cat", "cow", "dog", "rain", "a train", "the sea", "bells", "a siren", "two birds", "one clock", "wind", "steps"
)  # fmt: skip
CLASSES = ("first", "second", "third")
IMAGE = {"protocol": "image-square", "arguments": {"size_px": 64}}
AUDIO = {"protocol": "audio", "arguments": {"max_duration_s": 2}}
TEXT = {"protocol": "text-raw"}
TRAINING: dict[str, Any] = {
    "data": ["here"],
    "validation": "here/val",
    "select_by": "accuracy",
    "steps": 1,
    "batch_size": 12,
    "micro_batch_size": 12,
    "optim": {"lr": 3e-3, "warmup_steps": 0, "min_lr": 0.0, "clip": None, "weight_decay": 0.0},
    "layer_decay": 1.0,
    "drop_path_rate": 0.0,
    "state_interval": 100,
}


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with six pictures and four sounds."""
    folder, rng = tmp_path_factory.mktemp("media"), np.random.default_rng(0)
    for number in range(6):
        Image.fromarray(rng.integers(256, size=(48, 60, 3), dtype=np.uint8)).save(folder / f"{number}.png")
    for number in range(4):
        soundfile.write(folder / f"{number}.wav", rng.uniform(-0.5, 0.5, 16_000 + 900 * number), 16_000)
    return folder


def sounds(media: Path) -> tuple[list[Any], Facts]:
    labels = [(0,), (0, 1), (2,), (0, 1, 2)]
    return [Labelled(f"{n}", media / f"{n % 4}.wav", labels[n % 4]) for n in range(12)], Facts("audio", CLASSES)


def choice(media: Path) -> tuple[list[Any], Facts]:
    """Make questions of which the right answer is always the first word."""
    choices = [tuple(WORDS[(place - n) % 4] for place in range(4)) for n in range(12)]
    asked = [Question(f"{n}", media / f"{n % 4}.wav", "what is it", choices[n], n % 4) for n in range(12)]
    return asked, Facts("audio")


def retrieval(media: Path) -> tuple[list[Any], Facts]:
    return [Captioned(f"{n}", media / f"{n}.png", WORDS[2 * n : 2 * n + 2]) for n in range(6)], Facts("image")


def pictures(media: Path) -> tuple[list[Any], Facts]:
    return [Labelled(f"{n}", media / f"{n % 6}.png", (n % 3,)) for n in range(12)], Facts("image", CLASSES)


def pairs(media: Path) -> tuple[list[Any], Facts]:
    paths = [media / f"{n}.png" for n in range(6)]
    return [PicturePair(f"{n}", paths[n % 4], paths[n % 3], WORDS[n], n % 5 < 2) for n in range(12)], Facts("image")


def answers(media: Path) -> tuple[list[Any], Facts]:
    scores = [(("yes", 1.0),), (("no", 0.6), ("two", 0.3)), (("five", 0.3),)]  # the last is outside the vocabulary
    asked = [PictureQuestion(f"{n}", media / f"{n % 6}.png", WORDS[n], scores[n % 3]) for n in range(12)]
    return asked, Facts("image", class_names=("", "yes", "no", "two"))


SEEN: dict[str, Any] = {"image": IMAGE, "text": TEXT}
KINDS: dict[str, tuple[Callable[[Path], tuple[list[Any], Facts]], dict[str, Any], dict[str, Any]]] = {
    "classification": (lambda _: ([], Facts("text", CLASSES)), {"text": TEXT}, {}),
    "multi_label": (sounds, {"audio": AUDIO}, {}),
    "choice": (choice, {"audio": AUDIO, "text": TEXT}, {}),
    "retrieval": (retrieval, SEEN, {}),
    "picture_class": (pictures, {"image": IMAGE}, {"is_linear": True}),
    "pairs": (pairs, SEEN, {"num_passes": 2}),
    "answers": (answers, SEEN, {"has_pooler": True}),
}
"""By kind: samples, inputs, and what the head has besides."""


def no_validation() -> float:
    raise AssertionError("nothing is there to choose from")


def make(
    kind: str, media: Path, folder: Path, *, validate: Validate = no_validation, seed: int = 0, **changes: Any
) -> Fitting:
    """Make a fine-tuning of fresh weights."""
    maker, inputs, changed = KINDS[kind]
    samples, facts = maker(media)
    listed = load_kind(kind).list_examples(samples, facts)
    examples = listed or [Example((Unit.of(text=word),), (n % 3,)) for n, word in enumerate(WORDS)]
    head = None if kind == "retrieval" else {"pooled_modality": next(reversed(inputs)), **changed}
    values = {"protocol": "x", "inputs": inputs, "batch_size": 2, "head": head, "has_type_embeddings": kind == "pairs"}
    setting = SettingProfile.parse({**values, "training": {**TRAINING, **changes}}, where="here")
    outputs = load_kind(kind).count_outputs(facts)
    loaded = build_trainee(None, size="tiny", setting=setting, num_outputs=outputs, seed=0)
    folder.mkdir(exist_ok=True)
    assert setting.training is not None
    return Fitting(
        loaded=loaded,
        kind=load_kind(kind),
        examples=examples,
        settings=setting.training,
        num_classes=outputs or 0,
        preparer=Preparer(loaded.model.config, loaded.inputs, loaded.tokenizer),
        world=CPU,
        folder=folder,
        seed=seed,
        num_workers=0,
        validate=validate,
        progress=lambda *_: None,
    )


@pytest.fixture
def gradients(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Tensor]]:
    """What every update was made with, step by step."""
    seen: list[dict[str, Tensor]] = []
    real = fit_module._Trainer._update

    def update(self: Any) -> float:
        named = self.module.named_parameters()
        seen.append({name: each.grad.clone() for name, each in named if each.grad is not None})
        return real(self)

    monkeypatch.setattr(fit_module._Trainer, "_update", update)
    return seen


@pytest.mark.parametrize("kind", ["classification", "choice", "retrieval"])
def test_the_loss_falls(kind: str, media: Path, tmp_path: Path) -> None:
    optim = {**TRAINING["optim"], "lr": 2e-3, "clip": 1.0}
    fit(make(kind, media, tmp_path, steps=25, optim=optim))
    losses = [row["loss"] for row in read_log(tmp_path)]
    floor = 1.0 if kind == "choice" else 0.0  # the right answer is compared with itself too
    assert len(losses) == 25
    assert losses[-1] - floor < 0.5 * (losses[0] - floor)


CUTS = [(kind, micro) for kind, (*_, changed) in KINDS.items() for micro in ((3,) if changed else (4, 3, 1))]


@pytest.mark.parametrize(("kind", "micro"), CUTS)
def test_a_batch_in_parts_is_one_batch(
    kind: str, micro: int, media: Path, tmp_path: Path, gradients: list[dict[str, Tensor]]
) -> None:
    for name, size in (("whole", 12), ("parts", micro)):
        fit(make(kind, media, tmp_path / name, micro_batch_size=size, label_smoothing=0.1))
    whole, parts = gradients
    assert whole.keys() == parts.keys()
    for name, value in whole.items():
        torch.testing.assert_close(parts[name], value, atol=1e-5 * max(1.0, float(value.abs().max())), rtol=1e-3)
    (one,), (other,) = (read_log(tmp_path / name) for name in ("whole", "parts"))
    for key in ("loss", "hits", "grad_norm"):
        assert other[key] == pytest.approx(one[key], rel=1e-4), key


def test_negatives_of_the_micro_batch_are_fewer(media: Path, tmp_path: Path) -> None:
    losses = {}
    for negatives in ("batch", "micro-batch"):
        fit(make("retrieval", media, tmp_path / negatives, micro_batch_size=4, negatives=negatives))
        losses[negatives] = read_log(tmp_path / negatives)[0]["loss"]
    assert losses["micro-batch"] < losses["batch"] - 0.5
    fit(make("retrieval", media, tmp_path / "one", micro_batch_size=12, negatives="micro-batch"))
    assert read_log(tmp_path / "one")[0]["loss"] == pytest.approx(losses["batch"], rel=1e-5)


class Killed(BaseException):
    """Comes at any moment."""


def run_with_a_kill(
    media: Path, folder: Path, *, at_step: int, validates: Sequence[Validate] = (no_validation,) * 2, **changes: Any
) -> tuple[dict[str, Tensor], Progress]:
    def stop(done: int, total: int, word: str) -> None:
        if done == at_step:
            raise Killed

    before, after = (make("retrieval", media, folder, validate=each, **changes) for each in validates)
    with pytest.raises(Killed):
        fit(replace(before, progress=stop))
    return fit(after)


@pytest.mark.parametrize(("at_step", "ema_decay"), [(1, None), (3, 0.5), (5, None)])
def test_a_training_that_was_killed_ends_with_the_same_numbers(
    at_step: int, ema_decay: float | None, media: Path, tmp_path: Path
) -> None:
    changes: dict[str, Any] = {
        "ema_decay": ema_decay,
        "steps": 5,
        "batch_size": 6,
        "micro_batch_size": 3,
        "state_interval": 2,
        "drop_path_rate": 0.3,
        "crop_scale": [0.5, 1.0],
        "optim": {**TRAINING["optim"], "weight_decay": 0.05, "warmup_steps": 2, "clip": 1.0},
    }
    whole, progress = fit(make("retrieval", media, tmp_path / "whole", **changes))
    resumed, other = run_with_a_kill(media, tmp_path / "killed", at_step=at_step, **changes)
    assert [name for name in whole if not torch.equal(whole[name], resumed[name])] == []
    assert progress == other == Progress(5, 5, None)
    rows = [[{**row, "time": 0} for row in read_log(tmp_path / name)] for name in ("whole", "killed")]
    assert rows[0] == rows[1]
    assert [row["step"] for row in rows[1]] == list(range(1, 6))
    assert not (tmp_path / "killed" / STATE_FILE).exists()


def test_going_on_does_not_make_the_steps_again(media: Path, tmp_path: Path, gradients: list[Any]) -> None:
    run_with_a_kill(media, tmp_path, at_step=5, steps=6, batch_size=4, micro_batch_size=4, state_interval=2)
    assert len(gradients) == 5 + 2


def test_a_kill_does_not_change_which_validation_was_the_best(media: Path, tmp_path: Path) -> None:
    changes = {"steps": 8, "batch_size": 4, "micro_batch_size": 4, "num_validations": 4, "state_interval": 3}
    whole = make("retrieval", media, tmp_path / "whole", validate=script(5.0, 7.0, 6.0, 1.0), **changes)
    weights, progress = fit(whole)
    validates = script(5.0, 7.0), script(7.0, 6.0, 1.0)
    resumed, again = run_with_a_kill(media, tmp_path / "killed", at_step=5, validates=validates, **changes)
    assert progress == again == Progress(8, 4, 7.0)
    assert all(torch.equal(weights[name], resumed[name]) for name in weights)


def script(*values: float) -> Validate:
    """Validate by what is prescribed, and no more often."""
    left = iter(values)
    return lambda: next(left)


@pytest.mark.parametrize("ema_decay", [None, 0.5])
@pytest.mark.parametrize(
    ("values", "best"),
    [((1.0, 3.0, 2.0), 1), ((3.0, 2.0, 1.0), 0), ((1.0, 2.0, 3.0), 2), ((2.0, 2.0, 2.0), 0), ((math.nan, 2.0, 1.0), 1)],
    ids=str,
)
def test_the_weights_that_stay_are_those_of_the_best_validation(
    values: tuple[float, ...], best: int, ema_decay: float | None, media: Path, tmp_path: Path
) -> None:
    seen: list[dict[str, Tensor]] = []
    left = iter(values)

    def validate() -> float:
        seen.append({name: value.clone() for name, value in fitting.loaded.module.state_dict().items()})
        return next(left)

    changes: dict[str, Any] = {"steps": 7, "num_validations": 3, "ema_decay": ema_decay}
    fitting = make("classification", media, tmp_path, validate=validate, **changes)
    weights, progress = fit(fitting)
    assert len(seen) == 3
    assert [all(torch.equal(each[name], weights[name]) for name in weights) for each in seen].index(True) == best
    assert progress == Progress(7, (3, 5, 7)[best], values[best])


def test_one_validation_is_none_and_the_last_weights_stay(media: Path, tmp_path: Path) -> None:
    fitting = make("classification", media, tmp_path, steps=3)
    weights, progress = fit(fitting)
    assert progress == Progress(3, 3, None)
    assert all(torch.equal(value, weights[name]) for name, value in fitting.loaded.module.state_dict().items())
    with safe_open(tmp_path / BEST_FILE, framework="pt") as file:
        assert file.metadata()["step"] == "3"


def test_a_running_mean_is_kept_and_the_training_goes_on_with_the_weights_themselves(
    media: Path, tmp_path: Path
) -> None:
    fitting = make("picture_class", media, tmp_path / "mean", steps=2, ema_decay=0.75)
    module = fitting.loaded.module
    after = [copy.deepcopy(module.state_dict())]

    def note(done: int, total: int, word: str) -> None:
        after.append(copy.deepcopy(module.state_dict()))

    kept, _ = fit(replace(fitting, progress=note))
    first, second, third = after
    for name, value in kept.items():
        torch.testing.assert_close(value, 0.5625 * first[name] + 0.1875 * second[name] + 0.25 * third[name])
    assert all(torch.equal(value, third[name]) for name, value in module.state_dict().items())
    alone, _ = fit(make("picture_class", media, tmp_path / "alone", steps=2))
    assert all(torch.equal(value, third[name]) for name, value in alone.items()), "the mean changes no step"
    assert [name for name in kept if not torch.equal(kept[name], alone[name])]


@pytest.mark.parametrize(
    ("total", "count", "due"), [(7, 3, [3, 5, 7]), (6, 1, [6]), (4, 4, [1, 2, 3, 4]), (2, 5, [1, 2])]
)
def test_validations_are_spread_evenly_and_the_last_is_at_the_end(total: int, count: int, due: list[int]) -> None:
    assert [step for step in range(1, total + 1) if fit_module._is_due(step, total, count)] == due


def test_a_loss_that_is_no_number_stops_before_anything_is_updated(media: Path, tmp_path: Path) -> None:
    fitting = make("classification", media, tmp_path, steps=3)
    with torch.no_grad():
        fitting.loaded.module.get_parameter("head.classifier.3.bias")[1] = math.nan
    before = {name: value.clone() for name, value in fitting.loaded.module.state_dict().items()}
    with pytest.raises(FloatingPointError, match=r"the loss is nan at step 1; try a lower training\.optim\.lr"):
        fit(fitting)
    after = fitting.loaded.module.state_dict()
    assert all(torch.equal(value.nan_to_num(), after[name].nan_to_num()) for name, value in before.items())
    assert not list(tmp_path.iterdir())


def test_a_lower_layer_learns_more_slowly_by_its_decay(media: Path, tmp_path: Path) -> None:
    fitting = make("classification", media, tmp_path, layer_decay=0.5)
    before = {name: value.clone() for name, value in fitting.loaded.module.state_dict().items()}
    after, _ = fit(fitting)
    moved = {name: float((after[name] - value).abs().max()) for name, value in before.items()}
    lr = fitting.settings.optim.lr
    expected = {"head.classifier.3.weight": 1.0, "model.adapters.text.embed_tokens.weight": 0.5**5}
    expected |= {f"model.encoder.layers.{layer}.ffn.text.up_proj.weight": 0.5 ** (4 - layer) for layer in range(4)}
    for name, scale in expected.items():  # the first update of Adam moves by the rate itself
        assert moved[name] == pytest.approx(lr * scale, rel=0.02), name


def test_every_pass_goes_through_all_examples_in_another_order(media: Path, tmp_path: Path) -> None:
    trainer = fit_module._Trainer(make("retrieval", media, tmp_path, batch_size=4, micro_batch_size=2, steps=9))
    listed = [example for _, micro in trainer._list_micros(0, 9) for example in micro]
    passes = [listed[start : start + 12] for start in (0, 12, 24)]
    for each in passes:
        assert set(each) == set(trainer.fitting.examples)
    assert passes[0] != passes[1] != passes[2]
    later = [example for _, micro in trainer._list_micros(4, 9) for example in micro]
    assert later == listed[16:], "the order does not depend on where the training was taken up"
    other = fit_module._Trainer(make("retrieval", media, tmp_path, batch_size=4, micro_batch_size=2, steps=9, seed=1))
    assert [example for _, micro in other._list_micros(0, 9) for example in micro] != listed


def test_processes_take_the_micro_batches_of_one_process_in_turn(
    media: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fit_module, "spread", lambda *_, **__: None)
    fitting = make("retrieval", media, tmp_path, batch_size=12, micro_batch_size=2, steps=4)
    alone = fit_module._Trainer(fitting)._list_micros(0, 4)
    for size in (2, 3, 6):
        worlds = [replace(fitting, world=World(rank, size, CPU.device)) for rank in range(size)]
        shares = [fit_module._Trainer(each)._list_micros(0, 4) for each in worlds]
        assert sorted((each for share in shares for each in share), key=lambda each: each[0]) == alone
        assert len({len(share) for share in shares}) == 1


@pytest.mark.parametrize("size", [4, 5])
def test_a_batch_that_the_processes_cannot_share_is_refused(size: int, media: Path, tmp_path: Path) -> None:
    fitting = make("classification", media, tmp_path, micro_batch_size=2)
    with pytest.raises(ValueError, match=f"batch_size 12 is no multiple of {size} processes times micro_batch_size 2"):
        fit(replace(fitting, world=World(0, size, CPU.device)))


def test_low_precision_is_that_of_the_arithmetic_and_weights_stay_float32(media: Path, tmp_path: Path) -> None:
    weights, _ = fit(make("classification", media, tmp_path / "low", precision="bfloat16"))
    fit(make("classification", media, tmp_path / "full"))
    assert {value.dtype for value in weights.values()} == {torch.float32}
    low, full = (read_log(tmp_path / name)[0]["loss"] for name in ("low", "full"))
    assert low != full
    assert low == pytest.approx(full, rel=0.02)


def test_recomputing_layers_changes_no_gradient(
    media: Path, tmp_path: Path, gradients: list[dict[str, Tensor]]
) -> None:
    for flag in (False, True):
        changes: dict[str, Any] = {"has_checkpointing": flag, "drop_path_rate": 0.3, "micro_batch_size": 4}
        fit(make("retrieval", media, tmp_path / str(flag), **changes))
    for name, value in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], value, atol=1e-6, rtol=1e-4)


def test_processes_that_load_data_change_nothing(media: Path, tmp_path: Path) -> None:
    changes: dict[str, Any] = {"steps": 2, "micro_batch_size": 4, "crop_scale": [0.5, 1.0]}
    alone, _ = fit(make("retrieval", media, tmp_path / "alone", **changes))
    helped, _ = fit(replace(make("retrieval", media, tmp_path / "helped", **changes), num_workers=2))
    assert all(torch.equal(value, helped[name]) for name, value in alone.items())
