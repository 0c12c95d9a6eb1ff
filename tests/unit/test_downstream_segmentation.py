"""A fine-tuning goes on from an earlier stage of other classes, and files of other classes are refused."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from downstream.config import load_task_config
from downstream.engines.settings import SegmentationJob, SegmentationProfile
from downstream.formats.ade20k import ADE20K
from downstream.formats.cocostuff import COCO_STUFF
from downstream.formats.segmentation import LabelledSet
from models.checkpoint.load import save_state
from models.checkpoint.reader import open_checkpoint
from models.config import override

SMALL = (
    *("head.channels=32", "head.num_heads=2", "head.ffn_dim=48", "head.num_queries=7", "size=tiny"),
    *("geometry.crop_px=64", "geometry.stride_px=32", "adapter.num_heads=2", "adapter.conv_planes=4"),
)
PROFILE = SegmentationProfile.parse(override(load_task_config("ade20k").profiles["mini"], SMALL), where="test")
FRESH = ["decode_head.cls_embed.bias", "decode_head.cls_embed.weight"]

State = dict[str, Tensor]


@pytest.fixture(scope="module")
def engine():
    """The door to the OpenMMLab stack."""
    from downstream.engines.openmmlab import segmentation

    return segmentation


@pytest.fixture(autouse=True)
def _silent(engine) -> None:
    """Every test starts with pytest's own filters."""
    from downstream.engines.openmmlab.imports import silence

    silence()


def build(data: LabelledSet, seed: int) -> nn.Module:
    from downstream.engines.openmmlab.model import build_segmentor

    return build_segmentor(PROFILE, num_classes=data.num_classes, seed=seed)


@pytest.fixture
def save(engine, tmp_path: Path) -> Callable[..., Path]:
    """Write a state as a run writes its segmentor."""

    def write(state: State, data: LabelledSet) -> Path:
        path = tmp_path / "stage.safetensors"
        save_state(state, path, metadata={"profile": "{}", "CLASSES": json.dumps(engine.class_names(data))})
        return path

    return write


@pytest.fixture
def start(engine) -> Callable[[Path], tuple[nn.Module, object, list[str]]]:
    """Start ADE20K from a file; gives segmentor, report, and what was said."""

    def call(path: Path) -> tuple[nn.Module, object, list[str]]:
        job = SegmentationJob(ADE20K, PROFILE, False, None, path, seed=0, device="cpu", num_workers=0)
        segmentor, said = build(ADE20K, 0), []
        report = engine._load_pretrained(segmentor, job, SimpleNamespace(say=said.append))
        return segmentor, report, said

    return call


@pytest.mark.parametrize("data", [ADE20K, COCO_STUFF], ids=lambda data: data.name)
def test_every_class_has_a_name_and_a_colour(engine, data: LabelledSet) -> None:
    assert len(engine.class_names(data)) == data.num_classes
    colours = engine.class_colours(data)
    assert colours.shape == (256, 3)
    assert colours[data.unlabelled].tolist() == [0, 0, 0]
    assert np.count_nonzero(colours.any(axis=1)) >= data.num_classes - 1  # one of COCO-Stuff's is black itself


def test_an_earlier_stage_gives_all_but_what_tells_its_classes_apart(save, start) -> None:
    stored, fresh = build(COCO_STUFF, 5).state_dict(), build(ADE20K, 0).state_dict()
    segmentor, report, said = start(save(stored, COCO_STUFF))
    for name, value in segmentor.state_dict().items():
        assert torch.equal(value, fresh[name] if name in FRESH else stored[name]), name
    assert (sorted(report.missing), report.unexpected) == (FRESH, ())
    assert said[0] == "stage.safetensors was made for 171 classes: what tells the 150 apart starts fresh"
    assert said[1].startswith("loaded stage.safetensors into the segmentor: ")
    assert len(said) == 2


def test_an_earlier_stage_of_as_many_classes_gives_everything(save, start) -> None:
    stored = build(ADE20K, 5).state_dict()
    segmentor, report, said = start(save(stored, ADE20K))
    assert all(torch.equal(value, stored[name]) for name, value in segmentor.state_dict().items())
    assert (report.missing, len(said)) == ((), 1)


@pytest.mark.parametrize("lost", ["decode_head.query_feat.weight", "decode_head.cls_embed.weight"])
def test_an_earlier_stage_that_lacks_anything_else_is_refused(save, start, lost: str) -> None:
    stored = {name: value for name, value in build(COCO_STUFF, 5).state_dict().items() if name != lost}
    with pytest.raises(ValueError, match="nothing was loaded") as caught:
        start(save(stored, COCO_STUFF))
    assert "\n" not in str(caught.value)


def test_a_file_of_an_encoder_still_goes_into_the_encoder_alone(save, start) -> None:
    encoder, fresh = build(ADE20K, 5).backbone.model.state_dict(), build(ADE20K, 0).state_dict()
    segmentor, report, said = start(save(encoder, ADE20K))
    for name, value in segmentor.state_dict().items():
        inner = name.removeprefix("backbone.model.")
        assert torch.equal(value, encoder[inner] if name.startswith("backbone.model.") else fresh[name]), name
    assert len(report.loaded) == len(encoder)
    assert said[0].startswith("loaded stage.safetensors into the encoder: ")


def test_a_file_for_other_classes_is_refused_with_what_can_be_done(engine, save) -> None:
    from downstream.engines.openmmlab.released import check_classes

    checkpoint = open_checkpoint(save(build(COCO_STUFF, 5).state_dict(), COCO_STUFF))
    check_classes(checkpoint, engine.class_names(COCO_STUFF))
    with pytest.raises(ValueError, match=r"made for 171 classes, expected 150; .* --pretrained"):
        check_classes(checkpoint, engine.class_names(ADE20K))
    others = [*engine.class_names(COCO_STUFF)[1:], "person"]
    with pytest.raises(ValueError, match="number 0 is 'person', expected 'bicycle'"):
        check_classes(checkpoint, others)


def test_classes_are_counted_where_a_file_names_none(engine, tmp_path: Path) -> None:
    from downstream.engines.openmmlab.released import check_classes

    path = tmp_path / "plain.safetensors"
    save_state(build(COCO_STUFF, 5).state_dict(), path, metadata={"profile": "{}"})
    check_classes(open_checkpoint(path), engine.class_names(COCO_STUFF))
    with pytest.raises(ValueError, match="made for 171 classes, expected 150"):
        check_classes(open_checkpoint(path), engine.class_names(ADE20K))
