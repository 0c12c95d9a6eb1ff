"""Verdicts: which numbers may be compared, and which of four words each comparison gets."""

import math
from typing import Any

import pytest
from scipy import stats

from reports.acceptance import make_accepted
from reports.accepted import Accepted
from reports.record import CheckpointInfo, Comparison, DataInfo, MetricValue, Record, Verdict
from reports.target import Target, read_targets
from reports.target_files import CONFIGS
from reports.verdict import Measured, compare, compare_record, compare_with_accepted, exit_code, measured_of, worst

MATCH, WITHIN, OFF, NOT = Verdict.MATCH, Verdict.WITHIN_SAMPLING_ERROR, Verdict.OFF, Verdict.NOT_COMPARABLE


def _target(**changes: Any) -> Target:
    fields: dict[str, Any] = {
        "id": "V7",
        "task": "ade20k",
        "dataset": "ADE20K",
        "dataset_version": "2016",
        "split": "val",
    }
    fields |= {"metric": "miou", "unit": "%", "direction": "higher", "value": 62.0, "printed": "62.0"}
    fields |= {"num_samples": 2000, "setting": "fine-tuned", "protocol": "slide-896-512/ss", "resolution_px": 896}
    fields |= {"scales": (1.0,), "flip": False, "duration_s": None, "precision": None, "train_data": "ADE20K"}
    return Target(**{**fields, "source": "P-T3", "confidence": "high", **changes})


def _metric(value: float, **changes: Any) -> MetricValue:
    return MetricValue(**{"name": "miou", "value": value, "n": 2000, **changes})


def _measured(value: float = 62.0, *, metric: dict[str, Any] | None = None, **changes: Any) -> Measured:
    fields: dict[str, Any] = {"task": "ade20k", "dataset": "ADE20K", "dataset_version": "2016", "split": "val"}
    fields |= {"profile": "paper", "model_size": "4b", "setting": "fine-tuned", "protocol": "slide-896-512/ss"}
    return Measured(**{**fields, "metric": _metric(value, **(metric or {})), **changes})


def _record(**changes: Any) -> Record:
    checkpoint = CheckpointInfo(name="one-peace-ade20k.pth", sha256="c0ffee", loaded=10)
    data = DataInfo(
        name="ADE20K", version="2016", root_name="ade", digest="d1", n=2000, n_expected=2000, ids_sha256="e5"
    )
    fields: dict[str, Any] = {"run_id": "r1", "task": "ade20k", "dataset": "ADE20K", "split": "val", "profile": "paper"}
    fields |= {"model_size": "4b", "setting": "fine-tuned", "protocol": "slide-896-512/ss", "protocol_sha256": "ab"}
    fields |= {"metrics": (_metric(61.97),), "checkpoint": checkpoint, "data": data, "config": {}, "dtype": "float32"}
    fields |= {"device": "cpu", "seed": 0, "commit": "0123456789", "is_dirty": False, "versions": {}}
    fields |= {"started_at": "2024-01-31T12:00:00+00:00", "duration_s": 3.5, "command": "run"}
    return Record(**{**fields, **changes})


@pytest.mark.parametrize(
    ("ours", "value", "printed", "verdict", "said"),
    [
        (62.0, 62.0, "62.0", MATCH, "equal"),
        (61.97, 62.0, "62.0", MATCH, "0.03 points worse"),
        (62.03, 62.0, "62.0", MATCH, "0.03 points better"),
        (61.9, 62.0, "62.0", MATCH, "tolerance of 0.1"),  # the edge itself
        (62.1, 62.0, "62.0", MATCH, "tolerance of 0.1"),
        (61.899, 62.0, "62.0", OFF, "worse than published, beyond the tolerance"),
        (62.101, 62.0, "62.0", OFF, "better than published, beyond the tolerance"),
        (88.743, 88.77, "88.77", MATCH, "0.027 points worse"),  # the authors' own second run
        (100 * 9547 / 10758, 88.77, "88.77", MATCH, "worse"),
        (100 * 9549 / 10758, 88.77, "88.77", MATCH, "worse"),  # one hit of 10758 is 0.009 points
        (91.75, 91.8, "91.8", MATCH, "0.05 points worse"),  # one hit of 2000
        (61.6, 62.0, "62", MATCH, "tolerance of 0.5"),  # half the printed digit is the larger
        (61.4, 62.0, "62", OFF, "tolerance of 0.5"),
        (89.65, 89.558, "89.6", MATCH, "better"),
        (59.6, 68.2, "68.2", OFF, "8.6 points worse"),
        (97.5, 97.6, "97.6", MATCH, "0.1 points worse"),  # one hit of 1000
        (97.4, 97.6, "97.6", OFF, "0.2 points worse"),  # two
        (100 * 498 / 975, 51.0, "51.0", MATCH, "0.0769 points better"),  # 497 and 498 of 975 are nearest
        (100 * 496 / 975, 51.0, "51.0", OFF, "0.128 points worse"),
        (0.0, 62.0, "62.0", OFF, "62 points worse"),
        (100.0, 100.0, "100.0", MATCH, "equal"),
        (math.nan, 62.0, "62.0", OFF, "ours is nan"),
        (math.inf, 62.0, "62.0", OFF, "ours is inf"),
    ],
)
def test_the_published_weights_on_the_published_data_must_stay_within_the_tolerance(
    ours: float, value: float, printed: str, verdict: Verdict, said: str
) -> None:
    target = _target(value=value, printed=printed)
    result = compare(_measured(ours), target, same_weights=True, full_data=True)
    assert result.verdict is verdict
    assert said in result.reason
    assert "\n" not in result.reason
    assert result.gap == (ours - value if math.isfinite(ours) else None)
    assert (result.target_id, result.printed, result.source) == ("V7", printed, "P-T3")


@pytest.mark.parametrize(
    ("ours", "low", "high", "verdict", "said"),
    [
        (61.5, 60.5, 62.5, WITHIN, "holds the published 62.0"),
        (62.4, 61.5, 63.3, WITHIN, "holds the published 62.0"),
        (61.0, 60.0, 62.0, WITHIN, "holds"),  # the edge itself
        (61.0, 60.0, 61.99, OFF, "does not reach the published 62.0"),
        (64.0, 63.0, 65.0, WITHIN, "2 points better than published"),  # better is never off
        (62.0, 61.0, 63.0, WITHIN, "equal"),
        (61.9, None, None, NOT, "no sampling interval"),
        (61.9, 61.0, None, NOT, "no sampling interval"),
        (61.9, math.nan, math.nan, NOT, "no sampling interval"),
        (math.nan, 60.0, 63.0, OFF, "ours is nan"),
    ],
)
def test_weights_trained_again_are_judged_by_their_interval_on_one_side(
    ours: float, low: float | None, high: float | None, verdict: Verdict, said: str
) -> None:
    measured = _measured(ours, metric={"ci_low": low, "ci_high": high})
    result = compare(measured, _target(), same_weights=False, full_data=True)
    assert result.verdict is verdict
    assert said in result.reason
    assert (result.gap is None) == (verdict is NOT or math.isnan(ours))


@pytest.mark.parametrize(
    ("ours", "verdict", "said"),
    [
        (0.653, MATCH, "equal to the published number"),
        (0.6534, MATCH, "0.0004 nats worse than published, within the tolerance of 0.0005 nats"),
        (0.6526, MATCH, "0.0004 nats better than published, within the tolerance of 0.0005 nats"),
        (0.6536, OFF, "0.0006 nats worse than published, beyond the tolerance of 0.0005 nats"),
        (0.70, OFF, "0.047 nats worse"),  # within 0.1, which is of per cent alone
        (0.60, OFF, "0.053 nats better"),
        (math.nan, OFF, "ours is nan"),
    ],
)
def test_a_number_that_is_no_per_cent_must_have_the_printed_digits(ours: float, verdict: Verdict, said: str) -> None:
    target = _target(metric="loss", unit="nats", value=0.653, printed="0.653", direction="lower")
    measured = _measured(ours, metric={"name": "loss", "unit": "nats", "direction": "lower"})
    result = compare(measured, target, same_weights=True, full_data=True)
    assert result.verdict is verdict
    assert said in result.reason


@pytest.mark.parametrize(
    ("by_seed", "verdict", "said"),
    [
        ((61.8, 62.1, 61.9), WITHIN, "mean of 3 seeds 0.0667 points worse than published"),
        ((60.9, 61.0, 61.1), OFF, "its one-sided 95 % bound 61.17 does not reach the published 62.0"),
        ((62.9, 63.0, 63.1), WITHIN, "mean of 3 seeds 1 points better"),  # better is never off
        ((61.0, 61.8), WITHIN, "mean of 2 seeds 0.6 points worse"),  # two seeds tell little
        ((61.0, 61.02), OFF, "does not reach"),
        ((61.9, math.nan), OFF, "ours is nan"),
    ],
)
def test_several_trainings_are_judged_by_their_mean_on_one_side(
    by_seed: tuple[float, ...], verdict: Verdict, said: str
) -> None:
    mean = sum(by_seed) / len(by_seed)
    result = compare(_measured(mean), _target(), same_weights=False, full_data=True, by_seed=by_seed)
    assert result.verdict is verdict
    assert said in result.reason
    lower = _target(direction="lower", value=-62.0, printed="-62.0")
    mirrored = _measured(-mean, metric={"direction": "lower"})
    turned = compare(mirrored, lower, same_weights=False, full_data=True, by_seed=[-value for value in by_seed])
    assert turned.verdict is verdict


def test_the_test_over_seeds_is_students() -> None:
    by_seed = (61.2, 61.9, 61.5, 61.4)
    worse = stats.ttest_1samp(by_seed, 62.0, alternative="less")
    edge = sum(by_seed) / 4 + stats.t.ppf(0.95, 3) * stats.sem(by_seed)
    assert worse.pvalue < 0.05
    for value, verdict in ((edge - 1e-6, WITHIN), (edge + 1e-6, OFF), (62.0, OFF)):
        target = _target(value=value, printed=f"{value:.4f}")
        assert compare(_measured(), target, same_weights=False, full_data=True, by_seed=by_seed).verdict is verdict


@pytest.mark.parametrize(
    ("ours", "low", "high", "verdict", "better"),
    [(0.66, 0.60, 0.70, WITHIN, False), (0.5, 0.4, 0.6, WITHIN, True), (0.9, 0.8, 1.0, OFF, False)],
)
def test_where_lower_is_better_the_other_side_counts(
    ours: float, low: float, high: float, verdict: Verdict, better: bool
) -> None:
    target = _target(metric="ce", value=0.653, printed="0.653", direction="lower")
    measured = _measured(ours, metric={"name": "ce", "direction": "lower", "ci_low": low, "ci_high": high})
    result = compare(measured, target, same_weights=False, full_data=True)
    assert (result.verdict, result.is_better) == (verdict, better)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"profile": "mini"}, "profile 'mini' is not the paper's"),
        ({"profile": "mini", "protocol": "slide-64-32/ss"}, "profile 'mini'"),  # the first difference is named
        ({"model_size": "mini"}, "model size 'mini' against '4b'"),
        ({"task": "coco_det"}, "task 'coco_det'"),
        ({"dataset": "COCO"}, "data set 'COCO' against 'ADE20K'"),
        ({"dataset_version": "2021"}, "data set version '2021' against '2016'"),
        ({"split": "test"}, "split 'test'"),
        ({"setting": "zero-shot"}, "setting 'zero-shot' against 'fine-tuned'"),
        ({"protocol": "slide-896-512/ms"}, "protocol 'slide-896-512/ms'"),
        ({"setting": "zero-shot", "protocol": "x"}, "setting"),
        ({"metric": {"name": "aacc"}}, "metric 'aacc' against 'miou'"),
        ({"metric": {"unit": "fraction"}}, "unit 'fraction'"),
        ({"metric": {"direction": "lower"}}, "direction 'lower'"),
        ({"metric": {"n": None}}, "over how many samples"),
        ({"metric": {"n": 1999}}, "1999 samples against 2000"),
        ({"metric": {"n": 2001}}, "2001 samples against 2000"),
    ],
    ids=str,
)
@pytest.mark.parametrize("same_weights", [True, False])
def test_another_protocol_or_other_samples_are_not_compared(
    changes: dict[str, Any], said: str, same_weights: bool
) -> None:
    result = compare(_measured(62.0, **changes), _target(), same_weights=same_weights, full_data=True)
    assert result.verdict is NOT
    assert result.gap is None
    assert said in result.reason


def test_part_of_the_data_is_not_compared_even_where_nobody_published_a_count() -> None:
    for target in (_target(), _target(num_samples=None)):
        result = compare(_measured(), target, same_weights=True, full_data=False)
        assert (result.verdict, result.reason) == (NOT, "ours does not cover every sample of the split")
    assert compare(_measured(), _target(num_samples=None), same_weights=True, full_data=True).verdict is MATCH


def test_audio_only_is_not_compared_with_audio_and_video() -> None:
    target = _target(value=68.2, printed="68.2", protocol="audio-video")
    result = compare(_measured(59.6, protocol="audio"), target, same_weights=True, full_data=True)
    assert result.verdict is NOT


def test_a_number_that_is_none_stays_not_comparable_in_a_mini_run() -> None:
    result = compare(_measured(math.nan, profile="mini"), _target(), same_weights=True, full_data=True)
    assert result.verdict is NOT


def test_each_metric_meets_the_target_of_its_own_protocol() -> None:
    targets = (_target(), _target(id="V9", protocol="slide-896-512/ms", value=62.98, printed="62.98"))
    for protocol, expected in (("slide-896-512/ss", "V7"), ("slide-896-512/ms", "V9"), ("slide-64-32/ms", "V9")):
        record = compare_record(_record(protocol=protocol), targets, same_weights=True)
        assert [c.target_id for c in record.comparisons] == [expected]


def test_a_number_published_twice_is_compared_twice_and_an_unpublished_one_not_at_all() -> None:
    record = _record(metrics=(_metric(61.97), _metric(80.0, name="fwiou")))
    record = compare_record(record, (_target(), _target(id="L4", source="I-59")), same_weights=True)
    assert [(c.metric, c.target_id) for c in record.comparisons] == [("miou", "V7"), ("miou", "L4")]
    assert compare_record(record, (_target(task="other"),), same_weights=True).comparisons == ()


def test_the_two_numbers_of_refcoco_plus_and_the_one_of_sound_alone_are_found_among_the_projects_own() -> None:
    grounding = read_targets(CONFIGS / "refcoco_plus.yaml")
    found = _like(grounding[0], 100 * 9546 / 10758)
    pairs = {c.target_id: c.verdict for c in compare_record(found, grounding, same_weights=True).comparisons}
    assert pairs == {"L2-val": MATCH, "L4": MATCH}
    sounds = {target.id: target for target in read_targets(CONFIGS / "vggsound.yaml")}
    alone = compare_record(_like(sounds["A7"], 59.6), sounds.values(), same_weights=True)
    assert [(c.target_id, c.verdict) for c in alone.comparisons] == [("A7", MATCH)]
    beside = compare(measured_of(alone, alone.metrics[0]), sounds["A8"], same_weights=True, full_data=True)
    assert (beside.verdict, beside.gap) == (NOT, None)


def _like(target: Target, value: float) -> Record:
    """Make a whole record of just what a target is of."""
    data = _record().data.model_copy(
        update={"version": target.dataset_version, "n": target.num_samples, "n_expected": target.num_samples}
    )
    names = ("task", "dataset", "split", "setting", "protocol")
    metric = _metric(value, name=target.metric, n=target.num_samples)
    return _record(**{name: getattr(target, name) for name in names}, data=data, metrics=(metric,))


def test_missing_samples_are_read_off_the_record() -> None:
    data = _record().data.model_copy(update={"n": 1900})
    record = compare_record(_record(data=data), (_target(num_samples=None),), same_weights=True)
    assert record.comparisons[0].verdict is NOT


def _accepted(tolerance: float | None = 0.0, **changes: Any) -> Accepted:
    return make_accepted(
        _record(**changes), reason="first", accepted_at="2024-02-01T12:00:00+00:00", tolerance=tolerance
    )


@pytest.mark.parametrize(
    ("value", "tolerance", "verdict", "code"),
    [
        (61.97, 0.0, MATCH, 0),
        (61.97 + 1e-13, 0.0, OFF, 0),  # an improvement is said, and is no failure
        (61.96, 0.0, OFF, 1),
        (61.96, 0.02, MATCH, 0),
        (61.93, None, MATCH, 0),  # 0.05 where nobody says
        (61.91, None, OFF, 1),
        (math.nan, 0.0, OFF, 1),
        (math.nan, 100.0, OFF, 1),
    ],
)
def test_the_accepted_number_holds_within_its_own_tolerance(
    value: float, tolerance: float | None, verdict: Verdict, code: int
) -> None:
    comparisons = compare_with_accepted(_record(metrics=(_metric(value),)), _accepted(tolerance))
    assert [c.verdict for c in comparisons] == [verdict]
    assert exit_code(comparisons) == code
    assert (comparisons[0].gap is None) == math.isnan(value)


def test_off_the_accepted_number_is_told_with_its_side_and_what_was_accepted() -> None:
    weights = _record().checkpoint.model_copy(update={"sha256": "beef", "name": "other.pth"})
    moved = compare_with_accepted(_record(metrics=(_metric(60.97),), checkpoint=weights), _accepted())[0]
    assert moved.reason == (
        "1 points worse than accepted, beyond the tolerance of 0 points, with other weights "
        "(other.pth against one-peace-ade20k.pth)"
    )
    assert moved.source == "accepted 2024-02-01 at commit 0123456: first"
    same = compare_with_accepted(_record(checkpoint=weights), _accepted())[0]
    assert same.reason == "equal to the accepted number, within the tolerance of 0 points"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"protocol_sha256": "cd"}, "protocol_sha256 'cd' against 'ab'"),
        ({"profile": "mini"}, "profile"),
        ({"seed": 1}, "seed 1 against 0"),
        ({"metrics": ()}, "no metric 'miou'"),
        ({"metrics": (_metric(61.97, n=1900),)}, "n 1900 against 2000"),
        ({"metrics": (_metric(61.97, direction="lower"),)}, "direction 'lower' against 'higher'"),
        ({"metrics": (_metric(0.6197, unit="fraction"),)}, "unit 'fraction' against '%'"),
        ({"data": _record().data.model_copy(update={"n": 1900})}, "data n 1900 against 2000"),
        ({"data": _record().data.model_copy(update={"ids_sha256": "ff"})}, "data ids_sha256"),
        ({"data": _record().data.model_copy(update={"version": "2021"})}, "data version"),
    ],
    ids=["protocol", "profile", "seed", "metric", "metric n", "direction", "unit", "count", "samples", "version"],
)
def test_another_run_than_the_accepted_one_exits_3(changes: dict[str, Any], said: str) -> None:
    comparisons = compare_with_accepted(_record(**changes), _accepted())
    assert [c.verdict for c in comparisons] == [NOT]
    assert said in comparisons[0].reason
    assert exit_code(comparisons) == 3


def _verdict(verdict: Verdict, **changes: Any) -> Comparison:
    first = compare(_measured(61.0), _target(), same_weights=True, full_data=True)
    return first.model_copy(update={"verdict": verdict, **changes})


@pytest.mark.parametrize(
    ("comparisons", "code"),
    [
        ([], 0),
        ([_verdict(MATCH), _verdict(WITHIN)], 0),
        ([_verdict(OFF)], 0),  # off the paper is a finding
        ([_verdict(OFF, gap=None)], 3),  # no number at all
        ([_verdict(OFF, gap=None, against="accepted")], 1),
        ([_verdict(MATCH), _verdict(NOT, gap=None)], 3),
        ([_verdict(NOT, gap=None, profile="mini")], 0),  # never meant to be compared with the paper
        ([_verdict(NOT, gap=None, profile="mini", against="accepted")], 3),
        ([_verdict(OFF, against="accepted"), _verdict(NOT, gap=None)], 1),
        ([_verdict(OFF, against="accepted", gap=0.5)], 0),
        ([_verdict(OFF, against="accepted", gap=0.5, direction="lower")], 1),
    ],
)
def test_the_exit_code_tells_regression_from_finding(comparisons: list[Comparison], code: int) -> None:
    assert exit_code(comparisons) == code


def test_the_worst_verdict_stands_for_all() -> None:
    assert worst([]) is None
    assert worst([_verdict(WITHIN), _verdict(MATCH)]) is WITHIN
    assert worst([_verdict(OFF), _verdict(NOT)]) is OFF


def test_the_words_are_the_four_conventional_ones() -> None:
    assert [str(verdict) for verdict in Verdict] == ["match", "within sampling error", "off", "not comparable"]
