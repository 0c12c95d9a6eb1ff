"""What a training is set to is checked where it is read, and defaults are the published ones."""

import pytest

from models.training import OptimConfig, ParallelConfig

SHARED = OptimConfig(lr=2e-4, warmup_share=0.1, clip=None)


def test_defaults_are_those_of_pretraining():
    optim = OptimConfig(lr=1.0, warmup_steps=1)
    assert (optim.betas, optim.eps, optim.weight_decay, optim.clip, optim.min_lr) == (
        (0.9, 0.98),
        1e-8,
        0.05,
        3.0,
        1e-6,
    )


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"lr": 1e-3}, "warmup_steps None and warmup_share None: expected one of the two"),
        ({"lr": 1e-3, "warmup_steps": 1, "warmup_share": 0.1}, "warmup_steps 1 and warmup_share 0.1"),
        ({"lr": 1e-6, "warmup_steps": 1}, "min_lr 1e-06 is not below lr 1e-06"),
        ({"lr": 1e-3, "warmup_steps": 1, "betas": [0.9, 1.0]}, "betas.1 1.0: Input should be less than 1"),
        ({"lr": 1e-3, "warmup_steps": 1, "clip": 0}, "clip 0: Input should be greater than 0"),
        ({"lr": 1e-3, "warmup_step": 1}, "unknown key 'warmup_step'. Did you mean 'warmup_steps'?"),
    ],
)
def test_a_wrong_setting_is_one_clear_error(values, message):
    with pytest.raises(ValueError, match=message) as error:
        OptimConfig.parse(values, where="test")
    assert "\n" not in str(error.value)


def test_a_resolved_config_reads_back():
    assert OptimConfig.parse(SHARED.model_dump(mode="json"), where="test") == SHARED


def test_compiled_layers_are_recomputed_whole_or_not_at_all():
    with pytest.raises(ValueError, match="recompute 'cheap' with has_compile true: products cannot be told apart"):
        ParallelConfig.parse({"recompute": "cheap", "has_compile": True}, where="test")
    assert ParallelConfig.parse({"has_compile": True}, where="test").recompute == "layer"
