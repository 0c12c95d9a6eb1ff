"""Faults put in on purpose: the doctor names the right cause first, and none where nothing is wrong."""

import csv
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image
from safetensors.torch import save_file

from downstream.cli import main
from downstream.doctor.pictures import CLIP_MEAN, CLIP_STD
from downstream.engines.plain.inputs import Preparer
from downstream.engines.plain.model import Loaded, build_trainee, describe_origin, save_finetuned
from downstream.kinds.base import Facts
from downstream.kinds.grounding import KIND, to_pixels
from downstream.media import check_media
from downstream.tasks.base import RunOptions
from downstream.tasks.plain import find_task, resolve_profile
from miniworld.benchmarks import WRITERS
from models.checkpoint.reader import read_state

pytestmark = pytest.mark.slow

MINI = Path(__file__).resolve().parents[2] / "models" / "weights" / "mini.safetensors"
SCALES = {"esc50": 0.3, "imagenet": 0.3, "coco": 0.3, "vggsound": 0.05, "fsd50k": 0.05, "refcoco": 0.2}
Arguments = list[object]


@dataclass(frozen=True)
class World:
    """Small data sets that nobody writes to, and a place for changed copies."""

    data: dict[str, Path]
    folder: Path

    def copy(self, task: str) -> Path:
        """Copy a data set, to be changed."""
        return Path(shutil.copytree(self.data[task], self.folder / self.data[task].name))

    def train(self, task: str, *, head_of: str | None = None) -> Loaded:
        """Put the head of a task on the shipped weights, as a fine-tuning does before its first step."""
        plain, config = find_task(task)
        profile, _ = resolve_profile(config, "mini", RunOptions())
        listing = plain.read(self.data[task], config.dataset.split)
        from downstream.kinds import load_kind

        outputs = load_kind(plain.kind).count_outputs(Facts(plain.media, listing.class_names))
        setting = profile.settings["fine-tuned"]
        if head_of is not None:
            assert setting.head is not None
            setting = setting.model_copy(update={"head": setting.head.model_copy(update={"pooled_modality": head_of})})
        return build_trainee(MINI, size="mini", setting=setting, num_outputs=outputs, seed=1)

    def save(self, loaded: Loaded, task: str) -> Path:
        """Write weights as a fine-tuning leaves them."""
        plain, config = find_task(task)
        names = plain.read(self.data[task], config.dataset.split).class_names
        origin = describe_origin(loaded, task=task, setting="fine-tuned", class_names=names)
        path = self.folder / "weights.safetensors"
        save_finetuned(loaded.module, loaded.module.state_dict(), path, origin=origin)
        return path

    def release(self, loaded: Loaded, **model: Any) -> Path:
        """Write weights that say of themselves what a released file says."""
        path = self.folder / "released.safetensors"
        save_file(loaded.module.state_dict(), path, metadata={"model": json.dumps(model)})
        return path


@dataclass(frozen=True)
class Fault:
    """One thing wrong, and the cause that has to be named."""

    name: str
    cause: str
    make: Callable[[World], Arguments]
    remedy: str
    """In what the doctor says is to be done."""


def zero_shot(task: str, *more: object) -> Callable[[World], Arguments]:
    return lambda world: [task, "--setting", "zero-shot", "--data-root", world.data[task], *more]


def give_pretrained_as_finetuned(world: World) -> Arguments:
    return ["coco", "--checkpoint", MINI, "--data-root", world.data["coco"]]


def give_weights_of_another_task(world: World) -> Arguments:
    path = world.save(world.train("fsd50k"), "fsd50k")
    return ["vggsound", "--checkpoint", path, "--data-root", world.data["vggsound"]]


def contradict_the_flag(world: World) -> Arguments:
    path = world.release(world.train("refcoco"), use_image_features=True)
    return ["refcoco", "--profile", "mini", "--checkpoint", path, "--data-root", world.data["refcoco"].parent]


def lie_in_both_flags(world: World) -> Arguments:
    """Weights that know the boxes when image tokens are pooled; file and config both say text."""
    loaded = world.train("refcoco", head_of="image")
    last = loaded.module.get_submodule("head.classifier.3")
    with torch.no_grad():
        last.weight.mul_(3)  # type: ignore[operator]
        last.bias.copy_(torch.tensor([-1.5, -1.5, 1.5, 1.5]))  # type: ignore[operator]
    table = write_boxes(world.data["refcoco"], world.folder / "refcoco_val.tsv", loaded)
    path = world.release(loaded, use_image_features=False)
    return ["refcoco", "--profile", "mini", "--split", "val", "--checkpoint", path, "--data-root", table]


def write_boxes(root: Path, table: Path, loaded: Loaded) -> Path:
    """Write an authors' table whose boxes are those that the model answers with."""
    plain, _ = find_task("refcoco")
    samples = plain.read(root, "val").samples[:48]
    sizes = {path: (fact.width_px or 0, fact.height_px or 0) for path, fact in check_media(samples, "image").items()}
    facts = Facts("image", sizes=sizes)
    preparer = Preparer(loaded.model.config, loaded.inputs, loaded.tokenizer)
    with torch.inference_mode():
        logits = loaded.module.eval()(*preparer.collate(KIND.list_units(samples, facts)))
    lines = [
        f"{sample.media}\t{sample.text}\t{','.join(f'{max(0.0, corner):.3f}' for corner in box)}"
        for sample, box in zip(samples, to_pixels(logits, samples, facts), strict=True)
    ]
    table.write_text("\n".join(["image\ttext\tregion_coord", *lines]) + "\n", encoding="utf-8")
    return table


def train_on_unnormalised_pixels(world: World) -> Arguments:
    """Weights that give for pixels from 0 to 1 what the shipped ones give for normalised pixels."""
    state = {name: value.clone() for name, value in read_state(MINI).items()}
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (CLIP_MEAN, CLIP_STD))
    weight, bias = "adapters.image.stem.0.weight", "adapters.image.stem.0.bias"
    state[weight] = state[weight] / std
    state[bias] = state[bias] - (state[weight] * mean).sum(dim=(1, 2, 3))
    path = world.folder / "unnormalised.safetensors"
    save_file(state, path, metadata={"onepeace": json.dumps({"size": "mini"})})
    return ["coco", "--pretrained", path, "--data-root", world.data["coco"]]


def exchange_red_and_blue(world: World) -> Arguments:
    root = world.copy("coco")
    for path in root.glob("val2014/*.jpg"):
        Image.merge("RGB", Image.open(path).convert("RGB").split()[::-1]).save(path, quality=95)
    return ["coco", "--setting", "zero-shot", "--data-root", root]


def drop_every_other_sample(world: World) -> Arguments:
    """Sounds at half the rate that their headers say."""
    root = world.copy("esc50")
    for path in root.glob("audio/*.wav"):
        samples, rate = soundfile.read(path, dtype="float32")
        spectrum = np.fft.rfft(samples)
        halved = np.fft.irfft(spectrum[: len(samples) // 4 + 1], n=len(samples) // 2).astype(np.float32) / 2
        soundfile.write(path, halved.clip(-1, 1), rate, subtype="PCM_16")
    return ["esc50", "--data-root", root]


def shuffle_names(world: World) -> Arguments:
    """Class names that belong to other classes."""
    root = world.copy("esc50")
    path = root / "meta" / "esc50.csv"
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    names = sorted({row["category"] for row in rows})
    other = dict(zip(names, np.random.default_rng(3).permutation(names).tolist(), strict=True))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows({**row, "category": other[row["category"]]} for row in rows)
    return ["esc50", "--data-root", root]


def shuffle_statistics(world: World) -> Arguments:
    weights = world.save(world.train("vggsound"), "vggsound")
    root = world.copy("vggsound")
    lines = (root / "stat.csv").read_text(encoding="utf-8").splitlines()
    order = np.random.default_rng(0).permutation(len(lines))
    (root / "stat.csv").write_text("\n".join(lines[place] for place in order) + "\n", encoding="utf-8")
    return ["vggsound", "--checkpoint", weights, "--data-root", root]


def lose_clips(world: World) -> Arguments:
    weights = world.save(world.train("vggsound"), "vggsound")
    root = world.copy("vggsound")
    plain, config = find_task("vggsound")
    for sample in plain.read(root, config.dataset.split).samples[::5]:
        sample.media.unlink()
    return ["vggsound", "--checkpoint", weights, "--data-root", root]


KEY = "settings.zero-shot"
FAULTS = (
    Fault("pretrained weights as fine-tuned ones", "variant", give_pretrained_as_finetuned, "--setting zero-shot"),
    Fault("weights of another task", "variant", give_weights_of_another_task, "fine-tuned for vggsound"),
    Fault("the file's flag says image, the config text", "pooled tokens", contradict_the_flag, "pooled_modality=image"),
    Fault("both flags lie", "pooled tokens", lie_in_both_flags, "pooled_modality=image"),
    Fault(
        "another resolution",
        "resolution",
        zero_shot("imagenet", "--set", f"{KEY}.inputs.image.arguments.size_px=96"),
        "leave --set settings.zero-shot.inputs.image.arguments.size_px out",
    ),
    Fault("weights for other pixels", "normalisation", train_on_unnormalised_pixels, "normalisation"),
    Fault("pictures with red and blue exchanged", "channel order", exchange_red_and_blue, "red and blue"),
    Fault("sounds at half the rate", "sample rate", drop_every_other_sample, "rate"),
    Fault("another prompt", "prompt", zero_shot("esc50", "--set", f"{KEY}.prompt=a {{label}}"), "leave --set"),
    Fault("names of other classes", "class order", shuffle_names, "esc50.csv"),
    Fault("a shuffled stat.csv", "class order", shuffle_statistics, "fine-tuned with"),
    Fault("half precision", "dtype", zero_shot("coco", "--dtype", "float16"), "--dtype float32"),
    Fault("lost clips", "missing ids", lose_clips, "fetch them"),
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Small data sets; nobody writes here."""
    folder = tmp_path_factory.mktemp("world")
    return {name: WRITERS[name](folder, scale=scale) for name, scale in SCALES.items()}


@pytest.fixture
def world(data: dict[str, Path], tmp_path: Path) -> World:
    return World(data, tmp_path)


@pytest.fixture
def ask(capsys: pytest.CaptureFixture[str]) -> Callable[[Arguments], tuple[int, str]]:
    """Ask the doctor; gives the exit code and what was said."""

    def call(arguments: Arguments) -> tuple[int, str]:
        code = main(["doctor", *map(str, arguments)])
        out, err = capsys.readouterr()
        return code, out + err

    return call


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_the_right_cause_is_named_first(fault: Fault, world: World, ask: Callable[..., tuple[int, str]]) -> None:
    code, out = ask(fault.make(world))
    named = re.search(r"^cause: ([^:]+):", out, flags=re.MULTILINE)
    assert named is not None, out
    assert (named[1], code) == (fault.cause, 3), out
    assert fault.remedy in out[out.index("\ndo:") :], out


@pytest.mark.parametrize("task", ["esc50", "imagenet", "coco"])
def test_where_nothing_is_wrong_no_cause_is_named(task: str, world: World, ask: Callable[..., tuple[int, str]]) -> None:
    code, out = ask(zero_shot(task)(world))
    assert code == 0, out
    assert "cause: none found" in out
    assert "suspect" not in out
