"""Stages and sizes are found, what the paper fixes stands there, and what is wrong is said in one line."""

import pytest

from pretrain import config as module
from pretrain import stage_names
from pretrain.config import (
    DecoderConfig,
    MaskConfig,
    ObjectiveConfig,
    StageConfig,
    list_stages,
    load_stage,
)

UNITS = {"kind": "units", "ratio": 0.5}


def term(**changes) -> dict:
    return {"modality": "text", "student": "alone", "teacher": "alone", "weight": 1.0, "mask": UNITS, **changes}


def objective(**terms: dict) -> dict:
    return {"pair": ["text", "image"], "terms": terms}


def refuse(message: str, function, *arguments, **named) -> None:
    with pytest.raises(ValueError, match=message) as error:
        function(*arguments, **named)
    assert "\n" not in str(error.value)


def test_the_published_values_stand_in_the_stages():
    first, second = (load_stage(stage) for stage in ("stage1", "stage2"))
    assert [(c.batch.batch_size, c.optim.lr, c.drop_path_rate) for c in (first, second)] == [
        (32768, 5e-4, 0.4),
        (3072, 2e-4, 0.4),
    ]
    assert {name: (t.weight, t.mask.ratio) for name, t in first.objective.terms.items()} == {
        "image": (1.0, 0.75),
        "text": (0.5, 0.15),
        "vl_image": (0.5, 0.6875),
        "vl_text": (0.5, 0.4),
    }
    assert {name: (t.weight, t.mask.ratio) for name, t in second.objective.terms.items()} == {
        "audio": (1.0, 0.55),
        "al_audio": (0.5, 0.45),
        "al_text": (0.5, 0.4),
    }
    assert (first.steps, first.optim.warmup_steps, second.optim.warmup_share) == (200_000, 3000, 0.1)
    assert (first.starts_from, second.starts_from, second.trained) == (None, "stage1", "audio")
    assert second.reset_logit_scale


@pytest.mark.parametrize("stage", ["stage1", "stage2"])
@pytest.mark.parametrize("size", ["mini", "tiny"])
def test_a_small_size_changes_how_much_is_trained_but_not_what(stage, size):
    published, small = load_stage(stage), load_stage(stage, size)
    assert without_weights(small) == without_weights(published)  # the tiny size has no room for all at full weight
    assert (small.trained, small.starts_from, small.optim.betas) == (
        published.trained,
        published.starts_from,
        published.optim.betas,
    )
    assert small.world is not None
    assert published.world is None


def without_weights(config):
    terms = {name: term.model_copy(update={"weight": 1.0}) for name, term in config.objective.terms.items()}
    return config.objective.model_copy(update={"terms": terms})


def test_an_unknown_name_is_told_with_the_nearest_known_one():
    refuse("unknown stage 'stge1'. Did you mean 'stage1'", load_stage, "stge1")
    refuse("unknown size 'min'. Did you mean 'mini'", load_stage, "stage1", "min")
    refuse("unknown key 'stepps'. Did you mean 'steps'", load_stage, "stage1", assignments=["stepps=3"])
    refuse("unknown key 'lrr'. Did you mean 'lr'", load_stage, "stage1", assignments=["optim.lrr=3"])


def test_a_modality_belongs_to_stages_that_add_any():
    refuse("stage 'stage2' and modality 'audio': it takes no --modality", load_stage, "stage2", modality="audio")


def test_a_stage_that_adds_any_modality_puts_its_name_everywhere(tmp_path, monkeypatch):
    text = (module.CONFIG_DIR / "stage2.yaml").read_text(encoding="utf-8")
    (tmp_path / "adding.yaml").write_text(text.replace("audio", "NEW"), encoding="utf-8")
    for where in (module, stage_names):
        monkeypatch.setattr(where, "CONFIG_DIR", tmp_path)
    assert list_stages() == ("adding",)
    config = load_stage("adding", "tiny", modality="depth")
    assert (config.trained, config.objective.pair) == ("depth", ("text", "depth"))
    assert "NEW" not in config.model_dump_json()
    refuse("stage 'adding' and modality None: expected --modality NAME", load_stage, "adding")


def test_the_command_line_changes_defaults_too_and_nothing_else():
    plain = load_stage("stage1", "tiny")
    changed = load_stage(
        "stage1", "tiny", assignments=["decoder.padding_mode=reference", "guard.spike_factor=null", "optim.lr=1e-2"]
    )
    assert changed.decoder.padding_mode == "reference"
    assert changed.guard.spike_factor is None
    assert changed.optim.lr == 1e-2
    kept = {"decoder": plain.decoder, "guard": plain.guard, "optim": plain.optim}
    assert changed.model_copy(update=kept) == plain


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("optim.warmup_share=0.1", "warmup_steps 3000 and warmup_share 0.1: expected one of the two"),
        ("optim.min_lr=1", "min_lr 1.0 is not below lr 0.0005"),
        ("batch.micro_batch_size=100", "batch_size 32768 is not a multiple of micro_batch_size 100"),
        ("steps=0", "steps 0: Input should be greater than 0"),
        ("objective.loss=l3", "objective.loss 'l3'"),
        ("parallel.dtype=float16", "parallel.dtype 'float16'"),
        ("steps", "expected key.path=value"),
    ],
)
def test_a_value_that_makes_no_sense_is_refused(assignment, message):
    refuse(message, load_stage, "stage1", assignments=[assignment])


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        ({"kind": "units", "ratio": 0.5, "span": 3}, "span 3 with kind 'units', expected kind 'spans'"),
        ({"kind": "words", "ratio": 0.5, "adjust": 0.2}, "adjust 0.2 with kind 'words'"),
        (
            {"kind": "spans", "ratio": 0.5, "complements": "x"},
            "complements 'x' with kind 'spans', expected kind 'units'",
        ),
        ({"kind": "units", "ratio": 1.0}, "ratio 1.0"),
    ],
)
def test_a_mask_has_no_setting_that_it_does_not_use(mask, message):
    refuse(message, MaskConfig.parse, mask, where="test")


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        ({"a": term(modality="audio")}, "term 'a': unknown modality 'audio'"),
        ({"a": term(), "b": term(teacher="fused")}, "two terms have the same student and modality"),
        ({"a": term(student="fused")}, "the fused student has a term for 'text' only"),
        ({"a": term(weight=0)}, "terms.a.weight 0"),
    ],
)
def test_terms_that_do_not_go_together_are_refused(terms, message):
    refuse(message, ObjectiveConfig.parse, objective(**terms), where="test")


def test_no_terms_leave_the_aligning_contrast_alone():
    assert ObjectiveConfig.parse(objective(), where="test").masks == {}


def test_defaults_are_the_published_ones():
    assert DecoderConfig() == DecoderConfig(embed_dim=768, ffn_dim=2048, num_layers=2, num_heads=12)


def test_a_config_that_was_written_is_read_back_as_it_was():
    config = load_stage("stage2", "tiny", assignments=["objective.loss=cosine"])
    assert StageConfig.parse(config.model_dump(mode="json"), where="config.yaml") == config
