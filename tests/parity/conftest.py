"""Golden cases: manifests found by their case number, and how their numbers are compared."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from models.layers import linear
from models.modalities.audio import Waveforms

DOUBLE_ATOL = 1e-11  # stored double precision is reproduced within 1e-13 at the sizes at hand
OPTIONAL = ("01c",)  # switches that no released file uses


@dataclass(frozen=True)
class Case:
    """One golden case: its manifest and its tensors."""

    folder: Path
    name: str

    @cached_property
    def manifest(self) -> dict[str, Any]:
        return json.loads((self.folder / f"{self.name}.json").read_text(encoding="utf-8"))

    def tensors(self, part: str) -> dict[str, Tensor]:
        return load_file(self.folder / self.manifest["files"][part])

    def input(self, name: str) -> Tensor:
        return self.tensors("io")[f"in.{name}"]

    def model_inputs(self, dtype: torch.dtype) -> dict[str, Any]:
        """The case's inputs by modality, as the adapters take them."""
        names, found = self.manifest["inputs"], {}
        if "src_tokens" in names:
            found["text"] = self.input("src_tokens")
        if "src_images" in names:
            found["image"] = self.input("src_images").to(dtype)
        if "src_audios" in names:
            found["audio"] = Waveforms(self.input("src_audios").to(dtype), self.input("audio_padding_masks"))
        return found

    def check(self, name: str, ours: Tensor) -> None:
        """Compare with the stored output, at the manifest's tolerance in float32, and sharply in float64."""
        io = self.tensors("io")
        wide = ours.dtype == torch.float64
        key = f"out64.{name}" if wide and f"out64.{name}" in io else f"out.{name}"
        atol = DOUBLE_ATOL if key.startswith("out64") else self.manifest["outputs"][name].get("suggested_atol", 1e-6)
        torch.testing.assert_close(ours.detach(), io[key].to(ours.dtype), rtol=0, atol=atol)


@pytest.fixture
def find_cases(golden_dir: Path):
    """Find every manifest whose name begins with a case number."""

    def find(prefix: str) -> list[Case]:
        cases = [Case(golden_dir, path.stem) for path in sorted(golden_dir.glob(f"{prefix}*.json"))]
        assert cases or prefix in OPTIONAL, f"no golden case {prefix}* in {golden_dir}"
        return cases

    return find


@pytest.fixture(params=["torch", "onednn"])
def products(request, monkeypatch):
    """Who computes linear maps: torch, as of small ones, or oneDNN, as of large ones."""
    real, calls = linear.ONEDNN, []
    if request.param == "onednn":
        if real is None:
            pytest.skip("needs a torch with oneDNN, as the locked one is: run by `make test`")
        monkeypatch.setattr(linear, "MIN_ROWS", 1)
        monkeypatch.setattr(linear, "MIN_WIDTH", 1)
        monkeypatch.setattr(linear, "ONEDNN", lambda *arguments: calls.append(None) or real(*arguments))
    yield
    assert bool(calls) is (request.param == "onednn")


def pytest_terminal_summary(terminalreporter) -> None:
    """Say how many golden cases are covered, and which are not yet."""
    for report in terminalreporter.getreports("passed"):
        for name, text in report.user_properties:
            if name == "golden":
                terminalreporter.write_line(f"golden: {text}")
