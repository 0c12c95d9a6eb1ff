"""Places in a drawing, and the size of the page."""

import math

import pytest

from reports.page.build import build_page
from reports.page.data import Page, Picture, Sample, Samples
from reports.page.fit import fit
from reports.page.plots import INSET, SHARES, WIDTH, Axis, lay_out, make_axis, trace_line
from reports.page.sources import Sources
from reports.record import CheckpointInfo, DataInfo, MetricValue, Record


@pytest.mark.parametrize(
    ("values", "low", "high"),
    [
        ([63.9, 67.9], 63, 68),
        ([0.3], 0.296, 0.304),
        ([5.5, 37.5], 0, 40),
        ([1.0, 1.0], 0.99, 1.01),
        ([0.0], -0.01, 0.01),
        ([], -0.01, 0.01),
    ],
)
def test_a_scale_has_round_ends_and_holds_its_values(values: list[float], low: float, high: float) -> None:
    axis = make_axis(values)
    assert axis.low <= min(values, default=0.0)
    assert axis.high >= max(values, default=0.0)
    assert axis.low == pytest.approx(low, abs=0.006)
    assert axis.high == pytest.approx(high, abs=0.006)
    assert axis.ticks[0] == pytest.approx(axis.low)
    assert axis.ticks[-1] == pytest.approx(axis.high)
    assert 2 <= len(axis.ticks) <= 7


def test_a_scale_of_gaps_is_even_around_the_published_number_and_lets_outliers_leave() -> None:
    axis = make_axis([-1.2, 0.4, -31.7, math.nan], is_gap=True)
    assert (axis.low, axis.high) == (-2, 2)
    assert axis.ticks == (-2, -1, 0, 1, 2)


def test_ends_of_a_scale_stand_at_the_insets() -> None:
    assert (SHARES.place(0), SHARES.place(50), SHARES.place(100)) == (INSET, WIDTH / 2, WIDTH - INSET)
    assert SHARES.place(123) == WIDTH - INSET


def test_a_gap_counts_from_the_published_number() -> None:
    axis = Axis(-2.0, 2.0, (), is_gap=True)
    placed = lay_out(axis, 61.0, low=60.5, high=65.0, reference=62.0)
    assert (placed.value, placed.low, placed.reference) == (axis.place(-1), axis.place(-1.5), axis.place(0))
    assert (placed.is_cut_low, placed.is_cut_high) == (False, True)


def test_what_is_off_the_scale_or_no_number_is_not_drawn() -> None:
    axis = Axis(-2.0, 2.0, (), is_gap=True)
    assert lay_out(axis, 50.0, low=None, high=None, reference=62.0).value is None
    assert lay_out(axis, 50.0, low=None, high=None, reference=62.0).is_cut_low
    nothing = lay_out(SHARES, math.nan, low=None, high=math.inf, reference=None)
    assert (nothing.value, nothing.low, nothing.high, nothing.reference) == (None, None, None, None)


def test_a_curve_goes_from_left_to_right_and_its_highest_value_is_at_the_top() -> None:
    assert trace_line([1, 2, 3], [4.0, 8.0, 6.0]) == "0.0,110.0 160.0,0.0 320.0,55.0"
    assert trace_line([1, 1], [2.0, 2.0]) == "0.0,110.0 0.0,110.0"


def _page(num_samples: int, source: str) -> Page:
    record = Record(
        run_id="r1", task="esc50", dataset="E", split="all", profile="mini", model_size="mini", setting="zero-shot",
        protocol="p/zero-shot", protocol_sha256="ab", metrics=(MetricValue(name="accuracy", value=1.0, n=8),),
        checkpoint=CheckpointInfo(name="w", sha256=None, loaded=1), seed=0, config={}, dtype="float32", device="cpu",
        data=DataInfo(name="E", version="v", root_name="e", digest="d", n=8, n_expected=8, ids_sha256="e5"),
        commit="0123456", versions={}, is_dirty=True, started_at="2024-01-31T12:00:00+00:00", duration_s=1, command="",
    )  # fmt: skip
    picture = Picture(role="picture", caption="c", alt="a", source=source, width_px=1, height_px=1)
    samples = tuple(
        Sample(id=str(i), is_right=None, said=(), scores=(), pictures=(picture,)) for i in range(num_samples)
    )
    (run,) = build_page([record], Sources()).runs
    run = run.model_copy(
        update={"samples": Samples(rule="by IoU", num_rows=9, worst=samples, best=samples, sheet=picture)}
    )
    return build_page([record], Sources()).model_copy(update={"runs": (run,)})


def _sources(page: Page) -> list[bool]:
    samples = page.runs[0].samples
    pictures = [one for sample in (*samples.worst, *samples.best) for one in sample.pictures]
    return [one.source is not None for one in (*pictures, *([samples.sheet] if samples.sheet else []))]


def test_a_page_that_is_small_enough_keeps_every_picture() -> None:
    page = _page(2, "data:" + "x" * 100)
    assert fit(page, Page.to_json, max_bytes=100_000) is page


def test_pictures_are_left_out_from_the_back_until_the_page_fits_and_it_is_told() -> None:
    page = _page(4, "data:" + "x" * 20_000)
    fitted = fit(page, Page.to_json, max_bytes=100_000)
    assert len(fitted.to_json().encode()) <= 100_000
    assert _sources(fitted) == [True, False, False, False, True, True, False, False, True]  # first samples stay
    assert fitted.notes == ("5 of 9 pictures were left out to keep the page below 0.1 MB.",)


def test_a_page_that_is_too_large_without_pictures_is_refused_in_one_line() -> None:
    page = _page(1, "data:")
    with pytest.raises(ValueError, match=r"takes [\d,]+ bytes without any picture, expected at most 3,000") as caught:
        fit(page, Page.to_json, max_bytes=3_000)
    assert "\n" not in str(caught.value)
