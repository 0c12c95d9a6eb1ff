"""What settings and headers tell: the file, the flag, resolution, duration, prompt, precision, colours."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from downstream.config import load_task_config
from downstream.doctor.base import Check, Finding, Verdict
from downstream.doctor.case import Case, open_case
from downstream.doctor.pictures import CHANNELS, NORMALISATION, RESOLUTION
from downstream.doctor.pooling import FLAG
from downstream.doctor.precision import PRECISION
from downstream.doctor.sounds import DURATION
from downstream.doctor.weights import VARIANT
from downstream.doctor.words import PROMPT
from downstream.engines.plain.model import build_trainee, describe_origin, save_finetuned
from downstream.tasks.base import RunOptions
from downstream.tasks.plain import resolve_profile
from models.checkpoint.names import published_name
from models.config import load_config
from models.onepeace import build_model

SIZE = "size=tiny"


def case_of(task: str, *assignments: str, **options: Any) -> Case:
    return open_case(task, RunOptions(profile="mini", assignments=(SIZE, *assignments), **options), run=None)


def pretrain(folder: Path, **changes: Any) -> Path:
    """Write pretrained weights of the tiny size as ours."""
    model = build_model(load_config("tiny").branch("text", "image", "audio", **changes), seed=0)
    save_file(model.state_dict(), folder / "pre.safetensors", metadata={"onepeace": '{"size": "tiny"}'})
    return folder / "pre.safetensors"


def finetune(folder: Path, task: str, *, outputs: int | None, setting: str = "fine-tuned", classes: Any = ()) -> Path:
    """Write weights as a fine-tuning of the task would."""
    profile, _ = resolve_profile(load_task_config(task), "mini", RunOptions(assignments=(SIZE,)))
    loaded = build_trainee(None, size="tiny", setting=profile.settings["fine-tuned"], num_outputs=outputs, seed=0)
    origin = describe_origin(loaded, task=task, setting=setting, class_names=classes)
    save_finetuned(loaded.module, loaded.module.state_dict(), folder / f"{task}.safetensors", origin=origin)
    return folder / f"{task}.safetensors"


def release(folder: Path, task: str, /, *, outputs: int | None, **config: Any) -> Path:
    """Write such weights as the authors do: their names, and settings beside them."""
    profile, _ = resolve_profile(load_task_config(task), "mini", RunOptions(assignments=(SIZE,)))
    loaded = build_trainee(None, size="tiny", setting=profile.settings["fine-tuned"], num_outputs=outputs, seed=0)
    state = {str(published_name(key.removeprefix("model."))): each for key, each in loaded.module.state_dict().items()}
    torch.save({"model": state, "cfg": config}, folder / "released.pt")
    return folder / "released.pt"


def look(check: Check, case: Case) -> Finding:
    return check.run(case)


def is_ok(check: Check, case: Case) -> bool:
    return look(check, case).verdict is Verdict.OK


def told(check: Check, case: Case) -> str:
    """Give what a suspect is told as, with what to do."""
    finding = look(check, case)
    assert finding.verdict is Verdict.SUSPECT, finding
    return f"{finding.told} -> {finding.remedy}"


def test_pretrained_weights_are_right_for_zero_shot_and_wrong_for_fine_tuned(tmp_path: Path) -> None:
    path = pretrain(tmp_path)
    assert is_ok(VARIANT, case_of("coco", pretrained=path, setting="zero-shot"))
    assert "holds pretrained weights" in told(VARIANT, case_of("coco", checkpoint=path))


def test_fine_tuned_weights_are_right_for_their_task_and_its_siblings_alone(tmp_path: Path) -> None:
    sounds = finetune(tmp_path, "audiocaps", outputs=None)
    assert is_ok(VARIANT, case_of("audiocaps", checkpoint=sounds))
    assert is_ok(VARIANT, case_of("clotho", checkpoint=sounds)), "one fine-tuning serves both"
    pictures = finetune(tmp_path, "flickr30k", outputs=None)
    assert "fine-tuned on flickr30k, the task is coco" in told(VARIANT, case_of("coco", checkpoint=pictures))
    assert "takes pretrained" in told(VARIANT, case_of("coco", pretrained=pictures, setting="zero-shot"))


def test_the_file_has_to_have_branches_head_and_size_of_the_task(tmp_path: Path) -> None:
    audio = finetune(tmp_path, "vggsound", outputs=17)
    assert "lacks image, text" in told(VARIANT, case_of("coco", checkpoint=audio))
    released = release(tmp_path, "refcoco", outputs=4)
    assert is_ok(VARIANT, case_of("refcoco", checkpoint=released))
    assert "4 outputs, the data" in told(VARIANT, case_of("vqav2", checkpoint=released))
    assert "has a head" in told(VARIANT, case_of("coco", checkpoint=released))
    mini = RunOptions(profile="mini", checkpoint=released)
    assert "embed_dim is" in told(VARIANT, open_case("refcoco", mini, run=None))


def test_one_table_for_all_layers_gives_pretrained_weights_without_a_decoder_away(tmp_path: Path) -> None:
    model = build_model(load_config("tiny").branch("text", "image"), seed=0)
    state = {str(published_name(name)): value for name, value in model.state_dict().items()}
    torch.save({"model": state, "cfg": {}}, tmp_path / "one-peace.pt")
    assert "share one relative table" in told(VARIANT, case_of("coco", checkpoint=tmp_path / "one-peace.pt"))
    tuned = release(tmp_path, "coco", outputs=None)
    assert is_ok(VARIANT, case_of("coco", checkpoint=tuned))
    assert "of its own" in told(VARIANT, case_of("coco", pretrained=tuned, setting="zero-shot"))


def test_an_untrained_head_and_a_damaged_file_are_told(tmp_path: Path) -> None:
    path = finetune(tmp_path, "vggsound", outputs=17, setting="untrained")
    assert "never trained" in told(VARIANT, case_of("vggsound", checkpoint=path))
    path.write_bytes(path.read_bytes()[:1000])
    assert "damaged" in told(VARIANT, case_of("vggsound", checkpoint=path))
    assert look(FLAG, case_of("refcoco", checkpoint=path)).verdict is Verdict.UNCHECKED


@pytest.mark.parametrize(
    ("flag", "assignment", "expected"),
    [
        (False, None, ""),
        (None, None, ""),
        (True, None, "--set settings.fine-tuned.head.pooled_modality=image"),
        (False, "image", "leave --set settings.fine-tuned.head.pooled_modality out"),
        (True, "image", "leave --set settings.fine-tuned.head.pooled_modality out"),
    ],
)
def test_file_settings_and_config_have_to_pool_the_same_tokens(
    tmp_path: Path, flag: bool | None, assignment: str | None, expected: str
) -> None:
    model = {} if flag is None else {"model": {"use_image_features": flag}}
    path = release(tmp_path, "refcoco", outputs=4, **model)
    changed = () if assignment is None else (f"settings.fine-tuned.head.pooled_modality={assignment}",)
    case = case_of("refcoco", *changed, checkpoint=path)
    assert told(FLAG, case).endswith(expected) if expected else is_ok(FLAG, case)


def test_the_flag_of_a_model_without_pictures_says_nothing(tmp_path: Path) -> None:
    path = release(tmp_path, "avqa", outputs=1, model={"use_image_features": True})
    assert is_ok(FLAG, case_of("avqa", checkpoint=path))
    assert look(FLAG, case_of("coco")).verdict is Verdict.UNCHECKED


def test_resolution_is_the_config_s_and_that_of_the_file_s_tables(tmp_path: Path) -> None:
    key = "settings.zero-shot.inputs.image"
    assert is_ok(RESOLUTION, case_of("coco", pretrained=pretrain(tmp_path), setting="zero-shot"))
    assert "96 px, the config says 64" in told(RESOLUTION, case_of("coco", f"{key}.arguments.size_px=96"))
    assert "'image-center'" in told(RESOLUTION, case_of("coco", f"{key}.protocol=image-center"))
    image = {**load_config("tiny").modalities["image"], "bias_grid_size": 6}
    modalities = {**load_config("tiny").modalities, "image": image}
    other = pretrain(tmp_path, modalities=modalities)
    assert "size_px=96" in told(RESOLUTION, case_of("coco", pretrained=other, setting="zero-shot"))
    assert look(RESOLUTION, case_of("esc50")).verdict is Verdict.UNCHECKED


def test_a_resolution_that_is_published_too_is_no_fault(tmp_path: Path) -> None:
    path = tmp_path / "vision.safetensors"
    rows = (2 * 24 - 1) ** 2 + 3
    state = {"image_adapter.rel_pos_table.weight": torch.zeros(rows, 24), "head.weight": torch.zeros(1000, 4)}
    save_file({**state, "encoder.layers.0.self_attn.q_proj.weight": torch.zeros(4, 4)}, path)
    options = RunOptions(profile="paper", checkpoint=path, setting="fine-tuned")
    assert is_ok(RESOLUTION, open_case("imagenet", options, run=None)), "384 px, beside the config's 512"


def test_duration_prompt_and_precision_are_the_config_s(tmp_path: Path) -> None:
    block = "settings.zero-shot"
    assert is_ok(DURATION, case_of("esc50"))
    assert "20 s" in told(DURATION, case_of("esc50", f"{block}.inputs.audio.arguments.max_duration_s=20"))
    released = release(tmp_path, "vggsound", outputs=17, task={"max_duration": 20})
    assert "clips of 20 s" in told(DURATION, case_of("vggsound", checkpoint=released))
    assert is_ok(PROMPT, case_of("esc50"))
    assert "'{label}'" in told(PROMPT, case_of("esc50", f"{block}.prompt='{{label}}'"))
    assert "'text-raw'" in told(PROMPT, case_of("coco", f"{block}.inputs.text.protocol=text-raw"))
    assert is_ok(PRECISION, case_of("coco"))
    assert "float16" in told(PRECISION, case_of("coco", dtype="float16"))


@pytest.mark.parametrize("name", ["CLIP_MEAN", "CLIP_STD"])
def test_a_transform_with_other_values_is_found_without_weights(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_ok(NORMALISATION, case_of("coco"))
    monkeypatch.setattr(f"models.modalities.image.{name}", (0.485, 0.456, 0.226))
    assert "models/modalities/image.py" in told(NORMALISATION, case_of("coco"))


def test_planes_in_another_order_are_found_without_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_ok(CHANNELS, case_of("coco"))
    from models.modalities import image

    normalise: Callable[[Any], torch.Tensor] = image._normalise
    monkeypatch.setattr(image, "_normalise", lambda picture: normalise(picture).flip(0))
    assert "planes 2, 1 and 0" in told(CHANNELS, case_of("coco"))


def test_metadata_that_is_no_settings_tells_nothing(tmp_path: Path) -> None:
    model = build_model(load_config("tiny").branch("text", "image"), seed=0)
    save_file(model.state_dict(), tmp_path / "x.safetensors", metadata={"model": json.dumps([1]), "task": "7"})
    case = case_of("coco", checkpoint=tmp_path / "x.safetensors")
    assert look(FLAG, case).verdict is Verdict.UNCHECKED
    assert is_ok(RESOLUTION, case)
