"""Records of foreign numbers: what nobody knows is unknown, and no verdict stands on it."""

import json
import re
from dataclasses import replace
from typing import Any

import pytest

from reports.acceptance import accept_records
from reports.exports.document import IMPORT
from reports.foreign.imported import Claims, Origin, choose_entry, claim_like, make_record
from reports.foreign.reading import Entry, Reading, measure
from reports.provenance import digest
from reports.record import MetricValue, Record, Verdict
from reports.target import Target

ORIGIN = Origin("test.log", "ab" * 32, "python reports/run.py import test.log", "2024-01-31T12:00:00+00:00")
CLAIMS = Claims("esc50", "all")


def _target(**changes: Any) -> Target:
    fields: dict[str, Any] = {"id": "A5", "task": "esc50", "dataset": "ESC-50", "dataset_version": "2000 clips"}
    fields |= {"split": "all", "metric": "accuracy", "unit": "%", "direction": "higher", "value": 91.8}
    fields |= {"printed": "91.8", "num_samples": 2000, "setting": "zero-shot", "protocol": "audio-15s/zero-shot"}
    fields |= {"resolution_px": None, "scales": (), "flip": False, "duration_s": 15, "precision": None}
    return Target(**{**fields, "train_data": "none", "source": "table 7", "confidence": "high", **changes})


def _make(
    *metrics: MetricValue, claims: Claims = CLAIMS, targets: tuple[Target, ...] = (), ids: tuple[str, ...] | None = None
) -> Record:
    entry = Entry(metrics or (measure("accuracy", 91.8),), "line 3", step=7, ids=ids)
    return make_record(Reading("a log", (entry,)), entry, claims, origin=ORIGIN, targets=targets)


def test_what_nobody_says_is_unknown() -> None:
    record = _make()
    assert (record.dataset, record.setting, record.protocol, record.model_size) == ("unknown",) * 4
    assert (record.commit, record.dtype, record.device, record.protocol_sha256) == ("unknown",) * 4
    assert (record.checkpoint.name, record.checkpoint.sha256, record.checkpoint.loaded) == ("unknown", None, 0)
    assert (record.data.digest, record.data.ids_sha256, record.data.n, record.data.n_expected) == (
        "unknown",
        "unknown",
        0,
        None,
    )
    assert (record.versions, record.seed, record.metrics[0].n) == ({}, -1, None)
    assert record.is_dirty
    told = record.config[IMPORT]
    assert isinstance(told, dict)
    assert told["unknown"] == sorted(
        [
            *("checkpoint", "commit", "dataset", "dataset_version", "device", "dtype", "duration_s", "model_size"),
            *("num_samples", "protocol", "seed", "setting", "started_at", "versions"),
        ]
    )


def test_a_record_says_which_file_it_comes_from_and_reads_back() -> None:
    record = _make(claims=replace(CLAIMS, setting="zero-shot"))
    told = record.config[IMPORT]
    assert isinstance(told, dict)
    assert (told["file"], told["sha256"], told["layout"], told["step"]) == ("test.log", "ab" * 32, "a log", 7)
    assert told["entry"] == "line 3, evaluation 1 of 1"
    assert told["stated"] == {"profile": "paper", "setting": "zero-shot", "split": "all", "task": "esc50"}
    assert record.command == ORIGIN.command
    assert record.started_at == ORIGIN.read_at
    assert Record.from_json(record.to_json()) == record


def test_the_same_reading_gives_the_same_bytes_and_another_claim_another_run() -> None:
    assert _make().to_json() == _make().to_json()
    assert re.fullmatch(r"20240131-120000_esc50_import_[0-9a-f]{6}", _make().run_id)
    assert _make().run_id != _make(claims=replace(CLAIMS, setting="zero-shot")).run_id


def test_the_samples_ids_are_kept_as_our_own_runs_keep_them() -> None:
    assert _make(ids=("a", "b")).data.ids_sha256 == digest(["a", "b"])


def test_a_number_without_a_count_is_not_comparable() -> None:
    claims = claim_like(CLAIMS, _target())
    (comparison,) = _make(claims=claims, targets=(_target(),)).comparisons
    assert (comparison.verdict, comparison.gap) == (Verdict.NOT_COMPARABLE, None)
    assert comparison.reason == "nobody says over how many samples ours is"


@pytest.mark.parametrize(
    ("changes", "n", "verdict", "said"),
    [
        ({}, 2000, Verdict.WITHIN_SAMPLING_ERROR, "equal to the published number"),
        ({}, 1999, Verdict.NOT_COMPARABLE, "1999 samples against 2000"),
        ({"model_size": "mini"}, 2000, Verdict.NOT_COMPARABLE, "model size 'mini' against '4b'"),
        ({"profile": "mini"}, 2000, Verdict.NOT_COMPARABLE, "profile 'mini' is not the paper's"),
        ({"protocol": "other"}, 2000, Verdict.NOT_COMPARABLE, "protocol 'other'"),
    ],
)
def test_only_a_whole_claim_is_comparable_and_never_as_the_same_weights(
    changes: dict[str, Any], n: int, verdict: Verdict, said: str
) -> None:
    claims = replace(claim_like(CLAIMS, _target()), **changes)
    value = 100 * round(0.918 * n) / n
    (comparison,) = _make(
        measure("accuracy", value, n=n, each_alone=True), claims=claims, targets=(_target(),)
    ).comparisons
    assert comparison.verdict is verdict
    assert comparison.verdict is not Verdict.MATCH
    assert said in comparison.reason


def test_counts_without_an_interval_are_not_comparable() -> None:
    claims = replace(claim_like(CLAIMS, _target()), num_samples=2000)
    record = _make(claims=claims, targets=(_target(),))
    assert record.metrics[0].n == 2000
    assert record.comparisons[0].reason == "weights trained again, and ours has no sampling interval"


def test_a_count_in_the_file_is_not_replaced() -> None:
    assert _make(measure("accuracy", 50.0, n=10), claims=replace(CLAIMS, num_samples=99)).metrics[0].n == 10


def test_a_claim_like_a_published_number_fills_what_is_not_stated() -> None:
    claims = claim_like(replace(CLAIMS, model_size="mini"), _target())
    assert (claims.dataset, claims.setting, claims.protocol) == ("ESC-50", "zero-shot", "audio-15s/zero-shot")
    assert claims.model_size == "mini"
    with pytest.raises(ValueError, match="A5 is of split 'fold 1', not 'all'"):
        claim_like(CLAIMS, _target(split="fold 1"))


def test_the_last_evaluation_counts_or_the_one_that_is_named_and_never_the_best() -> None:
    entries = tuple(Entry((measure("accuracy", value),), f"line {step}", step=step) for value, step in ((9, 1), (8, 2)))
    reading = Reading("a log", entries)
    assert choose_entry(reading, None).metrics[0].value == 8
    assert choose_entry(reading, 1).metrics[0].value == 9
    with pytest.raises(ValueError, match=r"no evaluation of step 3\. Steps of evaluations in the file: 1, 2"):
        choose_entry(reading, 3)


def test_an_import_is_not_accepted_as_one_of_ours(tmp_path: Any) -> None:
    with pytest.raises(ValueError, match="commit"):
        accept_records([_make()], tmp_path / "accepted", reason="x", accepted_at="2024-01-31T12:00:00+00:00")
    assert not (tmp_path / "accepted").exists()


def test_a_configs_key_holds_plain_json() -> None:
    json.dumps(_make().config, allow_nan=False)
