"""The guard skips what would harm the weights, and ends a training that has diverged."""

import json
import math
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pretrain.guard import GuardConfig, LossGuard

CONFIG = GuardConfig(window=16, min_history=8, max_consecutive_skips=3, max_grad_norm_factor=20.0)


def warm(guard: LossGuard, steps: int = 12, *, loss: float = 4.0, seed: int = 0) -> LossGuard:
    rng = random.Random(seed)
    for step in range(steps):
        verdict = guard.check(loss + rng.gauss(0, 0.05), 1.0, step=step)
        assert not verdict.is_bad
        assert verdict.reason == ""
    return guard


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_is_bad_from_the_first_step(value):
    assert LossGuard(CONFIG).check(value, 1.0, step=0).is_bad
    assert "gradient norm" in LossGuard(CONFIG).check(1.0, value, step=0).reason


def test_a_spike_is_bad_and_says_why():
    verdict = warm(LossGuard(CONFIG)).check(9.5, 1.0, step=12)
    assert verdict.is_bad
    assert verdict.reason.startswith("step 12 skipped: loss 9.5 is above 4.6")
    assert "\n" not in verdict.reason


def test_a_fall_of_the_loss_is_good():
    assert not warm(LossGuard(CONFIG)).check(0.01, 1.0, step=12).is_bad


def test_a_burst_of_the_gradient_is_bad_only_where_the_config_limits_it():
    assert "gradient norm 21 is above 20 times" in warm(LossGuard(CONFIG)).check(4.0, 21.0, step=12).reason
    without = CONFIG.model_copy(update={"max_grad_norm_factor": None})
    assert not warm(LossGuard(without)).check(4.0, 1e6, step=12).is_bad


def test_without_a_spike_factor_only_numbers_that_are_not_finite_are_bad():
    guard = warm(LossGuard(CONFIG.model_copy(update={"spike_factor": None})))
    assert not guard.check(1e9, 1.0, step=12).is_bad


def test_the_first_steps_may_jump():
    guard = LossGuard(CONFIG)
    assert not any(guard.check(loss, 1.0, step=step).is_bad for step, loss in enumerate([9.0, 1.0, 80.0, 2.0]))


def test_a_flat_curve_is_not_left_by_a_hair():
    guard = LossGuard(CONFIG)
    for step in range(12):
        guard.check(4.0, 1.0, step=step)
    assert not guard.check(4.5, 1.0, step=12).is_bad
    assert guard.check(4.7, 1.0, step=13).is_bad


def test_the_last_one_allowed_in_a_row_ends_the_training_in_one_line():
    guard = warm(LossGuard(CONFIG))
    for step in (12, 13):
        assert guard.check(math.nan, 1.0, step=step).is_bad
    with pytest.raises(FloatingPointError, match="step 14 is bad step 3 in a row") as told:
        guard.check(50.0, 1.0, step=14, last_checkpoint=Path("runs/step-00000010"))
    assert "runs/step-00000010 is from before" in str(told.value)
    assert "\n" not in str(told.value)


def test_one_good_step_ends_a_row_of_bad_ones():
    guard = warm(LossGuard(CONFIG))
    for step in range(12, 40, 2):
        assert guard.check(math.inf, 1.0, step=step).is_bad
        assert not guard.check(4.0, 1.0, step=step + 1).is_bad
    assert guard.skipped == 14


def test_a_lasting_jump_does_not_become_normal():
    guard = warm(LossGuard(CONFIG))
    assert guard.check(9.0, 1.0, step=12).is_bad
    assert guard.check(9.0, 1.0, step=13).is_bad
    with pytest.raises(FloatingPointError):
        guard.check(9.0, 1.0, step=14)


@settings(deadline=None, max_examples=30)
@given(
    losses=st.lists(st.floats(0.01, 100) | st.sampled_from([math.nan, math.inf]), max_size=60), cut=st.integers(0, 60)
)
def test_a_resumed_guard_decides_as_an_uninterrupted_one(losses, cut):
    config = CONFIG.model_copy(update={"max_consecutive_skips": 1000})
    whole, resumed = LossGuard(config), LossGuard(config)
    for step, loss in enumerate(losses):
        if step == cut:
            state, resumed = json.loads(json.dumps(resumed.state(), allow_nan=False)), LossGuard(config)
            resumed.restore(state)
        assert whole.check(loss, 1.0, step=step) == resumed.check(loss, 1.0, step=step)
    assert whole.state() == resumed.state()


@pytest.mark.parametrize("state", [{}, {"losses": ["x"], "grad_norms": [], "skipped_in_a_row": 0, "skipped": 0}])
def test_a_state_that_is_none_is_refused_and_nothing_changes(state):
    guard = warm(LossGuard(CONFIG))
    before = guard.state()
    with pytest.raises(ValueError, match="a guard's state that cannot be read"):
        guard.restore(state)
    assert guard.state() == before


def test_a_history_longer_than_the_window_is_refused():
    with pytest.raises(ValueError, match="min_history 9 is beyond the window 8"):
        LossGuard(GuardConfig(window=8, min_history=9))
