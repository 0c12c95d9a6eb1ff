"""One rank of a training whose step is timed; torchrun starts as many as are asked for."""

from statistics import median
from typing import Final

import torch

from models.allocator import keep_freed_memory
from models.bench.measure import time_once
from models.sharding import spread
from models.training import ParallelConfig
from models.world import World
from pretrain.bench.workloads import find_stage, make_step
from pretrain.objective import StepLosses

STEP_PREFIX: Final = "step_s="
SIZE: Final = "small"
REPEATS: Final = 3


def main() -> None:
    """Time the step of a small size, sharded over the ranks, a batch and a thread for each."""
    torch.set_num_threads(1)
    keep_freed_memory()
    with World.join("cpu") as world:
        made = make_step("stage1 step", find_stage("stage1", SIZE), SIZE, has_drop_path=True)
        parallel = ParallelConfig(dtype="float32", recompute="none")
        spread(made.objective, made.objective.encoders, config=parallel, world=world)

        def step() -> None:
            made.objective.zero_grad()
            losses = made.objective(made.batch, world.gather_rows)
            assert isinstance(losses, StepLosses), "an objective that gathers gives losses"
            losses.total.backward()

        step()
        seconds = median(time_once(step, world.device) for _ in range(REPEATS))
        if world.is_first:
            print(f"{STEP_PREFIX}{seconds}", flush=True)


if __name__ == "__main__":
    main()
