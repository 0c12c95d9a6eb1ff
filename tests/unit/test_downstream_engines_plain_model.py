"""A model is what its file says: loaded whole, refused where it is another thing, and the same after a round trip."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor, nn

from downstream.engines.plain.model import (
    Loaded,
    Retriever,
    build_trainee,
    describe_origin,
    load_finetuned,
    load_pretrained,
    save_finetuned,
)
from downstream.engines.plain.settings import SettingProfile
from models.checkpoint.load import save_state
from models.checkpoint.names import published_name
from models.config import load_config
from models.heads import Classifier, ImageClassifier, ImageHeadConfig, Pooling
from models.modalities.audio import Waveforms
from models.onepeace import build_model

TINY = load_config("tiny")
CLASSES = ("cat", "cow", "dog")
TRAINING: dict[str, Any] = {
    "data": ["here"],
    "validation": "here/val",
    "select_by": "accuracy",
    "steps": 10,
    "batch_size": 4,
    "micro_batch_size": 4,
    "optim": {"lr": 1e-3, "warmup_share": 0.1},
    "layer_decay": 0.9,
    "drop_path_rate": 0.25,
    "state_interval": 5,
}
AUDIO = {"protocol": "audio", "arguments": {"max_duration_s": 15}}
TEXT = {"protocol": "text"}


def image(size_px: int) -> dict[str, Any]:
    return {"protocol": "image-square", "arguments": {"size_px": size_px}}


def setting(*, head: dict[str, Any] | None = None, **inputs: Any) -> SettingProfile:
    values = {"protocol": "x", "inputs": inputs, "batch_size": 2, "head": head, "training": TRAINING}
    return SettingProfile.parse(values, where="here")


RETRIEVAL = setting(image=image(64), text=TEXT)
CLASSIFICATION = setting(head={"pooled_modality": "audio"}, audio=AUDIO)
PICTURES = setting(head={"pooled_modality": "image", "is_linear": True}, image=image(64))
GROUNDING = setting(head={"pooled_modality": "image"}, image=image(64), text=TEXT)
TABLES = "image_adapter.rel_pos_table"  # in the classifier form, of which all layers share one


def write_pretrained(folder: Path, *, seed: int = 0, has_decoder: bool = True) -> Path:
    """Write a file as the authors' pretraining leaves it: their names, one relative table, the decoder."""
    state = {str(published_name(name)): value for name, value in build_model(TINY, seed=seed).state_dict().items()}
    decoder = {"image_mask_token": torch.zeros(1, 8), "decoder_text_embed.bias": torch.zeros(8)}
    torch.save({"model": {**state, **(decoder if has_decoder else {})}, "cfg": {}}, folder / "pretrained.pt")
    return folder / "pretrained.pt"


def write_finetuned(folder: Path, loaded: Loaded, **config: Any) -> Path:
    """Write a fine-tuned model as the authors do."""
    state = {
        str(published_name(name.removeprefix("model."))): each for name, each in loaded.module.state_dict().items()
    }
    torch.save({"model": state, "cfg": config}, folder / "finetuned.pt")
    return folder / "finetuned.pt"


def write_vision(
    folder: Path, *, pooling: Pooling = "mean", size_px: int = 64, outputs: int = 3
) -> tuple[Path, nn.Module]:
    """Write a fine-tuned classifier by the names of the vision release; gives the model that was written besides."""
    modalities = {"image": {**TINY.modalities["image"], "bias_grid_size": size_px // 16, "grid_size": size_px // 16}}
    config = TINY.branch("image", has_projection=False, has_final_norm=pooling == "cls", modalities=modalities)
    model = build_model(config, seed=3)
    module = ImageClassifier(model, ImageHeadConfig(num_classes=outputs, pooling=pooling))
    perturb(module)
    state = {"image_adapter.rp_bucket": torch.zeros(2, dtype=torch.int64)}
    for name, value in module.state_dict().items():
        inner = str(published_name(name.removeprefix("model.")) or name).removeprefix("encoder_wrapper.")
        inner = inner.replace("fusion_model.image_layer_norm", "encoder.layer_norm").replace("fusion_model", "encoder")
        state[inner.replace(f"{TABLES}_list.0.", f"{TABLES}.")] = value
    torch.save({"model": state}, folder / "vision.pth")
    return folder / "vision.pth", module


def trainee(wanted: SettingProfile, path: Path | None = None, *, outputs: int | None = None, seed: int = 1) -> Loaded:
    return build_trainee(path, size="tiny", setting=wanted, num_outputs=outputs, seed=seed)


def save(loaded: Loaded, path: Path, *, classes: tuple[str, ...] = CLASSES) -> Path:
    origin = describe_origin(loaded, task="here", setting="fine-tuned", class_names=classes)
    save_finetuned(loaded.module, loaded.module.state_dict(), path, origin=origin)
    return path


def load(path: Path, wanted: SettingProfile, classes: tuple[str, ...] = CLASSES, **options: Any) -> Loaded:
    settings = {"size": "tiny", "num_outputs": len(classes) or None, **options}
    return load_finetuned(path, setting=wanted, class_names=classes, **settings)


def inputs_of(name: str, side_px: int = 64) -> Any:
    generator = torch.Generator().manual_seed(0)
    if name == "text":
        return {"text": torch.tensor([[5, 9, 2, 1], [7, 8, 9, 2]])}
    if name == "image":
        return {"image": torch.randn(2, 3, side_px, side_px, generator=generator)}
    return {"audio": Waveforms(torch.randn(2, 16_000, generator=generator), torch.zeros(2, 50, dtype=torch.bool))}


@torch.no_grad()
def run(module: nn.Module, name: str, **options: Any) -> Tensor:
    found: Tensor = module.eval()(inputs_of(name, **options))
    return found


def perturb(module: nn.Module) -> None:
    """Stand in for a training: every number changes."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))


def test_pretrained_weights_give_unit_vectors_and_name_themselves(tmp_path: Path) -> None:
    path = write_pretrained(tmp_path)
    loaded = load_pretrained(path, size="tiny", setting=RETRIEVAL, seed=0)
    whole = Retriever(build_model(TINY, seed=0))
    for name in ("image", "text"):
        assert torch.equal(run(loaded.module, name), run(whole, name))
        torch.testing.assert_close(run(loaded.module, name).norm(dim=1), torch.ones(2))
    assert loaded.info.name == path.name
    assert loaded.info.sha256 is not None
    assert (loaded.info.missing, loaded.info.unexpected, loaded.info.reshaped) == (0, 0, 0)
    assert loaded.has_published_weights
    assert set(loaded.model.config.modalities) == {"image", "text"}
    assert not loaded.module.training


def test_a_setting_of_another_resolution_reshapes_the_tables_and_changes_the_digest(tmp_path: Path) -> None:
    path = write_pretrained(tmp_path)
    small = load_pretrained(path, size="tiny", setting=RETRIEVAL, seed=0)
    large = load_pretrained(path, size="tiny", setting=setting(image=image(96), text=TEXT), seed=0)
    assert large.info.reshaped > 0
    assert large.model.config.modalities["image"]["bias_grid_size"] == 6
    assert run(large.module, "image", side_px=96).shape == (2, 32)
    assert large.digest != small.digest


def test_fresh_weights_follow_from_the_seed_and_say_so() -> None:
    one, same, other = (load_pretrained(None, size="tiny", setting=RETRIEVAL, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(run(one.module, "text"), run(same.module, "text"))
    assert not torch.equal(run(one.module, "text"), run(other.module, "text"))
    assert one.digest == same.digest != other.digest
    assert one.info.name == "random initialisation, seed 3"
    assert one.info.sha256 is None
    assert not one.has_published_weights


@pytest.mark.parametrize("size_px", [70, 8])
def test_a_resolution_that_no_patch_fits_is_one_line(size_px: int) -> None:
    with pytest.raises(ValueError, match=f"size_px {size_px} is no multiple of 16, the side of a patch"):
        load_pretrained(None, size="tiny", setting=setting(image=image(size_px), text=TEXT), seed=0)


def test_weights_of_another_size_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="name the size it was made with"):
        load_pretrained(write_pretrained(tmp_path), size="mini", setting=RETRIEVAL, seed=0)


def test_embeddings_need_projections(tmp_path: Path) -> None:
    path = write_finetuned(tmp_path, trainee(CLASSIFICATION, outputs=3))
    with pytest.raises(ValueError, match="no projections for audio; embeddings cannot be compared"):
        load_pretrained(path, size="tiny", setting=setting(audio=AUDIO), seed=0)


def test_a_fine_tuning_starts_with_a_table_a_layer_and_the_numbers_of_the_pretraining(tmp_path: Path) -> None:
    path = write_pretrained(tmp_path)
    pretrained = load_pretrained(path, size="tiny", setting=RETRIEVAL, seed=0)
    started = trainee(RETRIEVAL, path)
    assert started.model.config.has_per_layer_bias
    assert started.model.config.drop_path_rate == 0.25
    assert torch.equal(run(started.module, "image"), run(pretrained.module, "image"))
    assert started.digest == pretrained.info.sha256
    assert not started.has_published_weights


@pytest.mark.parametrize(
    ("wanted", "name", "kind"),
    [(CLASSIFICATION, "audio", Classifier), (PICTURES, "image", ImageClassifier)],
    ids=["head", "linear"],
)
def test_a_fresh_head_follows_from_the_seed_alone(
    tmp_path: Path, wanted: SettingProfile, name: str, kind: type[nn.Module]
) -> None:
    path = write_pretrained(tmp_path)
    torch.manual_seed(0)
    first = trainee(wanted, path, outputs=3)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    second, other = trainee(wanted, path, outputs=3), trainee(wanted, path, outputs=3, seed=2)
    assert torch.equal(torch.get_rng_state(), state), "the caller's random numbers go on as they were"
    assert isinstance(first.module, kind)
    assert run(first.module, name).shape == (2, 3)
    assert torch.equal(run(first.module, name), run(second.module, name))
    assert not torch.equal(run(first.module, name), run(other.module, name))
    assert not first.model.config.has_projection
    assert first.model.config.has_final_norm is (kind is Classifier), "the linear one has a norm of its own"


@pytest.mark.parametrize(
    ("wanted", "outputs", "names"),
    [(RETRIEVAL, None, ("image", "text")), (CLASSIFICATION, 3, ("audio",)), (PICTURES, 3, ("image",))],
    ids=["embeddings", "head", "linear"],
)
def test_what_is_saved_gives_the_same_when_it_is_loaded(
    tmp_path: Path, wanted: SettingProfile, outputs: int | None, names: tuple[str, ...]
) -> None:
    trained = trainee(wanted, outputs=outputs)
    perturb(trained.module)
    loaded = load(save(trained, tmp_path / "w.safetensors"), wanted)
    for name in names:
        assert torch.equal(run(loaded.module, name), run(trained.module, name))
    assert loaded.info.loaded == len(trained.module.state_dict())
    assert (loaded.info.missing, loaded.info.unexpected, loaded.info.reshaped) == (0, 0, 0)
    assert dict(loaded.inputs) == dict(wanted.inputs)
    assert type(loaded.module) is type(trained.module)
    assert not loaded.has_published_weights


@pytest.mark.parametrize("whose", ["authors'", "ours"])
def test_the_resolution_of_the_file_wins(tmp_path: Path, whose: str) -> None:
    trained = trainee(setting(image=image(96), text=TEXT))
    perturb(trained.module)
    is_ours = whose == "ours"
    path = save(trained, tmp_path / "w.safetensors", classes=()) if is_ours else write_finetuned(tmp_path, trained)
    loaded = load(path, RETRIEVAL, classes=())
    assert loaded.inputs["image"].arguments == {"size_px": 96}
    assert torch.equal(run(loaded.module, "image", side_px=96), run(trained.module, "image", side_px=96))


def test_low_precision_is_that_of_the_weights(tmp_path: Path) -> None:
    path = save(trainee(CLASSIFICATION, outputs=3), tmp_path / "w.safetensors")
    loaded = load(path, CLASSIFICATION, dtype=torch.bfloat16)
    assert {value.dtype for value in loaded.module.parameters()} == {torch.bfloat16}


def test_weights_for_other_classes_are_refused(tmp_path: Path) -> None:
    path = save(trainee(CLASSIFICATION, outputs=3), tmp_path / "w.safetensors")
    for classes in (("cat", "dog", "cow"), ("cat", "cow")):
        with pytest.raises(ValueError, match="was fine-tuned for other classes than the data has"):
            load(path, CLASSIFICATION, classes)


def test_weights_of_another_kind_of_task_are_refused(tmp_path: Path) -> None:
    classifier = save(trainee(CLASSIFICATION, outputs=3), tmp_path / "c.safetensors")
    with pytest.raises(ValueError, match=r"c\.safetensors has a head, expected weights fine-tuned for this task"):
        load(classifier, setting(audio=AUDIO, text=TEXT))
    retriever = save(trainee(setting(audio=AUDIO, text=TEXT)), tmp_path / "r.safetensors")
    with pytest.raises(ValueError, match=r"r\.safetensors compares embeddings, expected weights"):
        load(retriever, CLASSIFICATION)


@pytest.mark.parametrize("wanted", [RETRIEVAL, CLASSIFICATION], ids=["embeddings", "head"])
@pytest.mark.parametrize("whose", ["authors'", "ours"])
def test_pretrained_weights_are_not_taken_for_fine_tuned_ones(
    tmp_path: Path, wanted: SettingProfile, whose: str
) -> None:
    path = write_pretrained(tmp_path)
    if whose == "ours":
        path = tmp_path / "ours.safetensors"
        save_state(build_model(TINY, seed=0).state_dict(), path, metadata={"onepeace": json.dumps({"size": "tiny"})})
    with pytest.raises(ValueError, match="holds pretrained weights, not fine-tuned ones") as caught:
        load(path, wanted)
    assert "--pretrained" in str(caught.value)
    assert "--setting zero-shot" in str(caught.value)


def test_released_weights_are_read_from_names_shapes_and_the_settings_inside(tmp_path: Path) -> None:
    trained = trainee(CLASSIFICATION, outputs=3)
    perturb(trained.module)
    path = write_finetuned(tmp_path, trained, task={"max_duration": 20})
    loaded = load(path, CLASSIFICATION)
    assert torch.equal(run(loaded.module, "audio"), run(trained.module, "audio"))
    assert loaded.inputs["audio"].arguments == {"max_duration_s": 20}
    assert loaded.has_published_weights


@pytest.mark.parametrize(("pooling", "size_px"), [("mean", 64), ("cls", 64), ("mean", 384), ("mean", 512)])
def test_a_released_classifier_of_pictures_loads_by_the_names_of_its_release(
    tmp_path: Path, pooling: Pooling, size_px: int
) -> None:
    path, written = write_vision(tmp_path, pooling=pooling, size_px=size_px)
    loaded = load(path, PICTURES)
    assert isinstance(loaded.module, ImageClassifier)
    assert loaded.module.config == ImageHeadConfig(num_classes=3, pooling=pooling)
    assert loaded.inputs["image"].arguments == {"size_px": size_px}
    assert torch.equal(run(loaded.module, "image", side_px=size_px), run(written, "image", side_px=size_px))
    assert loaded.info.loaded == len(written.state_dict())
    assert (loaded.info.missing, loaded.info.unexpected, loaded.info.reshaped) == (0, 0, 0)
    assert loaded.has_published_weights


@pytest.mark.parametrize("damage", ["fc_norm.bias", "head.bias", "encoder.layers.2.gamma_1", "more"])
def test_a_released_classifier_of_pictures_is_loaded_strictly(tmp_path: Path, damage: str) -> None:
    path, _ = write_vision(tmp_path)
    state = torch.load(path, weights_only=True)["model"]
    if damage == "more":
        state["head.scale"] = torch.zeros(3)
    else:
        del state[damage]
    torch.save({"model": state}, path)
    with pytest.raises(ValueError, match="the checkpoint does not fit the model") as caught:
        load(path, PICTURES)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("whose", "wanted", "says"),
    [
        ("embeddings", CLASSIFICATION, "has no classification head"),
        ("embeddings", PICTURES, "has no ImageNet classifier"),
        ("boxes", PICTURES, "has no ImageNet classifier"),
        ("boxes", GROUNDING, "has a head of 4 outputs, expected 3"),
        ("pictures", setting(head={"pooled_modality": "image"}, image=image(64)), "has no classification head"),
    ],
)
def test_released_weights_with_another_head_are_refused(
    tmp_path: Path, whose: str, wanted: SettingProfile, says: str
) -> None:
    written = setting(audio=AUDIO, image=image(64), text=TEXT) if whose == "embeddings" else GROUNDING
    trained = trainee(written, outputs=None if whose == "embeddings" else 4)
    with pytest.raises(ValueError, match=f"{says}; name weights fine-tuned for this task") as caught:
        load(write_vision(tmp_path)[0] if whose == "pictures" else write_finetuned(tmp_path, trained), wanted)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("is_image", [True, False])
def test_which_tokens_are_pooled_stands_in_a_released_file_of_texts_with_pictures(
    tmp_path: Path, is_image: bool
) -> None:
    told, other = ("image", "text") if is_image else ("text", "image")
    trained = trainee(setting(head={"pooled_modality": told}, image=image(64), text=TEXT), outputs=4)
    path = write_finetuned(tmp_path, trained, model={"use_image_features": is_image})
    right, wrong = (setting(head={"pooled_modality": each}, image=image(64), text=TEXT) for each in (told, other))
    assert load(path, right, (), num_outputs=4).has_published_weights
    with pytest.raises(ValueError, match=rf"its {told} tokens pooled.*; set settings.*pooled_modality={told}$"):
        load(path, wrong, (), num_outputs=4)


@pytest.mark.parametrize("is_image", [True, False])
@pytest.mark.parametrize("inputs", [{"audio": AUDIO}, {"audio": AUDIO, "text": TEXT}], ids=["sounds", "with texts"])
def test_that_flag_says_nothing_of_sounds(tmp_path: Path, inputs: dict[str, Any], is_image: bool) -> None:
    wanted = setting(head={"pooled_modality": next(reversed(inputs))}, **inputs)
    path = write_finetuned(tmp_path, trainee(wanted, outputs=3), model={"use_image_features": is_image})
    assert load(path, wanted).has_published_weights


@pytest.mark.parametrize("damage", ["no config", "no json", "a list", "unknown key"])
def test_a_damaged_header_is_one_line(tmp_path: Path, damage: str) -> None:
    path = save(trainee(CLASSIFICATION, outputs=3), tmp_path / "w.safetensors")
    with safe_open(path, framework="pt") as file:
        told, state = json.loads(file.metadata()["finetuned"]), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    damaged = {
        "no config": json.dumps({key: value for key, value in told.items() if key != "config"}),
        "no json": "{",
        "a list": "[]",
        "unknown key": json.dumps({**told, "head": {**told["head"], "heads": 3}}),
    }
    save_state(state, path, metadata={"finetuned": damaged[damage]})
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        load(path, CLASSIFICATION)
    assert "\n" not in str(caught.value)
    assert "w.safetensors" in str(caught.value)


def test_nothing_saved_holds_a_pickle_and_anybody_may_read_it(tmp_path: Path) -> None:
    path = save(trainee(CLASSIFICATION, outputs=3), tmp_path / "w.safetensors")
    assert path.stat().st_mode & 0o444 == 0o444
    assert [each.name for each in tmp_path.iterdir()] == ["w.safetensors"]
    with safe_open(path, framework="pt") as file:
        assert json.loads(file.metadata()["finetuned"])["task"] == "here"


def test_a_part_of_a_state_is_not_saved(tmp_path: Path) -> None:
    loaded = trainee(CLASSIFICATION, outputs=3)
    origin = describe_origin(loaded, task="here", setting="fine-tuned", class_names=CLASSES)
    with pytest.raises(AssertionError):
        save_finetuned(loaded.module, dict(list(loaded.module.state_dict().items())[1:]), tmp_path / "w", origin=origin)
