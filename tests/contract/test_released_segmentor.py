"""The published segmentation file, written down by hand as MMSegmentation 0.x names it, loads without a rest."""

import json
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from downstream.config import load_task_config
from downstream.engines.settings import SegmentationProfile
from downstream.engines.size import measure
from models.config import load_config, override

Entries = dict[str, tuple[int, ...]]

NUM_CLASSES = 150
PAPER_NAMES = 1463
SMALL = (
    *("head.channels=32", "head.num_heads=2", "head.ffn_dim=48", "head.num_queries=7", "size=tiny"),
    *("head.num_encoder_layers=2", "head.num_decoder_layers=3", "adapter.num_extra_extractors=2"),
    *("geometry.crop_px=64", "geometry.stride_px=32", "adapter.num_heads=2", "adapter.conv_planes=4"),
)


@dataclass(frozen=True)
class Numbers:
    """What fixes the names and shapes of the published segmentor."""

    dim: int
    ffn_dim: int
    layers: int
    heads: int
    grid: int
    planes: int
    points: int
    deform_heads: int
    deform_ratio: float
    conv_ffn_ratio: float


def linear(name: str, into: int, out: int) -> Entries:
    return {f"{name}.weight": (out, into), f"{name}.bias": (out,)}


def norm(name: str, dim: int) -> Entries:
    return {f"{name}.weight": (dim,), f"{name}.bias": (dim,)}


def conv(name: str, into: int, out: int, kernel: int) -> Entries:
    return {f"{name}.weight": (out, into, kernel, kernel), f"{name}.bias": (out,)}


def batch_norm(name: str, dim: int) -> Entries:
    statistics = {f"{name}.running_mean": (dim,), f"{name}.running_var": (dim,), f"{name}.num_batches_tracked": ()}
    return {**norm(name, dim), **statistics}


def deformable(name: str, dim: int, value_dim: int, samples: int) -> Entries:
    """Deformable attention; `samples` is heads times levels times points."""
    return {
        **linear(f"{name}.sampling_offsets", dim, 2 * samples),
        **linear(f"{name}.attention_weights", dim, samples),
        **linear(f"{name}.value_proj", dim, value_dim),
        **linear(f"{name}.output_proj", value_dim, dim),
    }


def published_encoder(n: Numbers) -> Entries:
    """The vision branch of the published segmentation backbone: each layer has its own table and its buckets."""
    stem = "image_adapter.embed_images"
    entries = {
        "image_adapter.cls_embedding": (1, 1, n.dim),
        "image_adapter.pos_embed": (n.grid**2 + 1, n.dim),
        **conv(f"{stem}.0", 3, n.dim // 4, 4),
        **norm(f"{stem}.1.layer_norm", n.dim // 4),
        **conv(f"{stem}.3", n.dim // 4, n.dim // 4, 2),
        **norm(f"{stem}.4.layer_norm", n.dim // 4),
        **conv(f"{stem}.6", n.dim // 4, n.dim, 2),
    }
    for layer in (f"encoder.layers.{number}" for number in range(n.layers)):
        entries |= {
            f"{layer}.gamma_1": (n.dim,),
            f"{layer}.gamma_2": (n.dim,),
            f"{layer}.rp_bucket": (n.grid**2 + 1, n.grid**2 + 1),
            f"{layer}.rel_pos_table.weight": ((2 * n.grid - 1) ** 2 + 3, n.heads),
            **norm(f"{layer}.self_attn.ln", n.dim),
            f"{layer}.self_attn.k_proj.weight": (n.dim, n.dim),
            **linear(f"{layer}.self_attn.v_proj", n.dim, n.dim),
            **linear(f"{layer}.self_attn.q_proj", n.dim, n.dim),
            **linear(f"{layer}.self_attn.out_proj", n.dim, n.dim),
            **norm(f"{layer}.self_attn_layer_norm", n.dim),
            **norm(f"{layer}.final_layer_norm", n.dim),
            f"{layer}.image_ffn.0.wi_0.weight": (n.ffn_dim, n.dim),
            f"{layer}.image_ffn.0.wi_1.weight": (n.ffn_dim, n.dim),
            **norm(f"{layer}.image_ffn.2", n.ffn_dim),
            **linear(f"{layer}.image_ffn.3", n.ffn_dim, n.dim),
        }
    return entries


def published_adapter(n: Numbers) -> Entries:
    """The published ViT-Adapter."""
    blocks = {
        **{f"stem.{place}": (into, n.planes) for place, into in ((0, 3), (3, n.planes), (6, n.planes))},
        **{f"conv{level}.0": (n.planes * w, n.planes * v) for level, w, v in ((2, 1, 2), (3, 2, 4), (4, 4, 4))},
    }
    entries: Entries = {"level_embed": (3, n.dim)}
    for name, (into, out) in blocks.items():
        part, _, place = name.partition(".")
        entries[f"spm.{name}.weight"] = (out, into, 3, 3)
        entries |= batch_norm(f"spm.{part}.{int(place) + 1}", out)
    for level, width in ((1, 1), (2, 2), (3, 4), (4, 4)):
        entries |= {**conv(f"spm.fc{level}", n.planes * width, n.dim, 1), **batch_norm(f"norm{level}", n.dim)}
    for number in range(4):
        entries |= injector(f"interactions.{number}.injector", n) | extractor(f"interactions.{number}.extractor", n)
    entries |= extractor("interactions.3.extra_extractors.0", n) | extractor("interactions.3.extra_extractors.1", n)
    return {**entries, "up.weight": (n.dim, n.dim, 2, 2), "up.bias": (n.dim,)}


def injector(name: str, n: Numbers) -> Entries:
    value_dim, samples = int(n.dim * n.deform_ratio), n.deform_heads * 3 * n.points
    norms = {**norm(f"{name}.query_norm", n.dim), **norm(f"{name}.feat_norm", n.dim)}
    return {f"{name}.gamma": (n.dim,), **norms, **deformable(f"{name}.attn", n.dim, value_dim, samples)}


def extractor(name: str, n: Numbers) -> Entries:
    hidden = int(n.dim * n.conv_ffn_ratio)
    return {
        **norm(f"{name}.query_norm", n.dim),
        **norm(f"{name}.feat_norm", n.dim),
        **deformable(f"{name}.attn", n.dim, int(n.dim * n.deform_ratio), n.deform_heads * n.points),
        **norm(f"{name}.ffn_norm", n.dim),
        **linear(f"{name}.ffn.fc1", n.dim, hidden),
        f"{name}.ffn.dwconv.dwconv.weight": (hidden, 1, 3, 3),
        f"{name}.ffn.dwconv.dwconv.bias": (hidden,),
        **linear(f"{name}.ffn.fc2", hidden, n.dim),
    }


def published_head(profile: SegmentationProfile, dim: int, *, num_classes: int) -> Entries:
    """Mask2Former as MMSegmentation 0.x names it."""
    head, width = profile.head, profile.head.channels
    pixels = "pixel_decoder"
    entries: Entries = {
        f"{pixels}.level_encoding.weight": (3, width),
        **conv(f"{pixels}.mask_feature", width, width, 1),
    }
    for level in range(3):
        entries |= {**conv(f"{pixels}.input_convs.{level}.conv", dim, width, 1)}
        entries |= {**norm(f"{pixels}.input_convs.{level}.gn", width)}
    for part, into, kernel in (("lateral_convs", dim, 1), ("output_convs", width, 3)):
        entries[f"{pixels}.{part}.0.conv.weight"] = (width, into, kernel, kernel)
        entries |= norm(f"{pixels}.{part}.0.gn", width)
    for layer in (f"{pixels}.encoder.layers.{number}" for number in range(head.num_encoder_layers)):
        entries |= deformable(f"{layer}.attentions.0", width, width, head.num_heads * 3 * 4)
        entries |= {**feed_forward(layer, width, head.ffn_dim), **norms(layer, width, 2)}
    for layer in (f"transformer_decoder.layers.{number}" for number in range(head.num_decoder_layers)):
        for name in (f"{layer}.attentions.0.attn", f"{layer}.attentions.1.attn"):
            entries |= {f"{name}.in_proj_weight": (3 * width, width), f"{name}.in_proj_bias": (3 * width,)}
            entries |= linear(f"{name}.out_proj", width, width)
        entries |= {**feed_forward(layer, width, head.ffn_dim), **norms(layer, width, 3)}
    entries |= norm("transformer_decoder.post_norm", width)
    entries |= {f"query_{what}.weight": (head.num_queries, width) for what in ("embed", "feat")}
    entries |= {"level_embed.weight": (3, width), **linear("cls_embed", width, num_classes + 1)}
    return entries | {k: v for place in (0, 2, 4) for k, v in linear(f"mask_embed.{place}", width, width).items()}


def feed_forward(layer: str, width: int, hidden: int) -> Entries:
    return {**linear(f"{layer}.ffns.0.layers.0.0", width, hidden), **linear(f"{layer}.ffns.0.layers.1", hidden, width)}


def norms(layer: str, width: int, count: int) -> Entries:
    return {key: shape for number in range(count) for key, shape in norm(f"{layer}.norms.{number}", width).items()}


def published_segmentor(profile: SegmentationProfile, *, num_classes: int = NUM_CLASSES) -> Entries:
    size = load_config(profile.size)
    numbers = Numbers(
        dim=size.embed_dim,
        ffn_dim=size.ffn_dim,
        layers=size.num_layers,
        heads=size.num_heads,
        grid=profile.geometry.crop_px // 16,
        planes=profile.adapter.conv_planes,
        points=profile.adapter.num_points,
        deform_heads=profile.adapter.num_heads,
        deform_ratio=profile.adapter.value_ratio,
        conv_ffn_ratio=profile.adapter.ffn_ratio,
    )
    backbone = {**published_encoder(numbers), **published_adapter(numbers)}
    head = published_head(profile, size.embed_dim, num_classes=num_classes)
    return {f"backbone.{k}": v for k, v in backbone.items()} | {f"decode_head.{k}": v for k, v in head.items()}


def read_profile(name: str, *assignments: str) -> SegmentationProfile:
    return SegmentationProfile.parse(override(load_task_config("ade20k").profiles[name], assignments), where="test")


@pytest.fixture(scope="module")
def released():
    """The door to the OpenMMLab stack."""
    from downstream.engines.openmmlab import released

    return released


@pytest.fixture(scope="module")
def build_empty(released):
    """Build a segmentor that has shapes and no numbers."""
    from downstream.engines.openmmlab.model import MODELS, segmentor_config

    def build(profile: SegmentationProfile) -> nn.Module:
        with torch.device("meta"):
            return MODELS.build(segmentor_config(profile, num_classes=NUM_CLASSES))

    return build


def empty_state(entries: Entries) -> dict[str, Tensor]:
    return {name: torch.empty(shape, device="meta") for name, shape in entries.items()}


@pytest.mark.golden
def test_the_backbone_written_down_by_hand_is_the_published_one(golden_dir: Path):
    manifest = json.loads((golden_dir / "12g_vit_adapter.json").read_text(encoding="utf-8"))
    config = manifest["config"]
    numbers = Numbers(
        dim=config["embed_dim"],
        ffn_dim=config["ffn_embed_dim"],
        layers=config["layers"],
        heads=config["attention_heads"],
        grid=config["bucket_size"],
        planes=config["conv_inplane"],
        points=config["n_points"],
        deform_heads=config["deform_num_heads"],
        deform_ratio=config["deform_ratio"],
        conv_ffn_ratio=config["cffn_ratio"],
    )
    ours = {**published_encoder(numbers), **published_adapter(numbers)}
    assert ours == {name: tuple(shape) for name, shape in manifest["keys"].items()}


def test_the_whole_published_segmentor_is_accounted_for_at_full_size(released, build_empty):
    profile = read_profile("paper")
    entries = published_segmentor(profile)
    buffers = ("rp_bucket", "running_mean", "running_var", "num_batches_tracked")
    count = sum(torch.Size(shape).numel() for name, shape in entries.items() if not name.endswith(buffers))
    size = measure(profile, num_classes=NUM_CLASSES)
    assert (len(entries), count) == (PAPER_NAMES, size.total)
    segmentor = build_empty(profile)
    report = released.load_released(segmentor, empty_state(entries))
    assert set(report.loaded) == set(segmentor.state_dict())
    assert (report.missing, report.unexpected, report.reshaped) == ((), (), ())
    (left_out,) = report.left_out
    assert set(left_out.names) == {f"backbone.encoder.layers.{number}.rp_bucket" for number in range(40)}
    assert len(report.loaded) + len(left_out.names) == len(entries)


def test_the_layers_of_the_head_are_named_as_the_generic_layer_of_mmcv_names_them(released):
    from mmcv.cnn.bricks.transformer import BaseTransformerLayer

    head = read_profile("paper").head
    feed = {"type": "FFN", "embed_dims": head.channels, "feedforward_channels": head.ffn_dim, "num_fcs": 2}
    common = {"embed_dims": head.channels, "num_heads": head.num_heads, "batch_first": True}
    deform = {"type": "MultiScaleDeformableAttention", **common, "num_levels": 3, "num_points": 4}
    attend = {"type": "MultiheadAttention", **common}
    orders = {
        "pixel_decoder.encoder.layers.5.": (deform, ("self_attn", "norm", "ffn", "norm")),
        "transformer_decoder.layers.8.": (attend, ("cross_attn", "norm", "self_attn", "norm", "ffn", "norm")),
    }
    entries = published_head(read_profile("paper"), 1536, num_classes=NUM_CLASSES)
    for prefix, (attention, order) in orders.items():
        layer = BaseTransformerLayer(attention, feed, operation_order=order, batch_first=True)
        assert [attention.operation_name for attention in layer.attentions] == [o for o in order if "attn" in o]
        ours = {name.removeprefix(prefix): shape for name, shape in entries.items() if name.startswith(prefix)}
        assert ours == {name: tuple(value.shape) for name, value in layer.state_dict().items()}


@pytest.fixture(scope="module")
def small(build_empty) -> SimpleNamespace:
    profile = read_profile("mini", *SMALL)
    return SimpleNamespace(profile=profile, entries=published_segmentor(profile), segmentor=build_empty(profile))


VICTIMS = (
    "backbone.encoder.layers.3.rel_pos_table.weight",
    "backbone.encoder.layers.0.self_attn.v_proj.bias",
    "backbone.norm2.running_var",
    "backbone.interactions.3.extra_extractors.1.ffn.dwconv.dwconv.weight",
    "decode_head.pixel_decoder.encoder.layers.1.attentions.0.sampling_offsets.bias",
    "decode_head.pixel_decoder.encoder.layers.1.ffns.0.layers.1.weight",
    "decode_head.pixel_decoder.level_encoding.weight",
    "decode_head.transformer_decoder.layers.2.attentions.1.attn.in_proj_bias",
    "decode_head.transformer_decoder.layers.0.norms.2.weight",
    "decode_head.transformer_decoder.post_norm.bias",
    "decode_head.query_feat.weight",
)


@pytest.mark.parametrize("victim", VICTIMS)
def test_one_name_too_few_is_refused_in_one_line(released, small, victim: str):
    state = empty_state({name: shape for name, shape in small.entries.items() if name != victim})
    refuse(released, small.segmentor, state, match=r"1 missing \(.+\), 0 unexpected, 0 of another shape")


def test_tables_of_one_layer_do_not_stand_for_those_of_all(released, small):
    tables = [name for name in small.entries if name.endswith("rel_pos_table.weight")][1:]
    state = empty_state({name: shape for name, shape in small.entries.items() if name not in tables})
    refuse(released, small.segmentor, state, match="3 missing")


@pytest.mark.parametrize(
    "name",
    [
        "decode_head.conv_seg.weight",
        "decode_head.transformer_decoder.layers.0.attentions.2.attn.in_proj_bias",
        "decode_head.transformer_decoder.layers.3.norms.0.weight",
        "decode_head.pixel_decoder.encoder.layers.0.attentions.1.value_proj.bias",
        "decode_head.pixel_decoder.encoder.post_norm.weight",
        "decode_head.transformer_decoder.layers.0.ffns.1.layers.1.bias",
        "auxiliary_head.conv_seg.bias",
        "backbone.encoder.layer_norm.weight",
        "backbone.norm5.weight",
        "x\nerror: y",
    ],
)
def test_one_name_too_many_is_refused_by_the_name_in_the_file(released, small, name: str):
    state = empty_state({**small.entries, name: (32,)})
    message = refuse(released, small.segmentor, state, match="0 missing, 1 unexpected")
    assert name.replace("\n", "\\n") in message or name == "backbone.norm5.weight"


def test_two_names_for_one_parameter_are_refused(released, small):
    victim = "decode_head.transformer_decoder.layers.0.attentions.0.attn.in_proj_bias"
    state = empty_state({**small.entries, victim.replace("attentions.0", "cross_attn"): small.entries[victim]})
    refuse(released, small.segmentor, state, match="has two names for decode_head.transformer_decoder.layers.0.cross")


@pytest.mark.parametrize(
    "victim", [*VICTIMS, "backbone.encoder.layers.2.rp_bucket", "backbone.image_adapter.pos_embed"]
)
def test_a_wrong_shape_is_refused_and_nothing_is_resized(released, small, victim: str):
    shape = small.entries[victim]
    state = empty_state({**small.entries, victim: (shape[0] + 1, *shape[1:])})
    message = refuse(released, small.segmentor, state, match="0 missing, 0 unexpected, 1 of another shape")
    assert f"{victim} is {(shape[0] + 1, *shape[1:])}, not {shape}" in message


def test_a_file_of_another_resolution_or_number_of_classes_is_refused(released, small):
    larger = published_segmentor(read_profile("mini", *SMALL, "geometry.crop_px=96"))
    refuse(released, small.segmentor, empty_state(larger), match="0 missing, 0 unexpected, 9 of another shape")
    stuff = published_segmentor(small.profile, num_classes=171)
    refuse(released, small.segmentor, empty_state(stuff), match=r"cls_embed.weight is \(172, 32\), not \(151, 32\)")


def refuse(released, segmentor: nn.Module, state: dict[str, Tensor], *, match: str) -> str:
    with pytest.raises(ValueError, match=match) as caught:
        released.load_released(segmentor, state)
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith("nothing was loaded")
    return str(caught.value)
