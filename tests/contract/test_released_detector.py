"""The published detection file, written down by hand as detectron2 names it, loads without a rest.

No file was at hand: the names follow from the published config and modules and from detectron2's, and the count of
parameters is the paper's (1.59 B, table 4).
"""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from downstream.config import ProfileName, load_task_config
from downstream.engines.openmmlab.detection_settings import DetectionProfile
from downstream.engines.openmmlab.detection_size import measure_detector
from models.config import load_config, override

Entries = dict[str, tuple[int, ...]]

NUM_CLASSES = 80
PAPER_PARAMETERS = 1_588_104_254
SMALL = ("size=tiny", "cascade.channels=8", "cascade.fc_dim=12", "cascade.num_convs=2", "picture.global_layers=[1,3]")


def linear(name: str, into: int, out: int) -> Entries:
    return {f"{name}.weight": (out, into), f"{name}.bias": (out,)}


def norm(name: str, dim: int) -> Entries:
    return {f"{name}.weight": (dim,), f"{name}.bias": (dim,)}


def conv(name: str, into: int, out: int, kernel: int) -> Entries:
    return {f"{name}.weight": (out, into, kernel, kernel), f"{name}.bias": (out,)}


def normed_conv(name: str, into: int, out: int, kernel: int) -> Entries:
    """A convolution without bias, and the norm that detectron2 keeps inside it."""
    return {f"{name}.weight": (out, into, kernel, kernel), **norm(f"{name}.norm", out)}


def enlarging(name: str, into: int, out: int) -> Entries:
    return {f"{name}.weight": (into, out, 2, 2), f"{name}.bias": (out,)}


def published_net(profile: DetectionProfile) -> Entries:
    """The published backbone: one shared table, split positions in each layer, no class vector."""
    size, picture = load_config(profile.size), profile.picture
    dim, heads, own = size.embed_dim, size.num_heads, size.modalities["image"]["bias_grid_size"]
    stem = "image_adapter.embed_images"
    entries = {
        "image_adapter.pos_embed": (picture.grid**2 + 1, dim),
        "image_adapter.rp_bucket": (picture.grid**2, picture.grid**2),
        "image_adapter.rp_bucket_window": (picture.window**2, picture.window**2),
        "image_adapter.rel_pos_table.weight": ((2 * own - 1) ** 2 + 3, heads),
        **conv(f"{stem}.0", 3, dim // 4, 4),
        **norm(f"{stem}.1.layer_norm", dim // 4),
        **conv(f"{stem}.3", dim // 4, dim // 4, 2),
        **norm(f"{stem}.4.layer_norm", dim // 4),
        **conv(f"{stem}.6", dim // 4, dim, 2),
    }
    for number in range(size.num_layers):
        layer = f"encoder.layers.{number}"
        side = picture.grid if number in picture.global_layers else picture.window
        entries |= {
            f"{layer}.gamma_1": (dim,),
            f"{layer}.gamma_2": (dim,),
            f"{layer}.self_attn.rel_pos_h": (2 * side - 1, dim // heads),
            f"{layer}.self_attn.rel_pos_w": (2 * side - 1, dim // heads),
            **norm(f"{layer}.self_attn.ln", dim),
            f"{layer}.self_attn.k_proj.weight": (dim, dim),
            **linear(f"{layer}.self_attn.v_proj", dim, dim),
            **linear(f"{layer}.self_attn.q_proj", dim, dim),
            **linear(f"{layer}.self_attn.out_proj", dim, dim),
            **norm(f"{layer}.self_attn_layer_norm", dim),
            **norm(f"{layer}.final_layer_norm", dim),
            f"{layer}.image_ffn.0.wi_0.weight": (size.ffn_dim, dim),
            f"{layer}.image_ffn.0.wi_1.weight": (size.ffn_dim, dim),
            **norm(f"{layer}.image_ffn.2", size.ffn_dim),
            **linear(f"{layer}.image_ffn.3", size.ffn_dim, dim),
        }
    return {f"backbone.net.{name}": shape for name, shape in entries.items()}


def published_pyramid(dim: int, width: int) -> Entries:
    """The simple feature pyramid: stages named by the logarithm of their stride."""
    half, quarter = dim // 2, dim // 4
    entries = {
        **enlarging("simfp_2.0", dim, half),
        **norm("simfp_2.1", half),
        **enlarging("simfp_2.3", half, quarter),
        **enlarging("simfp_3.0", dim, half),
    }
    for stage, first, into in ((2, 4, quarter), (3, 1, half), (4, 0, dim), (5, 1, dim)):
        entries |= normed_conv(f"simfp_{stage}.{first}", into, width, 1)
        entries |= normed_conv(f"simfp_{stage}.{first + 1}", width, width, 3)
    return {f"backbone.{name}": shape for name, shape in entries.items()}


def published_heads(profile: DetectionProfile, *, num_classes: int) -> Entries:
    """Proposals, three box heads and one mask head."""
    cascade, width = profile.cascade, profile.cascade.channels
    head = "proposal_generator.rpn_head"
    entries = {**conv(f"{head}.objectness_logits", width, 3, 1), **conv(f"{head}.anchor_deltas", width, 12, 1)}
    for number in range(cascade.num_rpn_convs):
        entries |= conv(f"{head}.conv.conv{number}", width, width, 3)
    for stage in range(3):
        box, predictor = f"roi_heads.box_head.{stage}", f"roi_heads.box_predictor.{stage}"
        for number in range(cascade.num_convs):
            entries |= normed_conv(f"{box}.conv{number + 1}", width, width, 3)
        entries |= linear(f"{box}.fc1", 49 * width, cascade.fc_dim)
        entries |= linear(f"{predictor}.cls_score", cascade.fc_dim, num_classes + 1)
        entries |= linear(f"{predictor}.bbox_pred", cascade.fc_dim, 4)
    for number in range(cascade.num_convs):
        entries |= normed_conv(f"roi_heads.mask_head.mask_fcn{number + 1}", width, width, 3)
    entries |= enlarging("roi_heads.mask_head.deconv", width, width)
    return entries | conv("roi_heads.mask_head.predictor", width, num_classes, 1)


def published_detector(profile: DetectionProfile, *, num_classes: int = NUM_CLASSES) -> Entries:
    dim = load_config(profile.size).embed_dim
    return {
        **published_net(profile),
        **published_pyramid(dim, profile.cascade.channels),
        **published_heads(profile, num_classes=num_classes),
    }


def read_profile(name: ProfileName, *assignments: str) -> DetectionProfile:
    values = override(load_task_config("coco_det").profiles[name], assignments)
    return DetectionProfile.parse(values, where="test")


def build_empty(profile: DetectionProfile) -> Any:
    """Build a detector that has shapes and no numbers."""
    from mmdet.registry import MODELS

    from downstream.engines.openmmlab.detection_model import detector_config

    with torch.device("meta"):
        return MODELS.build(detector_config(profile, num_classes=NUM_CLASSES))


def empty_state(entries: Entries) -> dict[str, Tensor]:
    return {name: torch.empty(shape, device="meta") for name, shape in entries.items()}


@pytest.fixture(scope="module")
def released() -> Any:
    """The door to the OpenMMLab stack."""
    from downstream.engines.openmmlab import detection_released

    return detection_released


@pytest.fixture(scope="module")
def small(released: Any) -> SimpleNamespace:
    profile = read_profile("mini", *SMALL)
    return SimpleNamespace(profile=profile, entries=published_detector(profile), detector=build_empty(profile))


def test_the_whole_published_detector_is_accounted_for_at_full_size(released: Any) -> None:
    profile = read_profile("paper")
    entries = published_detector(profile)
    count = sum(torch.Size(shape).numel() for name, shape in entries.items() if "rp_bucket" not in name)
    size = measure_detector(profile, num_classes=NUM_CLASSES)
    assert count == size.total == PAPER_PARAMETERS
    detector = build_empty(profile)
    report = released.load_released(detector, empty_state(entries))
    assert set(report.loaded) == set(detector.state_dict())
    assert (report.missing, report.unexpected, report.reshaped) == ((), (), ())
    (left_out,) = report.left_out
    assert set(left_out.names) == {f"backbone.net.image_adapter.rp_bucket{what}" for what in ("", "_window")}
    assert len(report.loaded) + len(left_out.names) == len(entries)


@pytest.mark.parametrize("name", ["paper", "mini"])
def test_counts_without_torch_equal_the_built_detector(name: ProfileName) -> None:
    profile = read_profile(name)
    size, detector = measure_detector(profile, num_classes=NUM_CLASSES), build_empty(profile)

    def count(module: nn.Module) -> int:
        return sum(parameter.numel() for parameter in module.parameters())

    parts = (detector.backbone, detector.neck, detector.rpn_head, detector.roi_head)
    assert (size.backbone, size.pyramid, size.proposals, size.heads) == tuple(map(count, parts))


def test_every_name_lands_where_its_numbers_belong(released: Any, small: SimpleNamespace) -> None:
    """Shapes alone would not notice two stages or two convolutions in each other's places."""
    sources = released.rename_released(tuple(small.entries)).sources
    expected = {
        "backbone.model.encoder.layers.2.attn_norm.weight": "backbone.net.encoder.layers.2.self_attn_layer_norm.weight",
        "backbone.relative.3.height": "backbone.net.encoder.layers.3.self_attn.rel_pos_h",
        "backbone.relative.3.width": "backbone.net.encoder.layers.3.self_attn.rel_pos_w",
        "neck.stages.0.5.norm.bias": "backbone.simfp_2.5.norm.bias",
        "neck.stages.3.1.weight": "backbone.simfp_5.1.weight",
        "rpn_head.rpn_conv.1.conv.weight": "proposal_generator.rpn_head.conv.conv1.weight",
        "rpn_head.rpn_cls.bias": "proposal_generator.rpn_head.objectness_logits.bias",
        "roi_head.bbox_head.2.shared_convs.0.ln.weight": "roi_heads.box_head.2.conv1.norm.weight",
        "roi_head.bbox_head.0.fc_reg.weight": "roi_heads.box_predictor.0.bbox_pred.weight",
        "roi_head.mask_head.0.convs.1.conv.weight": "roi_heads.mask_head.mask_fcn2.weight",
        "roi_head.mask_head.0.conv_logits.bias": "roi_heads.mask_head.predictor.bias",
    }
    assert {ours: sources[ours] for ours in expected} == expected


def test_a_file_is_known_by_its_names(released: Any, small: SimpleNamespace, tmp_path: Any) -> None:
    from models.checkpoint.load import save_state
    from models.checkpoint.reader import open_checkpoint

    theirs = {name: torch.zeros(shape) for name, shape in small.entries.items()}
    ours = {name: torch.zeros(value.shape) for name, value in small.detector.state_dict().items()}
    for name, state, expected in (("theirs", theirs, True), ("ours", ours, False)):
        save_state(state, tmp_path / f"{name}.safetensors", metadata={})
        assert released.is_released(open_checkpoint(tmp_path / f"{name}.safetensors")) is expected


@pytest.mark.parametrize("name", ["pixel_mean", "proposal_generator.anchor_generator.cell_anchors.4"])
def test_buffers_of_older_versions_are_left_out(released: Any, small: SimpleNamespace, name: str) -> None:
    report = released.load_released(small.detector, empty_state({**small.entries, name: (3, 4)}))
    assert name in report.left_out[0].names


VICTIMS = (
    "backbone.net.image_adapter.rel_pos_table.weight",
    "backbone.net.encoder.layers.3.self_attn.rel_pos_w",
    "backbone.simfp_2.1.bias",
    "backbone.simfp_5.2.norm.weight",
    "proposal_generator.rpn_head.conv.conv1.bias",
    "roi_heads.box_head.2.conv2.norm.bias",
    "roi_heads.box_predictor.1.cls_score.weight",
    "roi_heads.mask_head.deconv.bias",
)


@pytest.mark.parametrize("victim", VICTIMS)
def test_a_name_too_few_or_of_another_shape_is_refused_with_the_account(
    released: Any, small: SimpleNamespace, victim: str
) -> None:
    state = empty_state({name: shape for name, shape in small.entries.items() if name != victim})
    refuse(
        released,
        small,
        state,
        match=rf"{len(small.entries) - 1} names fit, 1 missing \(.+\), 0 unexpected, 0 of another",
    )
    shape = small.entries[victim]
    state = empty_state({**small.entries, victim: (shape[0] + 1, *shape[1:])})
    message = refuse(released, small, state, match="0 missing, 0 unexpected, 1 of another shape")
    assert victim in message


@pytest.mark.parametrize(
    "name",
    [
        "backbone.net.image_adapter.cls_embedding",
        "backbone.net.encoder.layer_norm.weight",
        "backbone.net.encoder.layers.9.gamma_1",
        "backbone.simfp_6.0.weight",
        "roi_heads.box_head.3.fc1.weight",
        "roi_heads.keypoint_head.score.weight",
        "nonsense",
    ],
)
def test_a_name_too_many_is_refused(released: Any, small: SimpleNamespace, name: str) -> None:
    message = refuse(released, small, empty_state({**small.entries, name: (2,)}), match="0 missing, 1 unexpected")
    assert name in message


def test_another_resolution_or_number_of_classes_is_refused(released: Any, small: SimpleNamespace) -> None:
    larger = published_detector(read_profile("mini", *SMALL, "picture.side_px=192"))
    refuse(released, small, empty_state(larger), match="0 missing, 0 unexpected, 6 of another shape")
    fewer = published_detector(small.profile, num_classes=79)
    refuse(released, small, empty_state(fewer), match="8 of another shape")


def refuse(released: Any, small: SimpleNamespace, state: dict[str, Tensor], *, match: str) -> str:
    with pytest.raises(ValueError, match=match) as caught:
        released.load_released(small.detector, state)
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith("nothing was loaded")
    return str(caught.value)
