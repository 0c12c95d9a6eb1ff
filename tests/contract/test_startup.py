"""What a fresh process imports before it answers: the time that everybody waits for, told without a clock."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAMS = ("models", "pretrain", "downstream", "reports", "miniworld")
HEAVY = ("torch", "torchvision", "numpy", "scipy", "pydantic", "yaml", "PIL", "soundfile", "soxr", "regex", "tqdm")
TRACKING = ("mlflow", "pandas", "sqlalchemy", "matplotlib", "jinja2", "sklearn")
COMPILER = ("torch._dynamo", "torch._inductor", "torch.fx.experimental.symbolic_shapes", "sympy", "triton")
"""More than a second, and brought in by a whole `torchvision` as well as by drawing on the `meta` device."""
NOT_TO_EMBED = (*COMPILER, *TRACKING, "scipy", "torchvision", "datasets", "pretrain", "downstream", "reports")

EMBED = """
import numpy as np
from PIL import Image
import models
model = models.load_model("mini")
model.embed_text(["a red car"])
model.embed_image([Image.new("RGB", (320, 200), "red")])
model.embed_audio([np.zeros(16_000, dtype=np.float32) + 0.1])
"""
RUN = """
import runpy
sys.argv = {arguments!r}
try: runpy.run_path(sys.argv[0], run_name="__main__")
except SystemExit as end: assert not end.code, end.code
"""


def imported(script: str, *, root: Path) -> set[str]:
    """Run a script in a process of its own, and name what it has imported in the end."""
    code = f"import json, sys\n{script}\nprint(json.dumps(sorted(sys.modules)), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    return set(json.loads(done.stderr.splitlines()[-1]))


@pytest.mark.parametrize("program", PROGRAMS)
def test_help_answers_before_anything_heavy_is_imported(root: Path, program: str) -> None:
    found = imported(RUN.format(arguments=[f"{program}/run.py", "--help"]), root=root)
    assert f"{program}.cli" in found
    assert not found & {*HEAVY, *TRACKING}


def test_embedding_imports_what_it_computes_with_and_no_more(root: Path) -> None:
    found = imported(EMBED, root=root)
    assert "torch" in found
    assert not found & set(NOT_TO_EMBED)


def test_the_command_that_embeds_imports_no_more_than_that(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "vectors.safetensors"
    words = ["models/run.py", "embed", "--model", "mini", "--text", "a red car", "-o", str(out)]
    found = imported(RUN.format(arguments=words), root=root)
    assert out.is_file()
    assert not found & set(NOT_TO_EMBED)


def test_building_a_model_to_load_into_draws_nothing(root: Path) -> None:
    script = (
        "from models.checkpoint.empty import build_empty\n"
        "from models.config import list_sizes, load_config\n"
        "for size in list_sizes(): build_empty(load_config(size))\n"
    )
    assert not imported(script, root=root) & {*COMPILER, "scipy"}
