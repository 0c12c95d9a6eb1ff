import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pretrain.ablation.effects import Interval, Word, judge, mean_interval, paired_difference


def test_the_interval_is_students():
    interval = mean_interval([1.0, 2.0, 3.0])
    # 97.5 % point of Student's t with 2 degrees of freedom, from printed tables: 4.303.
    assert interval.mean == 2.0
    assert interval.high - interval.mean == pytest.approx(4.303 / 3**0.5, rel=1e-4)
    assert interval.mean - interval.low == pytest.approx(interval.high - interval.mean)
    assert mean_interval([99.0, 97.0], bounds=(0.0, 100.0)).high == 100.0


def test_differences_are_taken_seed_by_seed():
    difference = paired_difference([11.0, 21.0, 31.5], [10.0, 20.0, 30.0])
    assert difference.mean == pytest.approx(3.5 / 3)
    assert difference.low > 0  # although the seeds are far apart
    with pytest.raises(ValueError, match="2 seeds against 1"):
        paired_difference([1.0, 2.0], [1.0])


@pytest.mark.parametrize(
    ("differences", "published", "word"),
    [
        ([2.0, 2.2, 2.4], +1.0, Word.AS_IN_PAPER),
        ([2.0, 2.2, 2.4], -1.0, Word.OPPOSITE),
        ([-2.0, -2.2, -2.4], -1.0, Word.AS_IN_PAPER),
        ([-1.0, 2.0, 5.0], +1.0, Word.NONE_SEEN),
        ([0.0, 0.0], +1.0, Word.NONE_SEEN),
        ([9.0], +1.0, Word.ONE_SEED),
        ([0.5, 0.5, 0.5], +1.0, Word.NO_SPREAD),
    ],
)
def test_a_word_is_what_the_interval_allows(differences, published, word):
    assert judge(mean_interval(differences), published) is word


@settings(deadline=None, max_examples=60)
@given(st.lists(st.floats(-50, 50), min_size=1, max_size=5), st.sampled_from([-1.0, 2.0]))
def test_no_word_claims_an_effect_where_the_interval_holds_zero(differences, published):
    interval = mean_interval(differences)
    if judge(interval, published) in (Word.AS_IN_PAPER, Word.OPPOSITE):
        assert interval.n > 1
        assert interval.low > 0 or interval.high < 0


def test_a_number_that_is_none_is_refused():
    with pytest.raises(ValueError, match="expected one finite number a seed"):
        mean_interval([1.0, float("nan")])
    with pytest.raises(ValueError, match="published difference of 0"):
        judge(Interval(mean=1, low=0.5, high=2, n=2, method=""), 0.0)
