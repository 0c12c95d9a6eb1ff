"""Checkpoints of several processes: sharded, resumed at another number of them, and killed while they are written."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

TRAINING = """
import errno, json, os, sys, time
from pathlib import Path
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import fully_shard
from models.adamw import LeanAdamW
from pretrain.saving import Saver, find_latest, load

torch.set_num_threads(1)
folder, first, last = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
world = int(os.environ.get("WORLD_SIZE", "1"))
rank = int(os.environ.get("RANK", "0"))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(7, 7) for _ in range(3))
        self.narrow = nn.Linear(7, 1)
        self.unused = nn.Linear(2, 3)
        self.frozen = nn.Linear(7, 7).requires_grad_(False)
        self.scale = nn.Parameter(torch.tensor(1.5))

    def forward(self, x):
        for layer in self.layers:
            x = torch.relu(layer(x))
        return (self.narrow(self.frozen(x)) * self.scale).square().mean()


torch.manual_seed(0)
model = Net()
if world > 1:
    dist.init_process_group("gloo")
    for layer in model.layers:
        fully_shard(layer)
    fully_shard(model, ignored_params={model.scale})
trained = [p for p in model.parameters() if p.requires_grad]
state = os.environ.get("STATE", "float32")
if state == "float32":
    optimizer = torch.optim.AdamW(trained, lr=0.01)
else:
    optimizer = LeanAdamW([{"params": trained}], lr=0.01, betas=(0.9, 0.98), eps=1e-8, state=state, smallest=1)
saver = Saver(folder, keep=2)
progress = {"seen": first, "lanes": {}}
if first:
    progress = load(find_latest(folder), model=model, optimizer=optimizer)
losses = []
for step in range(first, last):
    x = torch.randn(12, 7, generator=torch.Generator().manual_seed(step))
    loss = model(x)
    loss.backward()
    if world > 1:
        dist.all_reduce(model.scale.grad)
        model.scale.grad.div_(world)
    optimizer.step()
    optimizer.zero_grad()
    losses.append(loss.item())
lanes = {str(lane): {"position": last} for lane in range(6) if lane % world == rank}
if os.environ.get("FULL_DISK_ON") == str(rank):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")
    os.fsync = full
saver.save(last, model=model, optimizer=optimizer, progress={"seen": last, "lanes": lanes})
if rank == 0:
    print(json.dumps({"losses": losses, "progress": progress}))
try:
    saver.finish()
except OSError as error:
    (folder / f"told-{rank}").write_text(str(error))
if world > 1:
    dist.destroy_process_group()
    time.sleep(0.2)  # gloo's threads still let go of the last tensors; one that does so while Python ends aborts it
"""

WRITING_FOR_EVER = """
import sys
from pathlib import Path
import torch
from torch import nn
from pretrain.saving import Saver
model = nn.Linear(400, 500)
optimizer = torch.optim.AdamW(model.parameters())
model(torch.randn(2, 400)).sum().backward()
optimizer.step()
saver = Saver(Path(sys.argv[1]), keep=1)
first = int(sys.argv[2])
for step in range(first, first + 10**6):
    saver.save(step, model=model, optimizer=optimizer, progress={"step": step})
"""


def train(folder: Path, root: Path, *, world: int, steps: tuple[int, int], **environment: str) -> dict:
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={world}"] if world > 1 else []
    script = folder.parent / "training.py"
    script.write_text(TRAINING, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, *launcher, str(script), str(folder), *map(str, steps)],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "disabled, unavailable" not in done.stderr
    return json.loads(done.stdout.strip().splitlines()[-1])


@pytest.mark.parametrize(("before", "after"), [(2, 1), (2, 3), (1, 2)])
def test_a_training_goes_on_at_another_number_of_processes(tmp_path: Path, root: Path, before: int, after: int) -> None:
    whole = train(tmp_path / "whole", root, world=1, steps=(0, 7))
    first = train(tmp_path / "cut", root, world=before, steps=(0, 4))
    second = train(tmp_path / "cut", root, world=after, steps=(4, 7))
    assert first["losses"] + second["losses"] == pytest.approx(whole["losses"], rel=1e-5)
    assert second["progress"] == {"seen": 4, "lanes": {str(lane): {"position": 4} for lane in range(6)}}
    assert len(list((tmp_path / "cut" / "step-00000004").glob("*.safetensors"))) == before


@pytest.mark.parametrize(("before", "after", "state"), [(2, 2, "int8"), (2, 3, "int8"), (3, 1, "bfloat16")])
def test_moments_in_fewer_bits_go_on_at_any_number_of_processes(
    tmp_path: Path, root: Path, before: int, after: int, state: str
) -> None:
    whole = train(tmp_path / "whole", root, world=before, steps=(0, 9), STATE=state)
    train(tmp_path / "cut", root, world=before, steps=(0, 5), STATE=state)
    second = train(tmp_path / "cut", root, world=after, steps=(5, 9), STATE=state)
    expected = whole["losses"][5:]
    if before == after:
        assert second["losses"] == expected  # to the last digit
    assert second["losses"][0] == pytest.approx(expected[0], rel=1e-6)
    assert second["losses"] == pytest.approx(expected, rel=0.01)  # rounded at random, and differently


def test_a_full_disk_under_one_process_is_told_by_all_and_leaves_nothing(tmp_path: Path, root: Path) -> None:
    train(tmp_path / "run", root, world=2, steps=(0, 1), FULL_DISK_ON="1")
    told = [(tmp_path / "run" / f"told-{rank}").read_text() for rank in range(2)]
    assert told[0] == told[1]
    assert "rank 1: the disk is full; there is no earlier one" in told[0]
    assert not list((tmp_path / "run").glob("step-*"))


def test_a_kill_at_any_moment_leaves_a_whole_checkpoint(tmp_path: Path, root: Path) -> None:
    import torch

    from pretrain.saving import find_latest, list_checkpoints, load

    model = torch.nn.Linear(400, 500)
    optimizer = torch.optim.AdamW(model.parameters())
    reached = 0
    for delay_s in (0.11, 0.05, 0.173):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITING_FOR_EVER, str(tmp_path / "run"), str(reached + 1)], cwd=root
        )
        deadline = time.monotonic() + 60
        while (find_latest(tmp_path / "run") or Path("step-0")).name <= f"step-{reached:08d}":
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.01)
        time.sleep(delay_s)
        process.send_signal(signal.SIGKILL)
        process.wait()
        kept = list_checkpoints(tmp_path / "run")
        assert 1 <= len(kept) <= 2  # the one before goes when the next is complete
        for path in kept:
            reached = load(path, model=model, optimizer=optimizer)["step"]
            assert path.name == f"step-{reached:08d}"
