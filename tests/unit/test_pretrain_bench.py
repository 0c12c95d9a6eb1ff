"""The plain formulation of a step has the losses and the gradients of ours, drop path and all."""

from pathlib import Path

import pytest
import torch

from pretrain.bench.readers import SAMPLES_PER_SHARD, read_all, write_shards
from pretrain.bench.workloads import NAMES, make_step, make_workloads
from pretrain.cli import main
from pretrain.config import load_stage

CPU = torch.device("cpu")


@pytest.mark.parametrize("name", NAMES)
def test_both_formulations_have_the_same_losses_and_gradients(name: str) -> None:
    stage = load_stage(name.split()[0], "tiny")
    step = make_step(name, stage.model_copy(update={"drop_path_rate": 0.4}), "tiny", has_drop_path="no" not in name)
    ours = step.run()
    found = {key: value.grad.clone() for key, value in step.objective.named_parameters() if value.grad is not None}
    plain = step.run_plain()
    assert ours.keys() == plain.keys() == {"total", "contrast", *stage.objective.terms, "gradient"}
    for key in ours:
        torch.testing.assert_close(ours[key], plain[key].to(ours[key].dtype), rtol=2e-5, atol=1e-6)
    for key, value in step.objective.named_parameters():
        if value.grad is not None:
            other = found.pop(key, torch.zeros_like(value.grad))
            torch.testing.assert_close(other, value.grad, rtol=1e-3, atol=2e-5, msg=lambda text, key=key: key + text)
    assert not [key for key, value in found.items() if value.count_nonzero()], "no gradient that the plain one lacks"


def test_drop_path_is_work_that_is_not_done() -> None:
    from models.bench.measure import count_flops

    stage = load_stage("stage1", "tiny").model_copy(update={"drop_path_rate": 0.5})
    counts = [count_flops(make_step("stage1 step", stage, "tiny", has_drop_path=drops).run) for drops in (True, False)]
    assert counts[0] < 0.95 * counts[1]


def test_a_workload_is_made_for_each_name() -> None:
    made = list(make_workloads(NAMES, "tiny", device=CPU, dtype=torch.float32))
    assert [workload.name for workload in made] == list(NAMES)
    assert made[0].bound == 0.55
    assert all(workload.tokens for workload in made)


def test_every_sample_of_the_shards_is_read(tmp_path: Path) -> None:
    config = write_shards(tmp_path, 2 * SAMPLES_PER_SHARD)
    one = read_all(write_shards(tmp_path, SAMPLES_PER_SHARD))
    assert read_all(config) == 2 * one > 0


def test_an_unknown_workload_is_told_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--only", "stage1 stp"]) == 2
    assert capsys.readouterr().err.strip() == "error: unknown workload 'stage1 stp'. Did you mean 'stage1 step'?"
