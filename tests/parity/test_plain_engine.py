"""Cases 03 and 07b on the way that tasks go: a released file, batches, the model, what is said of it, and a step."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from downstream.engines.plain import fit as fit_module
from downstream.engines.plain import origin
from downstream.engines.plain.cache import VectorCache
from downstream.engines.plain.encode import Encoding
from downstream.engines.plain.fit import Fitting, fit
from downstream.engines.plain.inputs import Preparer
from downstream.engines.plain.model import Loaded, Retriever, load_finetuned
from downstream.engines.plain.settings import FineTuning, SettingProfile
from downstream.engines.plain.units import unit_key
from downstream.formats.base import Captioned, Labelled, PicturePair, PictureQuestion, Question, Referred
from downstream.kinds import load_kind
from downstream.kinds.base import Facts
from downstream.tasks.judging import judge_samples
from models.batch import Shared
from models.checkpoint.load import load_state
from models.checkpoint.names import published_name, rename_state
from models.checkpoint.published import read_model_config
from models.config import ModelConfig
from models.onepeace import OnePeace
from models.world import World
from reports.log_file import read_log
from reports.record import CheckpointInfo

pytestmark = pytest.mark.golden

CPU = World(0, 1, torch.device("cpu"))
SIZE_PX = (640, 480)


class StoredInputs(Preparer):
    """Gives stored tensors for the sources that stand for them; what comes after the transform is the task's own."""

    def __init__(self, config, units, case):
        self.options, self.rows = config.modalities, {}
        for row, unit in enumerate(units):
            for number, sources in enumerate(unit.passes):
                for name, source in sources:
                    self.rows[source] = read_row(case, name, row, number)

    def transform(self, name, source, crop=None):
        return self.rows[source]


def read_row(case, name: str, row: int, number: int) -> Tensor:
    """Read one example as its transform would give it: without what fills it up to the length of its batch."""
    if name == "text":
        tokens = case.input("src_tokens")[row]
        return tokens[tokens != case.manifest.get("pad_idx")]
    if name == "image":
        return case.input("src_images_2" if number else "src_images")[row]
    samples = case.input("src_audios")[row]
    return samples[: int(samples.nonzero().max()) + 1]


@dataclass(frozen=True)
class Road:
    """A stored case as a task."""

    kind: str
    inputs: tuple[str, ...]
    pooled: str
    output: str = "logits"
    flag: bool | None = None
    """What the file says of the tokens that are pooled; None says nothing."""


ROADS = {
    "03a": Road("classification", ("audio",), "audio", flag=False),
    "03b": Road("choice", ("text", "audio"), "text", flag=False),
    "03c": Road("grounding", ("text", "image"), "image", flag=True),
    "03c text": Road("grounding", ("text", "image"), "text", "logits_text_features", flag=False),
    "03d": Road("answers", ("text", "image"), "text", flag=False),
    "03e": Road("pairs", ("text", "image"), "text", flag=False),
}


def list_samples(kind: str, stored: Tensor) -> tuple[list[Any], Facts]:
    """Make samples whose truth is what the stored outputs say; texts and files stand for stored rows."""
    paths = [Path(f"{number}.jpg") for number in range(len(stored))]
    best, names = stored.argmax(dim=1).tolist(), tuple(map(str, range(stored.shape[1])))
    numbered = list(enumerate(zip(paths, best, strict=True)))
    facts = Facts("image", names, sizes=dict.fromkeys(paths, SIZE_PX))
    if kind == "grounding":
        boxes = (stored.sigmoid() * torch.tensor(SIZE_PX * 2)).tolist()
        return [Referred(f"{n}", path, f"text {n}", tuple(boxes[n])) for n, (path, _) in numbered], facts
    if kind == "answers":
        return [PictureQuestion(f"{n}", path, f"text {n}", ((f"{top}", 0.6),)) for n, (path, top) in numbered], facts
    if kind == "pairs":
        pairs = [(path, Path(f"second of {path}")) for path in paths]
        return [PicturePair(f"{n}", *pairs[n], f"text {n}", is_true=top == 0) for n, (_, top) in numbered], facts
    if kind == "choice":
        rows = stored.view(-1, 4).argmax(dim=1).tolist()
        choices = [tuple(f"{n} {choice}" for choice in range(4)) for n in range(len(rows))]
        asked = [Question(f"{n}", Path(f"{n}.wav"), "what?", choices[n], top) for n, top in enumerate(rows)]
        return asked, Facts("audio")
    return [Labelled(f"{n}", path, (top,)) for n, (path, top) in numbered], Facts("audio", names)


def read_config(case, *, has_projection: bool) -> ModelConfig:
    return read_model_config(
        case.manifest["config"]["encoder"],
        head_type=case.manifest["head_type"],
        vocabulary_size=case.manifest["vocab_size"],
        has_per_layer_bias=True,
        has_projection=has_projection,
        padding_mode="reference",
    )


def load_stored(case, road: Road, folder: Path, monkeypatch, *, num_outputs: int) -> Loaded:
    """Load the stored state from a file of its own names, as a task loads what the authors released."""
    monkeypatch.setattr(origin, "load_config", lambda _: read_config(case, has_projection=False))
    told = {} if road.flag is None else {"use_image_features": road.flag}
    torch.save({"model": case.tensors("state"), "cfg": {"model": told}}, folder / "released.pt")
    head = {"pooled_modality": road.pooled, "num_passes": 2 if case.manifest["use_two_images"] else 1}
    inputs = {name: {"protocol": name} for name in road.inputs}
    setting = SettingProfile.parse({"protocol": "x", "inputs": inputs, "batch_size": 8, "head": head}, where="here")
    return load_finetuned(
        folder / "released.pt", size="golden", setting=setting, class_names=(), num_outputs=num_outputs
    )


@pytest.mark.parametrize("name", ROADS)
def test_a_stored_model_is_judged_as_its_stored_outputs_say(find_cases, name, tmp_path, monkeypatch):
    road = ROADS[name]
    for number, case in enumerate(find_cases(name[:3])):
        folder = tmp_path / str(number)
        folder.mkdir()
        stored = case.tensors("io")[f"out.{road.output}"]
        kind, (samples, facts) = load_kind(road.kind), list_samples(road.kind, stored)
        loaded = load_stored(case, road, folder, monkeypatch, num_outputs=stored.shape[1])
        units = kind.list_units(samples, facts)
        digests = {path: path.name for sample in samples for path in sample.files}
        encoding = Encoding(
            module=loaded.module,
            preparer=StoredInputs(loaded.model.config, units, case),
            digests=digests,
            lengths={},
            batch_size=8,
            dtype=torch.float32,
            world=CPU,
        )
        with VectorCache(folder / "vectors.sqlite") as cache:
            judged, timing = judge_samples(
                kind, samples, facts, encoding=encoding, cache=cache, progress=lambda *_: None
            )
            case.check(road.output, cache.read([unit_key(unit, digests) for unit in units]))
        assert timing.num_units == len(stored)
        if road.kind == "grounding":
            for row, sample in zip(judged.rows, samples, strict=True):
                assert row["prediction"] == pytest.approx(sample.box, abs=2e-3)
        else:
            worth = 0.6 if road.kind == "answers" else 1
            assert judged.metrics[0].hits == pytest.approx(worth * len(samples))


def test_batches_of_a_task_are_the_stored_ones(find_cases):
    for case in find_cases("03b"):
        samples, facts = list_samples("choice", case.tensors("io")["out.logits"])
        units = load_kind("choice").list_units(samples, facts)
        (batch,) = StoredInputs(read_config(case, has_projection=False), units, case).collate(units)
        assert torch.equal(batch["text"], case.input("src_tokens"))
        assert isinstance(batch["audio"], Shared)
        rows = batch["audio"].rows
        assert torch.equal(batch["audio"].inputs.samples[rows], case.input("src_audios"))
        assert torch.equal(batch["audio"].inputs.padding_mask[rows], case.input("audio_padding_masks"))


@pytest.mark.parametrize("micro", [4, 2])
def test_a_stored_step_of_retrieval_is_a_step_of_a_fine_tuning(find_cases, micro, tmp_path, monkeypatch):
    gradients = {}

    def keep(trainer) -> float:
        gradients.update({name: each.grad for name, each in trainer.module.named_parameters()})
        return 0.0

    monkeypatch.setattr(fit_module._Trainer, "_update", keep)
    for number, case in enumerate(find_cases("07b")):
        folder = tmp_path / str(number)
        folder.mkdir()
        step_once(case, micro, folder)
        (row,) = read_log(folder)
        case.check("loss", torch.tensor(row["loss"], dtype=torch.float32))
        hits = sum(case.tensors("io")[f"out.{name}_ncorrect"] for name in ("i2t", "t2i")) / 2
        assert row["hits"] * 4 == pytest.approx(float(hits))
        for name, stored in case.tensors("grads").items():
            found = next(each for ours, each in gradients.items() if published_name(ours[6:]) == name)
            atol = 1e-4 * stored.abs().max().item() + (1e-6 if name == "logit_scale" else 0)
            torch.testing.assert_close(found, stored, rtol=0, atol=atol)


def step_once(case, micro: int, folder: Path) -> None:
    """Make one step of the stored model as a fine-tuning does, in micro-batches."""
    config = read_config(case, has_projection=True)
    model = OnePeace(config)
    load_state(model, rename_state(case.tensors("state")))
    samples = [Captioned(f"{n}", Path(f"{n}.jpg"), (f"text {n}",)) for n in range(4)]
    examples = load_kind("retrieval").list_examples(samples, Facts("image"))
    pictures, texts = ([example.units[slot] for example in examples] for slot in range(2))
    preparer = StoredInputs(config, pictures, case)
    preparer.rows |= StoredInputs(config, texts, case).rows
    settings = {"data": ["here"], "validation": "here/val", "select_by": "x", "steps": 1, "batch_size": 4}
    settings |= {"micro_batch_size": micro, "optim": {"lr": 1e-3, "warmup_share": 0.1}, "layer_decay": 1.0}
    settings |= {"drop_path_rate": 0.0, "label_smoothing": 0.1, "state_interval": 9}
    loaded = Loaded(Retriever(model), {}, CheckpointInfo(name="golden", sha256=None, loaded=0), "", False)
    fit(
        Fitting(
            loaded=loaded,
            kind=load_kind("retrieval"),
            examples=examples,
            settings=FineTuning.parse(settings, where="here"),
            num_classes=0,
            preparer=preparer,
            world=CPU,
            folder=folder,
            seed=0,
            num_workers=0,
            validate=lambda: 0.0,
            progress=lambda *_: None,
        )
    )
