"""What several processes share of a training: they meet, exchange rows, and their sharded gradients are one's."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

SCRIPT = """
import json, time
import torch
from models.config import load_config
from models.contrast import align, read_scale
from models.onepeace import OnePeace, build_model
from models.sharding import clip_gradients, measure_gradients, reduce_numbers, spread
from models.training import ParallelConfig
from models.world import World
from torch import nn
from torch.distributed.tensor import DTensor

torch.set_num_threads(1)


class Contrast(nn.Module):
    def __init__(self):
        super().__init__()
        self.model = build_model(load_config("tiny").branch("text", "image"), seed=0)

    def forward(self, inputs, gather):
        vectors = self.model.embed(inputs)
        scale = read_scale(self.model.logit_scale)
        return align(vectors, gather(vectors), scale=scale, label_smoothing=0.1).loss


with World.join("cpu") as world:
    generator = torch.Generator().manual_seed(0)
    text = torch.randint(4, 2048, (6, 7), generator=generator)
    image = torch.randn(6, 3, 64, 64, generator=generator)
    rows = slice(world.rank * 6 // world.size, (world.rank + 1) * 6 // world.size)
    module = Contrast().eval()
    spread(module, [module.model.encoder], config=ParallelConfig(dtype="float32"), world=world)
    loss = module({"text": text[rows], "image": image[rows]}, world.gather_rows)
    loss.backward()
    parameters = list(module.parameters())
    reduce_numbers(parameters, world)
    norm = measure_gradients(parameters)
    clip_gradients(parameters, norm=norm, largest=0.5 * float(norm))
    found = {"loss": float(world.sum(loss.detach())) / world.size, "norm": float(norm)}
    found["clipped"] = float(measure_gradients(parameters))
    found["scale"] = float(module.model.logit_scale.grad)
    found["whole"] = [name for name, value in module.named_parameters() if not isinstance(value, DTensor)]
    found["text"] = world.share_text(f"rank {world.rank}")
    if world.is_first:
        time.sleep(2)
    arrived = time.time()
    world.barrier()
    found["waited"] = float(world.sum(torch.tensor(float(time.time() - arrived > 0.5))))
    if world.is_first:
        print(json.dumps(found))
"""


def run(folder: Path, root: Path, *, world: int) -> dict:
    script = folder / "script.py"
    script.write_text(SCRIPT, encoding="utf-8")
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={world}"] if world > 1 else []
    done = subprocess.run(
        [sys.executable, *launcher, str(script)],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.strip().splitlines()[-1])


def test_two_processes_are_one(tmp_path, root):
    alone, shared = run(tmp_path, root, world=1), run(tmp_path, root, world=2)
    assert len(alone["whole"]) > 1
    assert shared["whole"] == ["model.logit_scale"]
    assert (alone["waited"], shared["waited"]) == (0, 1)  # one had to wait for the other
    assert shared["text"] == "rank 0"
    numbers = ("loss", "norm", "clipped", "scale")
    assert [shared[name] for name in numbers] == pytest.approx([alone[name] for name in numbers], rel=1e-4)
