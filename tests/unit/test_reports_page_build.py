"""Records to the page's data: newest and history, what stands beside a number, curves, ablations."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from reports.acceptance import make_accepted
from reports.accepted import baseline_name
from reports.page.ablations import is_ablation, read_ablation
from reports.page.build import build_page
from reports.page.curves import MAX_POINTS, read_curves, thin
from reports.page.data import Page
from reports.page.results import MAX_HISTORY
from reports.page.run_files import FirstFound, FolderFiles, StoreFiles
from reports.page.sources import Sources, TaskFacts, read_task_facts
from reports.record import CheckpointInfo, Comparison, DataInfo, MetricValue, Record, Verdict, write_record
from reports.store import EXPERIMENT


def _record(value: float = 50.0, **changes: Any) -> Record:
    data = DataInfo(name="E", version="miniworld", root_name="e", digest="d", n=8, n_expected=8, ids_sha256="e5")
    fields: dict[str, Any] = {"run_id": "r1", "task": "esc50", "dataset": "E", "split": "all", "profile": "mini"}
    fields |= {"model_size": "mini", "setting": "zero-shot", "protocol": "p/zero-shot", "protocol_sha256": "ab"}
    fields |= {"metrics": (MetricValue(name="accuracy", value=value, n=8, hits=4.0),), "data": data, "config": {}}
    fields |= {"checkpoint": CheckpointInfo(name="w", sha256=None, loaded=1), "commit": "0123456", "is_dirty": False}
    fields |= {"dtype": "float32", "device": "cpu", "seed": 0, "started_at": "2024-01-31T12:00:00+00:00"}
    fields |= {"versions": {"torch": "2.11.0"}, "duration_s": 1.0, "command": "python downstream/run.py esc50"}
    return Record(**{**fields, **changes})


def _at(day: int, value: float, **changes: Any) -> Record:
    changes = {"run_id": f"r{day}", "started_at": f"2024-01-{day:02}T12:00:00+00:00", "commit": f"{day:07}", **changes}
    return _record(value, **changes)


def test_the_newest_record_is_shown_and_all_are_its_history() -> None:
    page = build_page([_at(3, 52.0), _at(1, 50.0), _at(2, 51.0, is_dirty=True)], Sources())
    (run,) = page.runs
    assert (run.run_id, run.metrics[0].value) == ("r3", 52.0)
    assert [(one.value, one.commit, one.is_dirty) for one in run.history.points] == [
        (50.0, "0000001", False),
        (51.0, "0000002", True),
        (52.0, "0000003", False),
    ]
    assert (page.num_records, page.commits) == (3, ("0000001", "0000002", "0000003"))


def test_a_history_says_what_changed_besides_the_code() -> None:
    other = CheckpointInfo(name="w", sha256="c0", loaded=1)
    records = [_at(1, 50.0), _at(2, 51.0), _at(3, 52.0, checkpoint=other, seed=1), _at(4, 52.0, protocol_sha256="cd")]
    changed = [one.changed for one in build_page(records, Sources()).runs[0].history.points]
    assert changed == [(), (), ("weights", "seed"), ("protocol", "weights", "seed")]


def test_a_record_that_is_read_twice_counts_once() -> None:
    page = build_page([_record(), _record()], Sources())
    assert (page.num_records, len(page.runs), len(page.runs[0].history.points)) == (1, 1, 1)


def test_a_long_history_is_cut_and_it_is_told() -> None:
    page = build_page([_at(day, 50.0) for day in range(1, MAX_HISTORY + 4)], Sources())
    history = page.runs[0].history
    assert (len(history.points), history.num_left_out, history.points[0].run_id) == (MAX_HISTORY, 3, "r4")


def test_results_of_the_paper_profile_come_first_and_names_are_unique() -> None:
    paper = _record(run_id="p", profile="paper", model_size="4b")
    other = _record(run_id="q", dataset="E of another maker")
    page = build_page([_record(), other, paper], Sources())
    assert [run.profile for run in page.runs] == ["paper", "mini", "mini"]
    assert len({run.key for run in page.runs}) == 3


def test_an_accepted_number_stands_beside_its_result() -> None:
    accepted = make_accepted(_record(50.0), reason="first", accepted_at="2024-01-30T12:00:00+00:00", tolerance=1.0)
    sources = Sources(accepted={baseline_name(_record()): accepted})
    states = {}
    for value in (50.5, 40.0, 60.0):
        beside = build_page([_record(value)], sources).runs[0].metrics[0].accepted
        assert beside is not None
        assert (beside.value, beside.tolerance, beside.gap) == (50.0, 1.0, value - 50.0)
        states[value] = beside.state
    assert states == {50.5: "match", 40.0: "regression", 60.0: "better"}
    page = build_page([_record(40.0)], sources)
    assert [(one.profile, one.state, one.count) for one in page.tallies] == [("mini", "regression", 1)]
    assert build_page([_record()], Sources()).runs[0].metrics[0].accepted is None


def test_a_password_in_a_command_does_not_reach_the_page() -> None:
    command = "python downstream/run.py esc50 --tracking-uri https://me:secret@host/path"
    page = build_page([_record(command=command)], Sources())
    assert page.runs[0].command == "python downstream/run.py esc50 --tracking-uri https://host/path"
    assert "secret" not in page.to_json()


def test_runs_that_note_other_packages_share_an_environment_and_other_versions_do_not() -> None:
    records = [
        _record(run_id="a", task="a", versions={"torch": "2.11.0"}),
        _record(run_id="b", task="b", versions={"torch": "2.11.0", "soxr": "1.1.0"}),
        _record(run_id="c", task="c", versions={"torch": "2.12.0"}),
        _record(run_id="d", task="d", versions={"torch": "2.11.0"}, device="cuda"),
    ]
    page = build_page(records, Sources())
    assert [len(one.runs) for one in page.environments] == [2, 1, 1]
    assert [one.package for one in page.environments[0].versions] == ["soxr", "torch"]
    assert [run.environment for run in page.runs] == [0, 0, 1, 2]


def test_what_is_not_a_number_survives_the_json() -> None:
    page = build_page([_record(math.nan)], Sources())
    read = Page.model_validate_json(page.to_json())
    assert math.isnan(read.runs[0].metrics[0].value)
    assert json.loads(page.to_json())["runs"][0]["metrics"][0]["value"] == "NaN"


def test_titles_and_remarks_come_from_the_configs(tmp_path: Path) -> None:
    (tmp_path / "esc50.yaml").write_text("task: esc50\ntitle: ESC-50\nnotes: [five folds]\n", encoding="utf-8")
    (tmp_path / "odd.yaml").write_text("- 1\n", encoding="utf-8")
    facts = read_task_facts(tmp_path)
    assert facts == {"esc50": TaskFacts("ESC-50", ("five folds",))}
    (run,) = build_page([_record()], Sources(tasks=facts)).runs
    assert (run.title, run.remarks) == ("ESC-50", ("five folds",))
    (tmp_path / "bad.yaml").write_text("a: [", encoding="utf-8")
    with pytest.raises(ValueError, match=r"bad\.yaml: not YAML"):
        read_task_facts(tmp_path)


def test_no_record_makes_no_page() -> None:
    with pytest.raises(ValueError, match="no record"):
        build_page([], Sources())


def test_curves_come_from_the_log_of_the_run(tmp_path: Path) -> None:
    write_record(_record(), tmp_path / "run")
    rows = [{"step": step, "time": 1.5, "lr": 0.1, "loss": 10.0 / step, "odd": float("nan")} for step in range(1, 400)]
    lines = [json.dumps(row) for row in rows]
    lines[3:3] = ["", "{torn", '{"step": 4, "event": "saving"}', "[]", '{"step": "x", "loss": 1}']
    (tmp_path / "run" / "log.jsonl").write_text("\n".join(lines), encoding="utf-8")
    page = build_page([_record()], Sources(files=FolderFiles(tmp_path)))
    loss, lr = page.runs[0].curves
    assert (loss.name, lr.name, page.runs[0].curves_note) == ("loss", "lr", None)
    assert (loss.num_points, len(loss.steps), loss.steps[0], loss.steps[-1]) == (399, MAX_POINTS, 1, 399)
    assert (loss.first, loss.last, loss.lowest, loss.highest) == (10.0, 10 / 399, 10 / 399, 10.0)
    assert loss.values[1] == 10.0 / loss.steps[1]


def test_a_log_that_counts_iterations_is_read_too(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text('{"iteration": 10, "loss": 3.0}\n{"iteration": 20, "loss": 2.0}\n', encoding="utf-8")
    (curve,) = read_curves(path)
    assert (curve.steps, curve.values) == ((10, 20), (3.0, 2.0))


def test_a_run_without_a_curve_says_why() -> None:
    assert build_page([_record()], Sources()).runs[0].curves_note == "No curve: nothing was trained for this run."
    trained = build_page([_record(setting="fine-tuned")], Sources())
    assert trained.runs[0].curves_note == "No curve: no log.jsonl was found for this run."


@pytest.mark.parametrize(("count", "most"), [(1, 5), (5, 5), (6, 5), (1000, 7)])
def test_thinning_keeps_the_ends(count: int, most: int) -> None:
    places = thin(count, most)
    assert (places[0], places[-1], len(places)) == (0, count - 1, min(count, most))


def _ablation() -> Record:
    metrics, comparisons = [], []
    for variant, label, value, paper in (("alone", "CL", 30.0, 35.94), ("text", "CL + L", 31.0, 37.02)):
        name = f"{variant}_recall_at_1_image_to_text"
        metrics.append(MetricValue(name=name, value=value, n=3, ci_low=value - 1, ci_high=value + 1, ci_method="t"))
        if variant == "text":
            metrics.append(MetricValue(name=f"{name}_difference", value=1.0, unit="points", ci_low=0.2, ci_high=1.8))
        metrics.append(MetricValue(name=f"{variant}_training_contrast", value=3.4, unit="nats", n=3))
        reason = "only the direction of an effect can be compared" + (": effect as in the paper" if value > 30 else "")
        comparisons.append(
            Comparison(
                target_id=f"terms/{label}",
                metric=name,
                published=paper,
                printed=f"{paper:.2f}",
                source="table 12",
                gap=None,
                verdict=Verdict.NOT_COMPARABLE,
                reason=reason,
                profile="mini",
            )
        )
    task = "pretrain_ablation_terms"
    config = {"seeds": [0, 1, 2], "steps": 20}
    return _record(run_id="a", task=task, metrics=tuple(metrics), comparisons=tuple(comparisons), config=config)


def test_an_ablation_is_laid_out_beside_the_papers() -> None:
    ablation = read_ablation(_ablation())
    assert (ablation.name, ablation.source, ablation.seeds, ablation.steps) == ("terms", "table 12", (0, 1, 2), 20)
    recall, contrast = ablation.parts
    assert [(row.label, row.ours.value, row.printed) for row in recall.rows] == [
        ("CL", 30.0, "35.94"),
        ("CL + L", 31.0, "37.02"),
    ]
    assert recall.rows[0].difference is None
    assert recall.rows[1].difference is not None
    assert (recall.rows[1].difference.ci_low, recall.rows[1].says) == (0.2, "effect as in the paper")
    assert [row.paper for row in contrast.rows] == [None, None]
    assert [row.label for row in contrast.rows] == ["CL", "CL + L"]


def test_the_emergent_table_is_told_apart_by_direction() -> None:
    metrics = tuple(
        MetricValue(name=f"emergent_{what}_{way}", value=2.0, unit=unit)
        for way in ("audio_to_image", "image_to_audio")
        for what, unit in (("recall_at_1", "%"), ("times_chance", "x"))
    )
    ablation = read_ablation(_record(task="pretrain_ablation_emergent", metrics=metrics))
    assert [(part.metric, part.unit, [row.label for row in part.rows]) for part in ablation.parts] == [
        ("recall_at_1", "%", ["audio to image", "image to audio"]),
        ("times_chance", "x", ["audio to image", "image to audio"]),
    ]


def test_ablations_are_no_results() -> None:
    page = build_page([_record(), _ablation()], Sources())
    assert ([run.task for run in page.runs], [one.name for one in page.ablations]) == (["esc50"], ["terms"])
    assert is_ablation(_ablation())


def test_files_of_a_run_are_found_in_its_folder(tmp_path: Path) -> None:
    record = _record()
    write_record(record, tmp_path / "runs" / "x")
    (tmp_path / "runs" / "x" / "labels").mkdir()
    (tmp_path / "runs" / "x" / "labels" / "a.png").write_bytes(b"")
    (tmp_path / "runs" / "y").mkdir()
    (tmp_path / "runs" / "y" / "record.json").write_text("[]", encoding="utf-8")
    files = FirstFound([FolderFiles(tmp_path / "nowhere"), FolderFiles(tmp_path / "runs")])
    assert files.find(record, "labels/a.png") == tmp_path / "runs" / "x" / "labels" / "a.png"
    assert files.find(record, "labels") is None  # no file
    assert files.find(record, "none.txt") is None
    assert files.find(_record(run_id="other"), "labels/a.png") is None


def test_a_name_never_leads_out_of_the_runs_folder(tmp_path: Path) -> None:
    write_record(_record(), tmp_path / "x")
    (tmp_path / "secret.png").write_bytes(b"")
    files = FolderFiles(tmp_path)
    assert files.find(_record(), "../secret.png") is None
    assert files.find(_record(), f"labels/{tmp_path}/secret.png") is None
    assert files.find(_record(), str(tmp_path / "secret.png")) is None


def test_a_store_that_fails_costs_a_file_and_not_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(tracking_uri: str) -> None:
        raise ConnectionError(tracking_uri)

    monkeypatch.setattr("reports.page.run_files.open_client", fail)
    with StoreFiles("https://host", (EXPERIMENT,)) as store:
        assert store.find(_record(), "log.jsonl") is None
