"""A checkpoint is told from its names and shapes: variant, branches, head, resolution, tables, leftovers."""

import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from models.checkpoint.describe import Description, describe, to_json, to_text
from models.checkpoint.names import published_name
from models.checkpoint.reader import open_checkpoint
from models.checkpoint.roles import Part, find_prefix, find_roles
from models.config import load_config
from models.inference import embed_bytes
from models.onepeace import OnePeace

CONFIG = load_config("tiny")


def our_state(*names: str, **changes: object) -> dict[str, Tensor]:
    return dict(OnePeace(CONFIG.branch(*(names or CONFIG.modalities), **changes)).state_dict())


def fairseq_state(*names: str, **changes: object) -> dict[str, Tensor]:
    return {published_name(name): value for name, value in our_state(*names, **changes).items()}


def vision_state() -> dict[str, Tensor]:
    state = fairseq_state("image", has_final_norm=False, has_projection=False)
    renamed = {name.removeprefix("encoder_wrapper."): value for name, value in state.items()}
    return {name.replace("fusion_model.", "encoder."): value for name, value in renamed.items()}


DECODER = {
    "decoder_wrapper.fusion_model.layers.0.self_attn.k_proj.weight": torch.zeros(8, 8),
    "decoder_wrapper.text_adapter.cls_embedding": torch.zeros(1, 1, 8),
    "decoder_wrapper.image_adapter.position_idx": torch.arange(17),
    "decoder_wrapper.fusion_model.version": torch.zeros(1),
    "decoder_image_embed.weight": torch.zeros(8, 32),
    "image_mask_token": torch.zeros(1, 8),
    "image_mask_head.bias": torch.zeros(32),
}
BUFFERS = {
    "encoder_wrapper.image_adapter.rp_bucket": torch.zeros(17, 17, dtype=torch.int64),
    "encoder_wrapper.fusion_model.version": torch.zeros(1),
}
POOLED_HEAD = {
    "classify_head.attn_pooling_func.q": torch.zeros(1, 1, 2, 16),
    "classify_head.attn_pooling_func.k_proj.weight": torch.zeros(32, 32),
    "classify_head.norm.weight": torch.zeros(32),
    "classify_head.classifier.0.weight": torch.zeros(64, 32),
    "classify_head.classifier.3.weight": torch.zeros(5, 64),
}
TWO_IMAGE_HEAD = {
    "classify_head.pooler.1.weight": torch.zeros(32, 32),
    "classify_head.classifier.0.weight": torch.zeros(64, 64),
    "classify_head.classifier.3.weight": torch.zeros(2, 64),
}
IMAGENET_HEAD = {"fc_norm.weight": torch.zeros(32), "head.weight": torch.zeros(10, 32)}
SEGMENTATION = {"decode_head.cls_embed.weight": torch.zeros(151, 9), "backbone.spm.stem.0.weight": torch.zeros(4)}
DETECTION = {"roi_heads.box_predictor.0.cls_score.weight": torch.zeros(81, 9), "proposal_generator.x": torch.zeros(1)}
VIDEO = {"cls_head.fc_cls.weight": torch.zeros(400, 9)}


def below(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + name: value for name, value in state.items()}


CASES = {
    "pretrained": ({**fairseq_state(), **DECODER, **BUFFERS}, "fairseq, pretrained", None),
    "retrieval": (fairseq_state("text", "image", has_per_layer_bias=True), "fairseq, retrieval", None),
    "pooled": ({**fairseq_state("audio", has_projection=False), **POOLED_HEAD}, "fairseq, fine-tuned with a", 5),
    "two images": ({**fairseq_state("text", "image"), **TWO_IMAGE_HEAD}, "fairseq, fine-tuned with a", 2),
    "vision": (vision_state(), "vision release", None),
    "ImageNet": ({**vision_state(), **IMAGENET_HEAD}, "ImageNet classifier", 10),
    "segmentation": ({**below("backbone.", vision_state()), **SEGMENTATION}, "segmentation", 151),
    "detection": ({**below("backbone.net.", vision_state()), **DETECTION}, "detection", 81),
    "video": ({**below("backbone.", vision_state()), **VIDEO}, "video", 400),
    "ours": (our_state("image"), "ours", None),
    "our fine-tuned": (
        {**below("model.", our_state("text")), "head.classifier.3.weight": torch.zeros(7, 64)},
        "ours, fine-tuned with a",
        7,
    ),
    "our classifier": ({**below("model.", our_state("image")), **IMAGENET_HEAD}, "ours, ImageNet classifier", 10),
    "our segmentor": ({**below("backbone.model.", our_state("image")), **SEGMENTATION}, "ours, segmentation", 151),
}


def described(folder: Path, state: dict[str, Tensor], **beside: object) -> Description:
    torch.save({"model": state, **beside}, folder / "x.pt")
    return describe(open_checkpoint(folder / "x.pt"))


@pytest.mark.parametrize("case", CASES)
def test_every_release_is_told(tmp_path: Path, case: str) -> None:
    state, variant, outputs = CASES[case]
    description = described(tmp_path, state)
    assert description.variant.startswith(variant)
    assert description.unknown == ()
    assert (description.head or {}).get("outputs") == outputs
    assert description.sizes == {"embed_dim": 32, "ffn_dim": 48, "num_layers": 4, "num_heads": 2}
    assert sum(description.names_by_part.values()) == len(state) == description.num_tensors


def test_branches_count_what_they_hold_when_loaded_alone(tmp_path: Path) -> None:
    description = described(tmp_path, {**fairseq_state(), **DECODER})
    assert list(description.branches) == ["text", "image", "audio"]
    for name, branch in description.branches.items():
        alone = sum(value.numel() for value in our_state(name).values()) - 1  # without the logit scale
        assert branch.num_parameters == alone
        assert (branch.tables, branch.has_final_norm, branch.has_projection) == ("shared", True, True)


def test_what_a_branch_needs_to_embed_follows_its_size_and_its_picture(tmp_path: Path) -> None:
    state = fairseq_state()
    small = described(tmp_path, state)
    for name, branch in small.branches.items():
        counted = embed_bytes(CONFIG, name, num_parameters=branch.num_parameters, bytes_per_value=2)
        assert branch.embed_bytes == counted > 2 * branch.num_parameters
    assert f"text {small.branches['text'].embed_bytes / 2**20:,.0f} MiB, image" in to_text(small)
    state["encoder_wrapper.image_adapter.rel_pos_table_list.0.weight"] = torch.zeros((2 * 6 - 1) ** 2 + 3, 2)
    assert described(tmp_path, state).branches["image"].embed_bytes > small.branches["image"].embed_bytes


def test_what_a_branch_of_an_unknown_size_needs_is_not_told(tmp_path: Path) -> None:
    state = dict(OnePeace(CONFIG.branch("text", embed_dim=64)).state_dict())
    unknown = described(tmp_path, state)
    assert unknown.branches["text"].embed_bytes is None
    assert re.search(r"^to embed +unknown$", to_text(unknown), re.MULTILINE)


def test_tables_norms_and_projections_are_told(tmp_path: Path) -> None:
    image = described(tmp_path, vision_state()).branches["image"]
    assert (image.tables, image.has_final_norm, image.has_projection) == ("shared", False, False)
    text = described(tmp_path, fairseq_state("text", has_per_layer_bias=True)).branches["text"]
    assert text.tables == "per layer"
    assert (
        described(tmp_path, {k: v for k, v in vision_state().items() if "table" not in k}).branches["image"].tables
        == "none"
    )


def test_resolution_and_vocabulary_are_read_off_the_tables(tmp_path: Path) -> None:
    state = fairseq_state()
    state["encoder_wrapper.image_adapter.rel_pos_table_list.0.weight"] = torch.zeros((2 * 6 - 1) ** 2 + 3, 2)
    branches = described(tmp_path, state).branches
    assert branches["image"].input == {"position_grid": 4, "table_grid": 6, "image_size_px": 96}
    assert branches["text"].input == {"vocabulary_size": 2048, "max_positions": 130, "bucket_size": 8}
    assert branches["audio"].input == {"bucket_size": 12}


def test_heads_are_told_in_detail(tmp_path: Path) -> None:
    assert described(tmp_path, CASES["pooled"][0]).head == {
        "kind": "classification", "pooling": "attention", "pooler": "no", "images": 1, "outputs": 5
    }  # fmt: skip
    two = described(tmp_path, CASES["two images"][0]).head
    assert two is not None
    assert (two["pooling"], two["pooler"], two["images"]) == ("class token", "yes", 2)


def test_decoder_leftovers_are_counted_apart(tmp_path: Path) -> None:
    description = described(tmp_path, {**fairseq_state(), **DECODER, **BUFFERS})
    assert description.num_decoder_parameters == 64 + 8 + 256 + 8 + 32
    assert description.names_by_part == {
        "encoder": len(fairseq_state()),
        "pretraining decoder": 5,
        "buffers that follow from the sizes": 4,
    }


def test_unknown_names_are_shown_and_never_counted_as_something_else(tmp_path: Path) -> None:
    hostile = "encoder_wrapper.\x1b[31mnew\npart"
    description = described(tmp_path, {**fairseq_state(), hostile: torch.zeros(2)})
    assert description.unknown == (hostile,)
    assert "\\x1b[31mnew\\npart" in to_text(description)


def test_a_file_without_our_encoder_says_so(tmp_path: Path) -> None:
    description = described(tmp_path, {"conv.weight": torch.zeros(2)})
    assert description.variant == "unknown: no ONE-PEACE encoder in it"
    assert description.branches == {}
    assert to_text(description)


def test_text_fits_a_screen_and_json_holds_everything(tmp_path: Path) -> None:
    settings = {f"key{i}": {"deep": list(range(100))} for i in range(50)}
    state = {**fairseq_state(has_per_layer_bias=True), **DECODER, **{f"x{i}.y": torch.zeros(1) for i in range(99)}}
    description = described(tmp_path, state, cfg=settings, extra_state={"epoch": 1})
    lines = to_text(description).splitlines()
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 240
    read = json.loads(to_json(description))
    assert read["config"] == settings
    assert read["others"] == ["extra_state"]
    assert read["container"] == "fairseq"
    assert len(read["unknown"]) == 99
    assert read["branches"]["text"]["tables"] == "per layer"


def test_types_are_counted(tmp_path: Path) -> None:
    state = {"a": torch.zeros(2, dtype=torch.bfloat16), "b": torch.zeros(3), "c": torch.zeros(1)}
    description = described(tmp_path, state)
    assert description.dtypes == {"bfloat16": 1, "float32": 2}
    assert description.num_bytes == 4 + 12 + 4


def test_metadata_of_safetensors_is_shown_as_settings(tmp_path: Path) -> None:
    save_file(our_state("image"), tmp_path / "x.safetensors", metadata={"sizes": '{"a": 1}', "source": "y.pt"})
    description = describe(open_checkpoint(tmp_path / "x.safetensors"))
    assert description.config == {"sizes": {"a": 1}, "source": "y.pt"}
    assert (description.container, description.encoding) == ("safetensors", "safetensors")


def test_roles_name_the_modality_and_the_wrapper() -> None:
    state = below("backbone.model.", our_state("image", "text"))
    assert find_prefix(state) == "backbone.model."
    roles = find_roles(state)
    assert {role.part for role in roles.values()} == {Part.ENCODER}
    assert {role.modality for role in roles.values()} == {None, "image", "text"}
    shared = {role.ours for role in roles.values() if role.modality is None}
    assert "encoder.layers.0.attn_norm.weight" in shared
    assert not [name for name in shared if "ffn." in name]


@pytest.mark.golden
@pytest.mark.parametrize("key", ["retrieval_val_shared_table", "retrieval_vl_per_layer_table"])
def test_published_names_are_all_known(golden_dir: Path, key: str) -> None:
    names = json.loads((golden_dir / "13_full_entries_uncollapsed.json").read_text(encoding="utf-8"))[key]
    assert {role.part for role in find_roles(names).values()} == {Part.ENCODER, Part.DERIVED}


@pytest.mark.golden
def test_names_of_both_pretraining_stages_are_all_known(golden_dir: Path) -> None:
    report = json.loads((golden_dir / "05b_stage1_to_stage2_keys.json").read_text(encoding="utf-8"))["report"]
    names = {name for names in report.values() for name in names}
    roles = find_roles(names)
    assert not [name for name, role in roles.items() if role.part is Part.UNKNOWN]
    decoder = {name for name, role in roles.items() if role.part is Part.DECODER}
    assert len(decoder) > 60
    assert all("decoder" in name or "mask" in name for name in decoder)
