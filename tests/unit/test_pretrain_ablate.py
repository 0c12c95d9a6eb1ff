import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import pytest
import torch

from miniworld.pretraining import write_pairs
from models.world import World
from pretrain.ablate import JSON_FILE, MARKDOWN_FILE, PLOT_FILE, make_report, run_jobs, write_report
from pretrain.ablation.config import EMERGENT, RECALLS, Job, VariantConfig, load_ablations, make_order, plan_jobs
from pretrain.ablation.effects import Word
from pretrain.ablation.finished import judge_weights
from pretrain.ablation.records import make_records
from pretrain.ablation.report import render
from pretrain.ablation.results import TRAINED_CONTRAST, RunResult, read_result
from pretrain.ablation.training import Ground, time_job, train
from pretrain.cli import build_parser, main
from pretrain.evaluate import Evaluation
from pretrain.trainer import Trainer
from reports.provenance import Clock
from reports.record import DataInfo, MetricValue

ABLATIONS = load_ablations()
PARAMETERS = {"contrast_alone": 130_109, "share_nothing": 147_901, "all_terms": 130_109}  # of the model, size tiny
DIRECTIONS = ("audio_to_image", "image_to_audio")


def order(*tables: str, num_seeds: int = 2, steps: int | None = 2):
    return make_order(ABLATIONS, tables, size="tiny", steps=steps, num_seeds=num_seeds)


@cache
def jobs_by_name(*tables: str, **options: int) -> dict[str, Job]:
    return {job.name: job for job in plan_jobs(ABLATIONS, order(*tables, **options))}


def make_result(job: Job, values: Mapping[str, float], *, num_parameters: int = 7) -> RunResult:
    metrics = [MetricValue(name=name, value=value, n=100, ci_low=0.0, ci_high=90.0) for name, value in values.items()]
    return RunResult(
        variant=job.variant,
        seed=job.seed,
        settings=job.settings("cpu"),
        metrics=(*metrics, MetricValue(name=TRAINED_CONTRAST, value=3.5 + job.seed, unit="nats")),
        chance={name: 2.0 for name in values if name.startswith("recall")},
        num_parameters=num_parameters,
        steps=2,
        duration_s=1.5,
        commit="abc",
    )


def pretend(job: Job) -> RunResult:
    """A training whose numbers are made up: denoising helps by 10 points, whatever else varies by the seed."""
    if job.variant == EMERGENT:
        recall = {f"recall_at_1_{way}": 20.0 + job.seed for way in DIRECTIONS}
        return make_result(job, recall | {f"times_chance_{way}": 5.0 + 0.1 * job.seed for way in DIRECTIONS})
    gain = 10.0 + 0.3 * job.seed if job.config.terms else 0.0
    return make_result(job, dict.fromkeys(RECALLS, 30.0 + 3 * job.seed + gain))


def run(jobs: Sequence[Job], folder: Path, *, work=pretend, said: list[str] | None = None):
    say = [].append if said is None else said.append
    return run_jobs(jobs, folder=folder, device="cpu", train=work, estimate=lambda _: 90.0, say=say)


# Settings.


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sharing": "ffn", "terms": ["text"]}, "sharing 'ffn' with terms, expected the contrast alone"),
        ({"loss": "l2"}, "loss 'l2' without terms"),
        ({"sharign": "ffn"}, "Did you mean 'sharing'"),
    ],
)
def test_a_variant_that_makes_no_sense_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        VariantConfig.parse(values, where="test")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sharin"], "unknown table 'sharin'. Did you mean 'sharing'?"),
        (["terms", "--steps", "0"], "--steps 0, expected at least 1"),
        (["terms", "--size", "4b"], "unknown size '4b'"),
        (["terms", "--weights", "run"], "--weights without table 'emergent'"),
        (["terms", "--run", "a/b"], "--run 'a/b', expected a folder's name"),
    ],
)
def test_what_the_command_line_gets_wrong_is_one_line(arguments, message, capsys):
    assert main(["ablate", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_dry_run_lists_what_would_be_trained(capsys):
    assert main(["ablate", "loss", "emergent", "--size", "tiny", "--seeds", "2", "--steps", "5", "--dry-run"]) == 0
    assert "12 trainings, 70 steps in all" in capsys.readouterr().err
    assert build_parser().parse_args(["ablate"]).size == "mini"


# A killed ablation.


def test_a_killed_ablation_goes_on_where_it_was(tmp_path):
    jobs = plan_jobs(ABLATIONS, order("sharing"))
    worked: list[str] = []

    def work(job: Job) -> RunResult:
        if len(worked) == 3:
            raise KeyboardInterrupt
        worked.append(job.name)
        return pretend(job)

    with pytest.raises(KeyboardInterrupt):
        run(jobs, tmp_path, work=work)
    said: list[str] = []
    rest: list[str] = []
    results = run(jobs, tmp_path, work=lambda job: rest.append(job.name) or pretend(job), said=said)
    assert worked + rest == [job.name for job in jobs]
    assert [(result.variant, result.seed) for result in results] == [(job.variant, job.seed) for job in jobs]
    assert said[0].startswith("5 runs to train: about 8 min")
    assert said[-1].startswith("share_nothing-seed1 is through: 5 of 5 runs")


def test_a_training_that_was_told_to_stop_ends_the_ablation_without_a_report(tmp_path):
    jobs = plan_jobs(ABLATIONS, order("sharing"))
    assert run(jobs, tmp_path, work=lambda job: None if job.seed else pretend(job)) is None
    assert len(list((tmp_path / "results").iterdir())) == 4


def test_results_of_other_settings_are_not_mixed_in(tmp_path):
    run(plan_jobs(ABLATIONS, order("sharing")), tmp_path)
    longer = plan_jobs(ABLATIONS, order("sharing", steps=3))
    with pytest.raises(
        ValueError, match=r"contrast_alone-seed0.json was made with another stages.0.steps: 2 instead of 3"
    ):
        run(longer, tmp_path)
    with pytest.raises(ValueError, match="another device: 'cpu' instead of 'cuda'"):
        read_result(tmp_path, jobs_by_name("sharing")["share_ffn-seed1"], device="cuda")


def test_a_damaged_result_is_named(tmp_path):
    jobs = plan_jobs(ABLATIONS, order("sharing"))
    run(jobs, tmp_path)
    (tmp_path / "results" / "share_ffn-seed0.json").write_text("{}")
    with pytest.raises(ValueError, match=r"share_ffn-seed0\.json is damaged"):
        run(jobs, tmp_path)


# The report.


def report_of(folder: Path, *tables: str, num_seeds: int = 3):
    wanted = order(*tables, num_seeds=num_seeds)
    return make_report(ABLATIONS, wanted, run(plan_jobs(ABLATIONS, wanted), folder))


def test_tables_hold_ours_beside_the_papers_and_a_word(tmp_path):
    report = report_of(tmp_path)
    assert [table.name for table in report.tables] == ["sharing", "terms", "loss", EMERGENT]
    by_place = {(table.name, row.label, row.metric): row for table in report.tables for row in table.rows}
    row = by_place["terms", "CL + L", RECALLS[0]]
    assert (row.ours.mean, row.paper, row.paper_difference) == (pytest.approx(43.3), 37.02, 1.08)
    assert row.difference.mean == pytest.approx(10.3)
    assert row.word is Word.AS_IN_PAPER
    assert by_place["terms", "CL + L", RECALLS[1]].word is Word.OPPOSITE  # the paper's falls by 0.24
    assert by_place["loss", "no denoising", RECALLS[0]].word is Word.AS_IN_PAPER
    assert by_place["loss", "L2", RECALLS[0]].word is Word.NONE_SEEN
    assert by_place["terms", "CL", RECALLS[0]].word is None
    assert by_place["terms", "CL + L", TRAINED_CONTRAST].word is None
    assert by_place[EMERGENT, "audio to image", "times_chance_audio_to_image"].word is Word.AS_IN_PAPER


def test_with_one_seed_no_row_makes_a_statement(tmp_path):
    report = report_of(tmp_path, num_seeds=1)
    words = {row.word for table in report.tables for row in table.rows}
    assert words == {None, Word.ONE_SEED}
    sounds = report.tables[-1].rows[0]
    assert (sounds.ours.low, sounds.ours.high) == (0.0, 90.0)  # over queries
    assert "n = 1" in render(report)


def test_runs_of_different_seeds_make_no_table(tmp_path):
    wanted = order("sharing")
    runs = run(plan_jobs(ABLATIONS, wanted), tmp_path)
    with pytest.raises(ValueError, match="seed"):
        make_report(ABLATIONS, wanted, runs[:-1])


def test_text_markdown_json_and_plot_are_written_and_say_what_they_are_not(tmp_path):
    report = report_of(tmp_path)
    write_report(report, tmp_path)
    text, markdown = render(report), (tmp_path / MARKDOWN_FILE).read_text()
    for written in (text, markdown):
        assert "43.30" in written
        assert "37.02" in written
        assert "table 12" in written
        assert " ".join(written.split()).count("neither the model nor the numbers are the paper's") == 4
    assert max(map(len, text.splitlines())) <= 120
    assert len(json.loads((tmp_path / JSON_FILE).read_text())["runs"]) == 36
    assert (tmp_path / PLOT_FILE).read_bytes().startswith(b"\x89PNG")


def test_a_record_of_a_table_holds_the_papers_numbers_as_not_comparable(tmp_path):
    data = DataInfo(name="pairs", version="1", root_name="x", digest="d", n=3, n_expected=3, ids_sha256="")
    records = make_records(
        report_of(tmp_path),
        run_name="run",
        data=data,
        device="cpu",
        command="python",
        clock=Clock(),
        artifacts={"plot": PLOT_FILE},
    )
    assert [record.task for record in records] == [f"pretrain_ablation_{name}" for name in ABLATIONS.names]
    terms = records[1]
    assert terms.find_metric("text_recall_at_1_image_to_text_difference").value == pytest.approx(10.3)
    assert {(comparison.verdict, comparison.gap) for comparison in terms.comparisons} == {("not comparable", None)}
    assert len(terms.comparisons) == 10
    assert not records[-1].comparisons


# A real training, as small as can be.


@pytest.fixture(scope="module")
def ground(tmp_path_factory) -> Ground:
    """Two shards of pictures, as stage 1 of size tiny reads them, and a few held-out ones."""
    root = tmp_path_factory.mktemp("world")
    home = write_pairs(
        root, num_pictures=48, num_sounds=24, num_held_out=6, clips_per_class=5, samples_per_shard=24, num_workers=1
    )
    world = World(0, 1, torch.device("cpu"))
    return Ground(root / "run", home / "held_out", world, 0.5, say=lambda _: None)


@pytest.fixture(scope="module")
def trained(ground) -> dict[str, RunResult]:
    jobs = jobs_by_name()
    return {name: train(jobs[f"{name}-seed0"], ground) for name in ("contrast_alone", "share_nothing", "all_terms")}


def test_a_variant_is_trained_judged_and_tidied_up(ground, trained):
    for variant, result in trained.items():
        assert {*RECALLS, TRAINED_CONTRAST} <= {metric.name for metric in result.metrics}
        assert (result.variant, result.seed, result.steps) == (variant, 0, 2)
        assert result.duration_s > 0
        assert result.num_parameters == PARAMETERS[variant]
    assert not list(ground.folder.rglob("*.safetensors"))


def test_variants_read_the_same_pairs_in_the_same_order(ground, trained):
    """The first step's contrast is that of equal weights on equal batches."""
    logs = [ground.folder / "trainings" / f"{name}-seed0" / "log.jsonl" for name in trained]
    first = [json.loads(log.read_text().splitlines()[0]) for log in logs]
    second = [json.loads(log.read_text().splitlines()[1]) for log in logs]
    assert len({row["tokens"] for row in first}) == len({row["tokens"] for row in second}) == 1
    assert [row["loss_contrast"] for row in first] == pytest.approx([first[0]["loss_contrast"]] * 3, rel=1e-6)
    assert len({row["loss_contrast"] for row in second}) == 3


def test_training_again_gives_the_same_numbers(ground, trained, tmp_path):
    again = Ground(tmp_path, ground.held_out, ground.world, ground.last_share, ground.say)
    assert train(jobs_by_name()["contrast_alone-seed0"], again).metrics == trained["contrast_alone"].metrics


def test_a_training_that_was_killed_goes_on_to_the_same_numbers(ground, trained, tmp_path, monkeypatch):
    again = Ground(tmp_path, ground.held_out, ground.world, ground.last_share, ground.say)
    job = jobs_by_name()["share_nothing-seed0"]
    (stage,) = job.stages
    frequent = stage.model_copy(update={"saving": stage.saving.model_copy(update={"every_steps": 1})})
    job = Job(job.variant, job.seed, job.config, (frequent,))
    run_step = Trainer._run_step

    def die(self, *args, **options):
        if self.done == 1:
            self.saver.finish()
            raise RuntimeError("killed")
        return run_step(self, *args, **options)

    monkeypatch.setattr(Trainer, "_run_step", die)
    with pytest.raises(RuntimeError, match="killed"):
        train(job, again)
    monkeypatch.setattr(Trainer, "_run_step", run_step)
    assert train(job, again).metrics == trained["share_nothing"].metrics


def test_a_step_of_a_variant_is_timed(ground):
    assert time_job(jobs_by_name()["share_ffn-seed0"], ground) > 0


def test_weights_that_do_not_say_where_they_come_from_are_refused(tmp_path):
    from safetensors.torch import save_file

    save_file({"x": torch.zeros(1)}, tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match="does not say where it comes from"):
        judge_weights([tmp_path / "w.safetensors"], size="tiny", held_out=tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no weights\.safetensors"):
        judge_weights([tmp_path], size="tiny", held_out=tmp_path)


def write_weights(path: Path, *, seed: int, lr: float = 0.1) -> Path:
    from safetensors.torch import save_file

    start = {"stage": "stage1", "size": "tiny", "steps": 30, "seed": seed, "recipe": {"lr": lr}, "start": None}
    origin = {"stage": "stage2", "size": "tiny", "steps": 12, "seed": seed, "recipe": {"seed": seed}, "start": start}
    metadata = {"onepeace": json.dumps({**origin, "commit": "abc"})}
    save_file({"encoder.norms.text.weight": torch.zeros(32)}, path, metadata=metadata)
    return path


def test_finished_runs_are_judged_if_they_differ_in_the_seed_only(tmp_path, monkeypatch):
    evaluation = Evaluation(metrics=(MetricValue(name="recall", value=3.0),), chance={"recall": 1.0}, notes=())
    monkeypatch.setattr("pretrain.ablation.finished.judge", lambda *args, **options: evaluation)
    first, second = (write_weights(tmp_path / f"{seed}.safetensors", seed=seed) for seed in (0, 1))
    results = judge_weights([first, second], size="tiny", held_out=tmp_path)
    assert [(result.seed, result.steps, result.value("recall")) for result in results] == [(0, 42, 3.0), (1, 42, 3.0)]
    other = write_weights(tmp_path / "other.safetensors", seed=2, lr=0.2)
    with pytest.raises(ValueError, match="trained by another recipe"):
        judge_weights([first, other], size="tiny", held_out=tmp_path)
    with pytest.raises(ValueError, match=r"seeds \[0, 0\], expected each seed once"):
        judge_weights([first, first], size="tiny", held_out=tmp_path)
    with pytest.raises(ValueError, match="of size 'tiny', expected 'mini'"):
        judge_weights([first], size="mini", held_out=tmp_path)
