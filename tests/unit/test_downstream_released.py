"""A published segmentor gives its outputs under today's names, is taken by the task, and is judged view by view."""

import copy
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from downstream.config import load_task_config
from downstream.engines.settings import SegmentationJob, SegmentationProfile
from downstream.formats.ade20k import ADE20K
from models.checkpoint.reader import open_checkpoint
from models.config import override
from reports.provenance import Clock

NUM_CLASSES = 150
SMALL = (
    *("head.channels=32", "head.num_heads=2", "head.ffn_dim=48", "head.num_queries=7", "size=tiny"),
    *("head.num_encoder_layers=2", "head.num_decoder_layers=3", "adapter.num_extra_extractors=2"),
    *("geometry.crop_px=64", "geometry.stride_px=32", "adapter.num_heads=2", "adapter.conv_planes=4"),
    "geometry.scale_px=[256,64]",
)
PROFILE = SegmentationProfile.parse(override(load_task_config("ade20k").profiles["mini"], SMALL), where="test")
META = [{"img_shape": (64, 64)}] * 2
IMAGES = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def released():
    """The door to the OpenMMLab stack."""
    from downstream.engines.openmmlab import released

    return released


@pytest.fixture(autouse=True)
def _silent(released) -> None:
    """Every test starts with pytest's own filters."""
    from downstream.engines.openmmlab.imports import silence

    silence()


@pytest.fixture(scope="module")
def build(released):
    """Build the small segmentor from a seed."""
    from downstream.engines.openmmlab.model import build_segmentor

    return lambda seed: build_segmentor(PROFILE, num_classes=NUM_CLASSES, seed=seed).eval()


# Our names to the published ones, written apart from the map: what the backbone below is saved under.
TO_PUBLISHED = (
    ("model.adapters.image.cls_embedding", "image_adapter.cls_embedding"),
    ("model.adapters.image.positions", "image_adapter.pos_embed"),
    ("model.adapters.image.stem.", "image_adapter.embed_images."),
    (".norm.", ".layer_norm."),
    ("model.encoder.", "encoder."),
    (".attn_residual.gamma", ".gamma_1"),
    (".ffn_residual.gamma", ".gamma_2"),
    (".attn_norm.", ".self_attn_layer_norm."),
    (".ffn.image.gate_proj.", ".image_ffn.0.wi_0."),
    (".ffn.image.up_proj.", ".image_ffn.0.wi_1."),
    (".ffn.image.inner_norm.", ".image_ffn.2."),
    (".ffn.image.down_proj.", ".image_ffn.3."),
    (".dwconv.", ".dwconv.dwconv."),
    *((f"norms.{number}.", f"norm{number + 1}.") for number in range(4)),
)


def published_backbone_name(ours: str) -> str:
    table = "model.adapters.image.bias.tables."
    if ours.startswith(table):
        return f"encoder.layers.{ours.removeprefix(table)}.rel_pos_table.weight"
    is_encoder_layer = ours.startswith("model.encoder.")
    for old, new in TO_PUBLISHED:
        ours = ours.replace(old, new) if old != ".norm." or "stem" in ours or "embed_images" in ours else ours
    if is_encoder_layer:
        ours = ours.replace(".ffn_norm.", ".final_layer_norm.").replace(".attn.inner_norm.", ".self_attn.ln.")
        ours = ours.replace(".attn.", ".self_attn.")
    return ours


def make_old(segmentor: nn.Module) -> nn.Module:
    """Give a copy of a segmentor the layers that MMSegmentation 0.x built its head of, with random numbers."""
    from mmcv.cnn.bricks.transformer import BaseTransformerLayer

    class OldDecoderLayer(BaseTransformerLayer):
        """The generic layer of mmcv, called as today's head calls its own."""

        def forward(self, query, *, cross_attn_mask, **others):
            return super().forward(query, attn_masks=[cross_attn_mask, None], **others)

    head = PROFILE.head
    feed = {"type": "FFN", "embed_dims": head.channels, "feedforward_channels": head.ffn_dim, "num_fcs": 2}
    common = {"embed_dims": head.channels, "num_heads": head.num_heads, "batch_first": True}
    deform = {"type": "MultiScaleDeformableAttention", **common, "num_levels": 3, "num_points": 4, "dropout": 0.0}
    attend = {"type": "MultiheadAttention", **common}
    old = copy.deepcopy(segmentor)
    pixel_layers, query_layers = (
        old.decode_head.pixel_decoder.encoder.layers,
        old.decode_head.transformer_decoder.layers,
    )
    for number in range(len(pixel_layers)):
        order = ("self_attn", "norm", "ffn", "norm")
        pixel_layers[number] = BaseTransformerLayer(deform, feed, operation_order=order, batch_first=True)
    for number in range(len(query_layers)):
        order = ("cross_attn", "norm", "self_attn", "norm", "ffn", "norm")
        query_layers[number] = OldDecoderLayer(attend, feed, operation_order=order, batch_first=True)
    return randomise(old)


def randomise(module: nn.Module) -> nn.Module:
    """Draw every number anew, so that no two parameters are alike and each is felt in the outputs."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, value in module.state_dict().items():
            if value.is_floating_point():
                value.copy_(draw(name, value, generator))
    return module.eval()


def draw(name: str, value: Tensor, generator: torch.Generator) -> Tensor:
    """Draw one parameter: variances above zero, vectors around one or zero, matrices that keep the scale."""
    drawn = torch.randn(value.shape, generator=generator)
    if name.endswith("running_var"):
        return drawn.abs() + 0.5
    if value.ndim == 1:
        return 0.3 * drawn + (1.0 if name.endswith(("weight", "gamma", "head_scales")) else 0.0)
    is_table = "tables" in name or "embed.weight" in name or name.endswith(("query_feat.weight", "encoding.weight"))
    return drawn * (1.0 if is_table or "positions" in name else 1.5 / value[0].numel() ** 0.5)


@pytest.fixture(scope="module")
def old(build) -> SimpleNamespace:
    """A small segmentor of the old layers, and its state by the names that were published."""
    segmentor = make_old(build(0))
    tokens = (PROFILE.geometry.crop_px // 16) ** 2 + 1
    state = {
        f"backbone.encoder.layers.{number}.rp_bucket": torch.zeros(tokens, tokens, dtype=torch.int64)
        for number in range(4)
    }
    for name, value in segmentor.state_dict().items():
        part, _, inner = name.partition(".")
        state[f"{part}.{published_backbone_name(inner)}" if part == "backbone" else name] = value
    return SimpleNamespace(segmentor=segmentor, state=state)


def test_a_loaded_file_gives_the_outputs_of_the_model_it_was_saved_from(old, build, released):
    ours = build(1)
    with torch.no_grad():
        expected = old.segmentor.encode_decode(IMAGES, META)
        before = ours.encode_decode(IMAGES, META)
        report = released.load_released(ours, old.state)
        after = ours.encode_decode(IMAGES, META)
    assert len(report.loaded) == len(ours.state_dict())
    torch.testing.assert_close(after, expected, rtol=1e-5, atol=1e-5)
    assert (before - expected).abs().max() > 0.1


def swap(state: dict[str, Tensor], first: str, second: str) -> dict[str, Tensor]:
    """Exchange the tensors of two parts of the same shapes."""
    names = {
        name: name.replace(first, "@").replace(second, first).replace("@", second)
        for name in state
        if first in name or second in name
    }
    return {**state, **{name: state[other] for name, other in names.items()}}


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("transformer_decoder.layers.0.attentions.0.", "transformer_decoder.layers.0.attentions.1."),
        ("transformer_decoder.layers.1.norms.0.", "transformer_decoder.layers.1.norms.1."),
        ("pixel_decoder.encoder.layers.0.norms.0.", "pixel_decoder.encoder.layers.0.norms.1."),
        ("pixel_decoder.encoder.layers.0.", "pixel_decoder.encoder.layers.1."),
        ("decode_head.query_embed.", "decode_head.query_feat."),
        ("decode_head.level_embed.", "decode_head.pixel_decoder.level_encoding."),
        ("backbone.encoder.layers.1.rel_pos_table.", "backbone.encoder.layers.2.rel_pos_table."),
        ("backbone.encoder.layers.1.gamma_1", "backbone.encoder.layers.1.gamma_2"),
        ("backbone.norm3.", "backbone.norm4."),
    ],
)
def test_parts_in_each_others_place_are_seen_in_the_outputs(old, build, released, first: str, second: str):
    ours = build(1)
    released.load_released(ours, swap(old.state, first, second))
    with torch.no_grad():
        difference = ours.encode_decode(IMAGES, META) - old.segmentor.encode_decode(IMAGES, META)
    assert difference.abs().max() > 1e-3


@pytest.fixture
def save(old, tmp_path: Path):
    """Write a file as MMSegmentation 0.x writes its checkpoints."""

    def write(state: dict[str, Tensor] | None = None, **meta: object) -> Path:
        path = tmp_path / "released.pth"
        torch.save({"meta": {"mmseg_version": "0.30.0", "iter": 40000, **meta}, "state_dict": state or old.state}, path)
        return path

    return write


@pytest.fixture
def prepare(released):
    """Open a checkpoint as the task does; gives the segmentor, its info, and what was said."""
    from downstream.engines.openmmlab.segmentation import prepare_segmentor

    def call(path: Path):
        job = SegmentationJob(ADE20K, PROFILE, False, path, None, seed=0, device="cpu", num_workers=0)
        said: list[str] = []
        segmentor, info = prepare_segmentor(job, (), workplace=SimpleNamespace(say=said.append), clock=Clock())
        return segmentor, info, said

    return call


def ade20k_classes() -> list[str]:
    from mmseg.datasets import ADE20KDataset

    return list(ADE20KDataset.METAINFO["classes"])


def test_the_task_takes_a_published_file_and_tells_what_became_of_every_name(save, prepare, old, released):
    path = save(CLASSES=tuple(ade20k_classes()), PALETTE=[[0, 0, 0]])
    assert released.is_released(open_checkpoint(path))
    segmentor, info, said = prepare(path)
    assert (info.loaded, info.missing, info.unexpected, info.reshaped) == (len(segmentor.state_dict()), 0, 0, 0)
    (line,) = said
    assert line.startswith(f"loaded released.pth: {info.loaded} loaded (0 reshaped), 0 missing, 0 unexpected")
    assert line.endswith("left out by choice: 4 buffers that follow from the sizes")
    assert torch.equal(segmentor.decode_head.query_feat.weight, old.state["decode_head.query_feat.weight"])


def test_our_own_file_is_still_read_by_our_names(prepare, build, tmp_path: Path, released):
    from models.checkpoint.load import save_state

    ours = build(3)
    path = tmp_path / "segmentor.safetensors"
    save_state(ours.state_dict(), path, metadata={"profile": "{}"})
    assert not released.is_released(open_checkpoint(path))
    segmentor, info, _ = prepare(path)
    assert info.loaded == len(ours.state_dict())
    assert all(torch.equal(value, ours.state_dict()[name]) for name, value in segmentor.state_dict().items())


def test_a_file_of_other_classes_is_refused_before_anything_is_built(save, prepare):
    names = ade20k_classes()
    with pytest.raises(ValueError, match=r"other classes: number 3 is 'tree', expected 'floor'"):
        prepare(save(CLASSES=[*names[:3], names[4], names[3], *names[5:]]))
    with pytest.raises(ValueError, match="made for 171 classes, expected 150"):
        prepare(save(CLASSES=[f"class {number}" for number in range(171)]))


def test_a_fine_tuning_goes_on_from_a_published_stage_of_other_classes(save, build, old, released):
    from downstream.engines.openmmlab.segmentation import _load_pretrained

    head = {name: torch.ones(172, *value.shape[1:]) for name, value in old.state.items() if ".cls_embed." in name}
    job = SegmentationJob(
        ADE20K, PROFILE, False, None, save({**old.state, **head}), seed=0, device="cpu", num_workers=0
    )
    segmentor, fresh, said = build(0), build(0), []
    report = _load_pretrained(segmentor, job, SimpleNamespace(say=said.append))
    assert said[0] == "released.pth was made for 171 classes: what tells the 150 apart starts fresh"
    assert sorted(report.missing) == sorted(head)
    assert torch.equal(segmentor.decode_head.cls_embed.weight, fresh.decode_head.cls_embed.weight)
    assert torch.equal(segmentor.decode_head.query_feat.weight, old.state["decode_head.query_feat.weight"])


@pytest.mark.slow
def test_the_command_line_judges_with_it_or_refuses_it_in_one_line(save, old, root: Path, tmp_path: Path):
    settings = [part for assignment in SMALL for part in ("--set", assignment)]

    def run(path: Path) -> subprocess.CompletedProcess:
        command = [sys.executable, "downstream/run.py", "ade20k", "--profile", "mini", "--checkpoint", str(path)]
        places = ["-o", str(tmp_path / "runs"), "--tracking-uri", f"sqlite:///{tmp_path / 'mlflow.db'}"]
        return subprocess.run([*command, *settings, "--limit", "1", *places], cwd=root, capture_output=True, text=True)

    done = run(save(CLASSES=ade20k_classes()))
    assert done.returncode == 0, done.stderr
    assert "0 missing, 0 unexpected" in done.stderr
    lost = {name: value for name, value in old.state.items() if name != "decode_head.query_feat.weight"}
    refused = run(save(lost))
    errors = [line for line in refused.stderr.splitlines() if line.startswith("error:")]
    assert (refused.returncode, len(errors)) == (2, 1), refused.stderr
    assert "1 missing (decode_head.query_feat.weight)" in errors[0]
    assert "Traceback" not in refused.stderr
