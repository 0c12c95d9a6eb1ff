"""Commands and tests let threads spin briefly, unless the user chose otherwise."""

import os
import subprocess
import sys

import pytest

from models.threads import wait_briefly

NAMES = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ({}, {"GOMP_SPINCOUNT": "1000"}),
        ({"GOMP_SPINCOUNT": "7"}, {"GOMP_SPINCOUNT": "7"}),
        ({"OMP_WAIT_POLICY": "PASSIVE"}, {"OMP_WAIT_POLICY": "PASSIVE"}),
    ],
)
def test_what_the_user_chose_stays(chosen, expected, monkeypatch):
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    for name, value in chosen.items():
        monkeypatch.setenv(name, value)
    wait_briefly()
    assert {name: os.environ[name] for name in NAMES if name in os.environ} == expected


@pytest.mark.parametrize(
    ("package", "arguments"),
    [("models", "inspect mini"), ("pretrain", "plan --gpus 8 --gpu h100"), ("downstream", "esc50")],
)
def test_a_command_decides_before_torch_is_there(package, arguments, root):
    script = f"""
import sys, models.threads
def tell(): print("torch" in sys.modules); sys.exit()
models.threads.wait_briefly = tell
from {package}.cli import main
main({arguments.split()})
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
