"""The journal: a log without a missing or a doubled step, a line that fits, and no word lost on a kill."""

import io
import json
import math
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pretrain.journal import MAX_COLUMNS, Journal, Plan, describe, read_log, summarise
from reports.log_file import LOG_FILE, Event, cut_log, encode_row, read_events

PLAN = Plan("stage1", 3000, 20, peak_flops_per_s=1e12)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class FakeLive:
    """Stands for a run in MLflow."""

    def __init__(self) -> None:
        self.sent: list[tuple[int, dict[str, float], float]] = []
        self.waiting = ["MLflow: a word"]
        self.end: tuple[str, list[Path]] | None = None

    def log(self, step: int, metrics: dict[str, float], *, time_s: float) -> None:
        self.sent.append((step, dict(metrics), time_s))

    def news(self) -> list[str]:
        told, self.waiting = self.waiting, []
        return told

    def finish(self, status: str, artifacts: list[Path], *, limit_s: float) -> bool:
        self.end = (status, artifacts)
        self.waiting = ["MLflow: the end"]
        return True


def open_journal(folder: Path, stream: io.StringIO | None = None, **changes: Any) -> Journal:
    options: dict[str, Any] = {"total_steps": 10, "log_every_steps": 2, "title": "stage1", **changes}
    return Journal.open(folder, stream=stream or io.StringIO(), **options)


def metrics_of(step: int) -> dict[str, float]:
    return {
        "loss": 10.0 - step,
        "loss_contrast": 1.0 + step,
        "loss_vl_image": 2.5,
        "accuracy_text_to_image": 61.0,
        "lr": 9.8e-4,
        "grad_norm": 1.25,
        "seconds": 0.5,
        "samples": 617,
        "tokens": 1000,
        "flops": 2.25e11,
        "memory_gib": 2.1,
    }


def test_a_row_holds_what_came_in_and_the_speed(tmp_path: Path) -> None:
    with open_journal(tmp_path, peak_flops_per_s=1e12) as journal:
        journal.step(1, metrics_of(1))
    (row,) = read_log(tmp_path)
    told = {name: row[name] for name in metrics_of(1)}
    assert told == metrics_of(1)
    assert (row["step"], row["samples_per_s"], row["tokens_per_s"], row["mfu"]) == (1, 1234.0, 2000.0, 45.0)


def test_without_a_peak_or_seconds_nothing_is_derived_from_them(tmp_path: Path) -> None:
    with open_journal(tmp_path) as journal:
        journal.step(1, metrics_of(1))
        journal.step(2, metrics_of(2) | {"seconds": 0.0})
    first, second = read_log(tmp_path)
    assert "mfu" not in first
    assert not {"mfu", "samples_per_s", "tokens_per_s"} & set(second)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_not_finite_come_back_and_the_log_is_strict_json(tmp_path: Path, value: float) -> None:
    with open_journal(tmp_path) as journal:
        journal.step(1, {"loss": value})
    (row,) = read_log(tmp_path)
    assert math.isnan(row["loss"]) if math.isnan(value) else row["loss"] == value
    fields = json.loads((tmp_path / LOG_FILE).read_text(), parse_constant=pytest.fail)
    assert fields["loss"] == str(value)


def test_every_step_is_on_disk_before_the_next(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    for step in (1, 2, 3):
        journal.step(step, {"loss": 1.0})
        assert [row["step"] for row in read_log(tmp_path)] == list(range(1, step + 1))
    journal.close("FINISHED")


def test_a_resumed_log_has_every_step_once(tmp_path: Path) -> None:
    with open_journal(tmp_path) as journal:
        for step in range(1, 8):
            journal.step(step, {"loss": float(step)})
            if step == 4:
                journal.event(4, "saving step-00000004")
        journal.event(7, "corrupt")
    stream = io.StringIO()
    with open_journal(tmp_path, stream, resume_from=4) as journal:
        for step in range(5, 11):
            journal.step(step, {"loss": 10.0 * step})
    rows = read_log(tmp_path)
    assert [row["step"] for row in rows] == list(range(1, 11))
    assert [row["loss"] for row in rows[3:6]] == [4.0, 50.0, 60.0]
    resumed = Event(4, "resumed, 3 later steps removed from the log")
    assert read_events(tmp_path) == [Event(4, "saving step-00000004"), resumed]
    assert stream.getvalue().startswith("stage1 4/10  resumed, 3 later steps removed")


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10**6), resume_from=st.integers(0, 6))
def test_a_log_that_a_kill_tore_anywhere_is_taken_up_again(
    tmp_path_factory: pytest.TempPathFactory, seed: int, resume_from: int
) -> None:
    folder = tmp_path_factory.mktemp("torn")
    content = "".join(encode_row(step, step, {"loss": 1 / step}) for step in range(1, 7)).encode()
    torn = content[: random.Random(seed).randrange(len(content) + 1)]
    (folder / LOG_FILE).write_bytes(torn)
    whole = torn.count(b"\n")
    assert [row["step"] for row in read_log(folder)] == list(range(1, whole + 1))
    cut = cut_log(folder, resume_from)
    kept = min(whole, resume_from)
    assert (cut.last_step, cut.num_steps) == (kept, whole - kept)
    assert (folder / LOG_FILE).read_bytes() == b"".join(content.splitlines(keepends=True)[:kept])
    assert [path.name for path in folder.iterdir()] == [LOG_FILE]


def test_steps_that_a_log_has_lost_are_told(tmp_path: Path) -> None:
    (tmp_path / LOG_FILE).write_text(encode_row(3, 0.0, {"loss": 1.0}))
    open_journal(tmp_path, resume_from=5).close("KILLED")
    (event,) = read_events(tmp_path)
    assert "ends at step 3, so 2 steps before are missing" in event.text


def test_the_log_of_another_training_is_not_continued_unasked(tmp_path: Path) -> None:
    (tmp_path / LOG_FILE).write_text(encode_row(3, 0.0, {"loss": 1.0}))
    with pytest.raises(ValueError, match="resume that one, or train into another folder"):
        open_journal(tmp_path)
    assert len(read_log(tmp_path)) == 1


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="make the training's folder"):
        open_journal(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match=r"no log\.jsonl"):
        read_log(tmp_path)


@pytest.mark.parametrize(
    "line", ["{torn", "[]", '{"loss": 1}', '{"step": 1, "loss": null}', '{"step": 1, "loss": "x"}']
)
def test_a_damaged_line_in_the_middle_is_named_and_nothing_is_changed(tmp_path: Path, line: str) -> None:
    content = line + "\n" + encode_row(2, 0.0, {"loss": 1.0})
    (tmp_path / LOG_FILE).write_text(content)
    with pytest.raises(ValueError, match="line 1 is damaged"):
        open_journal(tmp_path, resume_from=1)
    assert (tmp_path / LOG_FILE).read_text() == content


@pytest.mark.parametrize(
    ("metrics", "match"),
    [
        ({"time": 1.0}, "field of the log"),
        ({"mfu": 1.0}, "derived by the journal"),
        ({"loss": "3"}, "expected a plain number"),
        ({"loss": True}, "expected a plain number"),
    ],
)
def test_metrics_that_would_be_misread_are_refused(tmp_path: Path, metrics: dict[str, Any], match: str) -> None:
    with open_journal(tmp_path) as journal, pytest.raises(ValueError, match=match):
        journal.step(1, metrics)
    assert read_log(tmp_path) == []


def test_a_step_is_noted_once(tmp_path: Path) -> None:
    with open_journal(tmp_path) as journal:
        journal.step(2, {"loss": 1.0})
        with pytest.raises(ValueError, match="step 2 was noted before"):
            journal.step(2, {"loss": 1.0})


def test_the_console_gets_a_line_an_interval_with_its_means(tmp_path: Path) -> None:
    stream = io.StringIO()
    with open_journal(tmp_path, stream, peak_flops_per_s=1e12) as journal:
        for step in range(1, 5):
            journal.step(step, metrics_of(step))
    first, second = stream.getvalue().splitlines()
    assert first == (
        "stage1 2/10  loss 8.5 (contrast 2.5 vl_image 2.5)  t2i 61 %  lr 9.8e-4  norm 1.25  1 234 samples/s  "
        "45 % MFU  2.1 GiB  4 s left"
    )
    assert second.startswith("stage1 4/10  loss 6.5 (contrast 4.5")


def test_the_last_step_has_a_line_whatever_the_interval(tmp_path: Path) -> None:
    stream = io.StringIO()
    with open_journal(tmp_path, stream, total_steps=3) as journal:
        for step in (1, 2, 3):
            journal.step(step, metrics_of(step))
    assert [line.split()[1] for line in stream.getvalue().splitlines()] == ["2/3", "3/3"]


def test_a_long_line_shortens_its_terms_before_it_drops_anything() -> None:
    terms = {f"loss_{name}": 1.234567 for name in ("image", "text", "vl_image", "vl_text")}
    row = {**metrics_of(1), **terms, "accuracy_image_to_text": 59.0}
    line = describe([row], 1200, plan=PLAN)
    assert len(line) <= MAX_COLUMNS
    assert "(c 2 vi 1.23 i 1.23 t 1.23 vt 1.23)" in line
    assert "t2i 61 %  i2t 59 %" in line
    assert "1 234 samples/s" in line
    assert "GiB" not in line
    assert line.endswith("15 min left")


def test_a_loss_that_is_no_number_is_shown_as_such() -> None:
    rows = [{"loss": 1.0}, {"loss": math.nan}]
    assert describe(rows, 40, plan=PLAN) == "stage1 40/3000  loss nan"
    assert describe([{"loss": math.inf}, {"loss": -math.inf}], 40, plan=PLAN) == "stage1 40/3000  loss nan"


def test_long_times_have_two_units() -> None:
    rows = [{"loss": 1.0, "seconds": 3.0}]
    assert describe(rows, 100, plan=Plan("s", 3100, 1)).endswith("2 h 30 min left")
    assert describe(rows, 0, plan=Plan("s", 100_000, 1)).endswith("3 d 11 h left")


def test_a_terminal_gets_a_bar_and_events_between(tmp_path: Path) -> None:
    stream = Terminal()
    with open_journal(tmp_path, stream) as journal:
        for step in range(1, 11):
            journal.step(step, metrics_of(step))
            if step == 5:
                journal.event(5, "saving\nstep-00000005")
    text = stream.getvalue()
    assert "\nstage1 5/10  saving step-00000005\n" in text
    assert "10/10" in text
    assert "loss 0.5" in text
    assert read_events(tmp_path) == [Event(5, "saving step-00000005")]


def test_mlflow_gets_the_rows_of_the_log_and_its_news_are_told(tmp_path: Path) -> None:
    live, stream = FakeLive(), io.StringIO()
    with open_journal(tmp_path, stream, live=live) as journal:
        journal.step(1, metrics_of(1))
    (row,) = read_log(tmp_path)
    ((step, metrics, time_s),) = live.sent
    assert {"step": step, "time": time_s, **metrics} == row
    assert live.end == ("FINISHED", [tmp_path / LOG_FILE])
    assert stream.getvalue().splitlines() == ["MLflow: a word", "MLflow: the end"]


@pytest.mark.parametrize(("error", "status"), [(FloatingPointError, "FAILED"), (KeyboardInterrupt, "KILLED")])
def test_the_run_ends_as_the_training_did(tmp_path: Path, error: type[BaseException], status: str) -> None:
    live = FakeLive()
    with pytest.raises(error), open_journal(tmp_path, live=live):
        raise error
    assert live.end is not None
    assert live.end[0] == status


def test_closing_twice_ends_once(tmp_path: Path) -> None:
    live = FakeLive()
    with open_journal(tmp_path, live=live) as journal:
        journal.close("KILLED")
    assert live.end is not None
    assert live.end[0] == "KILLED"


def test_a_summary_has_the_ends_and_the_best_stretch() -> None:
    losses = [5.0, 3.0, 1.0, 1.0, math.nan, 2.0, 4.0]
    rows = [{"step": step, "loss": loss, "seconds": 0.5} for step, loss in enumerate(losses, start=1)]
    summary = summarise(rows, window=2)
    assert (summary.first_loss, summary.last_loss, summary.best_loss, summary.best_step) == (4.0, 3.0, 1.0, 4)
    assert (summary.num_steps, summary.num_not_finite, summary.total_seconds) == (7, 1, 3.5)
    assert summarise(rows).window == 6
    with pytest.raises(ValueError, match="no finite loss"):
        summarise([{"step": 1, "loss": math.nan}])
