"""A benchmark compares equal things, or says that they are not."""

import dataclasses
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from models.bench.growth import fit
from models.bench.inputs import bench_config
from models.bench.measure import Workload, compare, count_flops, measure_products
from models.bench.workloads import NAMES, make_workloads
from models.cli import main
from models.layers.linear import Linear

CPU = torch.device("cpu")


def make(name: str) -> Workload:
    (workload,) = make_workloads((name,), "tiny", device=CPU, dtype=torch.float32)
    return workload


@pytest.mark.parametrize("name", [name for name in NAMES if name != "retrieval"])
def test_both_formulations_compute_the_same(name: str) -> None:
    found = compare(make(name), device=CPU, dtype=torch.float32, repeats=2)
    assert found.difference <= found.tolerance == 1e-4
    assert found.ratio == found.ours.median_s / found.plain.median_s
    assert found.ours.flops
    assert found.plain.flops


def test_padding_is_work_that_is_not_done() -> None:
    found = compare(make("text forward, real lengths"), device=CPU, dtype=torch.float32, repeats=2)
    assert found.ours.flops
    assert found.plain.flops
    assert found.ours.flops / found.plain.flops < 0.75


def test_formulations_that_differ_are_an_error() -> None:
    workload = make("image forward")
    wrong = dataclasses.replace(workload, ours=lambda: {key: x * 1.001 for key, x in workload.plain().items()})
    with pytest.raises(ArithmeticError, match=r"image forward: the outputs differ by 1\.0e-03, expected 1e-04"):
        compare(wrong, device=CPU, dtype=torch.float32, repeats=2)
    lacking = dataclasses.replace(workload, ours=dict)
    with pytest.raises(ArithmeticError, match="expected the same"):
        compare(lacking, device=CPU, dtype=torch.float32, repeats=2)
    hollow = dataclasses.replace(workload, ours=lambda: {key: x * torch.nan for key, x in workload.plain().items()})
    with pytest.raises(ArithmeticError):
        compare(hollow, device=CPU, dtype=torch.float32, repeats=2)


def test_operations_are_counted_inside_fused_attention_too() -> None:
    q = torch.randn(2, 3, 16, 8)
    with torch.inference_mode():
        counted = count_flops(lambda: torch.nn.functional.scaled_dot_product_attention(q, q, q))
    assert counted == 2 * 2 * (2 * 3 * 16 * 16 * 8)


def test_products_are_timed_and_nothing_else() -> None:
    a, layer = torch.randn(600, 600), Linear(600, 600)

    def products() -> None:
        a.mm(a)
        layer(a).sum().backward()

    assert measure_products(products) > 0
    with torch.inference_mode():
        assert measure_products(lambda: torch.nn.functional.linear(a, a)) > 0
        assert measure_products(lambda: layer(a)) > 0
    assert measure_products(lambda: (time.sleep(0.01), a.exp(), a + a)) == 0
    assert compare(make("image forward"), device=CPU, dtype=torch.float32, repeats=2).products_s > 0


ONE_AFTER_THE_OTHER = """
import torch
from models.bench.measure import measure_peak_memory

def run():
    first = torch.ones(SIZE // 4)
    del first
    torch.ones(SIZE // 4)

print(measure_peak_memory(run, torch.device("cpu")))
"""


def test_peak_memory_is_what_stood_at_once(root: Path) -> None:
    size = 64 << 20
    script = ONE_AFTER_THE_OTHER.replace("SIZE", str(size))  # in a heap of its own, without what other tests left free
    done = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=True)
    if done.stdout.strip() == "None":
        pytest.skip("the system does not tell a process's peak (.ci/run on Linux does)")
    assert 0.9 * size < int(done.stdout) < 1.6 * size


def test_growth_is_a_power_law() -> None:
    growth = fit("x", "n", lambda n: 3.0 * n**1.5, points=(1, 2, 4), expected="1.5")
    assert growth.exponent == pytest.approx(1.5)
    assert growth.points[1] == (2.0, pytest.approx(3 * 2**1.5))


def test_the_small_size_is_the_papers_with_other_widths() -> None:
    small, paper = bench_config("small"), bench_config("4b")
    assert (small.embed_dim, small.ffn_dim, small.num_layers, small.num_heads) == (384, 1536, 12, 6)
    assert small.modalities == paper.modalities


def test_the_command_prints_a_table_and_keeps_the_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = f"sqlite:///{tmp_path / 'mlflow.db'}"
    options = ["--size", "tiny", "--only", "image forward", "--repeats", "2", "-o", str(tmp_path)]
    assert main(["bench", *options, "--tracking-uri", store]) == 0
    out = capsys.readouterr().out
    assert "image forward" in out
    (path,) = tmp_path.glob("*.json")
    assert path.name == "models-tiny-float32-cpu.json"
    assert json.loads(path.read_text(encoding="utf-8"))["comparisons"][0]["name"] == "image forward"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--only", "image forwrd"], "unknown workload 'image forwrd'. Did you mean 'image forward'?"),
        (["--size", "tinny"], "unknown size 'tinny'. Did you mean 'tiny'?"),
        (["--repeats", "1"], "--repeats 1, expected 2 or more"),
        (["--dtype", "int8"], "int8"),
    ],
)
def test_what_cannot_be_timed_is_told_in_one_line(
    options: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", *options, "-o", str(tmp_path)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len([line for line in lines if line.startswith("error: ")]) == 1
    assert told in lines[-1]
    assert not list(tmp_path.glob("*.json"))
