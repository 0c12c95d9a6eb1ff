"""Training checkpoints: safetensors shards written beside the training, whole or not there at all.

A checkpoint is a folder `step-00001234` with one safetensors file a rank and `progress.json`. It is written as
`step-00001234.partial` and renamed when every rank is through, so a folder without that ending is complete.
"""

import errno
import json
import os
import re
import shutil
import warnings
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter
from torch.distributed.checkpoint.state_dict_saver import async_save
from torch.optim import Optimizer

from pretrain.saved_state import StateLayout, apply_state, first_failure, flatten_state, read_state

PARTIAL: Final = ".partial"
PROGRESS_FILE: Final = "progress.json"
_STEP_FOLDER: Final = re.compile(r"step-(\d{8,})")


@dataclass(frozen=True)
class PendingSave:
    """A checkpoint that is being written while training goes on."""

    path: Path
    """What the folder is called once it is complete."""
    done: "Future[None]"

    def finish(self) -> Path:
        """Wait until the checkpoint is complete on every rank.

        Raises:
            OSError: it could not be written; one line. Older checkpoints are as they were.
        """
        self.done.result()
        return self.path


class Saver:
    """Writes the checkpoints of one training; every rank makes one, at the same point, and calls it alike.

    Leftovers of a killed run are removed when it is made. It has a process group of its own, so that writing does not
    mix with the training's exchanges.

    Args:
        folder: where the checkpoints of this training are.
        keep: complete checkpoints to keep, the newest ones.

    Raises:
        ValueError: `keep` is below 1.
    """

    def __init__(self, folder: Path, *, keep: int) -> None:
        if keep < 1:
            raise ValueError(f"keep {keep}, expected at least 1 checkpoint")
        self.folder = folder
        self._keep = keep
        self._group = dist.new_group(backend="gloo") if _is_distributed() else None
        self._is_first = not _is_distributed() or dist.get_rank() == 0
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="saver")
        self._pending: PendingSave | None = None
        if self._is_first:
            folder.mkdir(parents=True, exist_ok=True)
            _remove_leftovers(folder)
        self._wait_for_all()

    def save(
        self, step: int, *, model: nn.Module, optimizer: Optimizer, progress: Mapping[str, Any], wait: bool = False
    ) -> PendingSave:
        """Take the values of this moment and write them in the background; first waits for the save before.

        Args:
            step: optimiser steps done; names the folder.
            model: its whole state is written, sharded or not.
            optimizer: its tensors are written; rates and the like come from the config.
            progress: what JSON can hold, keys strings. Ranks may give different parts: mappings are united, everything
                else has to be the same on all ranks.
            wait: return only when the checkpoint is complete.

        Raises:
            ValueError: the step is there already, or progress that JSON does not give back or that ranks disagree on.
            OSError: this or the previous checkpoint could not be written.
        """
        self.finish()
        final = self.folder / f"step-{step:08d}"
        self._agree("already exists" if final.exists() else None, f"{final} cannot be written")
        tensors, layout = flatten_state(model, optimizer)
        united = _unite(self._gather(_plain(progress)))
        record = json.dumps({"step": step, "layout": layout.to_json(), "progress": united}, indent=1, allow_nan=False)
        writing = self._write(tensors, _partial(final))
        pending = PendingSave(final, self._thread.submit(self._complete, writing, final, record=record))
        self._pending = pending
        if wait:
            self.finish()
        return pending

    def finish(self) -> None:
        """Wait for the checkpoint that is being written, if any.

        Raises:
            OSError: it could not be written; one line.
        """
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.finish()

    def _write(self, tensors: dict[str, Tensor], partial: Path) -> "Future[Any]":
        """Copy the tensors to the CPU and begin to write them."""
        _hush_single_process()
        writer = HuggingFaceStorageWriter(str(partial), save_distributed=True)
        writing = async_save(tensors, storage_writer=writer, process_group=self._group, no_dist=not _is_distributed())
        assert isinstance(writing, Future)
        return writing

    def _complete(self, writing: "Future[Any]", final: Path, *, record: str) -> None:
        """Publish what was written, or clear it away; runs in the background on every rank."""
        problem = None
        try:
            writing.result()  # on the first rank this means that all ranks are through
            if self._is_first:
                _publish(final, record)
                _prune(self.folder, keep=self._keep)
        except (CheckpointException, OSError) as error:
            problem = _explain(error)
        problems = [text for text in self._gather(problem) if text is not None]
        if problems and self._is_first:
            shutil.rmtree(_partial(final), ignore_errors=True)
        self._wait_for_all()
        if problems:
            raise OSError(f"saving {final} failed: {problems[0]}; {_advice(self.folder)}")

    def _agree(self, problem: str | None, what: str) -> None:
        """Refuse on every rank what one rank refuses."""
        problems = [text for text in self._gather(problem) if text is not None]
        if problems:
            raise ValueError(f"{what}: it {problems[0]}; resume from it, or train into another folder")

    def _gather(self, value: Any) -> list[Any]:
        """Give every rank's value to all; as JSON, so that nothing received is executed."""
        if self._group is None:
            return [value]
        content = torch.frombuffer(bytearray(json.dumps(value, allow_nan=False).encode()), dtype=torch.uint8)
        sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(dist.get_world_size())]
        dist.all_gather(sizes, torch.tensor([len(content)]), group=self._group)
        longest = max(int(size) for size in sizes)
        received = [torch.zeros(longest, dtype=torch.uint8) for _ in sizes]
        dist.all_gather(received, nn.functional.pad(content, (0, longest - len(content))), group=self._group)
        pairs = zip(received, sizes, strict=True)
        return [json.loads(part[: int(size)].numpy().tobytes().decode()) for part, size in pairs]

    def _wait_for_all(self) -> None:
        if self._group is not None:
            dist.barrier(group=self._group)


def list_checkpoints(folder: Path) -> list[Path]:
    """List the complete checkpoints of a training, oldest first; empty where there is no such folder."""
    if not folder.is_dir():
        return []
    found = [path for path in folder.iterdir() if _STEP_FOLDER.fullmatch(path.name)]
    return sorted(found, key=lambda path: int(path.name.removeprefix("step-")))


def find_latest(folder: Path) -> Path | None:
    """Give the newest complete checkpoint of a training; None where there is none."""
    return next(reversed(list_checkpoints(folder)), None)


def load(path: Path, *, model: nn.Module, optimizer: Optimizer) -> dict[str, Any]:
    """Take a training up where a checkpoint was written, at any number of ranks; all or nothing.

    Args:
        path: a complete checkpoint.
        model: the same model, sharded or not.
        optimizer: over the same parameters.

    Returns:
        The progress of all ranks, as `Saver.save` got it.

    Raises:
        FileNotFoundError: no such checkpoint.
        ValueError: damaged, or of another model or optimiser; one line, and nothing was changed.
    """
    record_file = path / PROGRESS_FILE
    if path.name.endswith(PARTIAL) or not record_file.is_file():
        raise FileNotFoundError(f"no complete checkpoint at {path}; expected a folder like step-00001000 of a training")
    try:
        record = json.loads(record_file.read_text(encoding="utf-8"))
        layout, progress = StateLayout.from_json(record["layout"]), dict(record["progress"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{record_file} is damaged ({error}); take an older checkpoint") from None
    _hush_single_process()
    loaded = read_state(path, layout=layout, model=model, optimizer=optimizer)
    apply_state(loaded, model=model, optimizer=optimizer)
    return progress


def _is_distributed() -> bool:
    return dist.is_available() and dist.is_initialized()


def _hush_single_process() -> None:
    """Keep torch from telling the user of a single process that there is a single process.

    The filter stays: the warning comes from another thread, where a temporary one would race with the training's own.
    """
    if not _is_distributed():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled", category=UserWarning)


def _partial(final: Path) -> Path:
    return final.with_name(final.name + PARTIAL)


def _publish(final: Path, record: str) -> None:
    """Complete a checkpoint: its progress, then its name."""
    with (_partial(final) / PROGRESS_FILE).open("w", encoding="utf-8") as file:
        file.write(record)
        file.flush()
        os.fsync(file.fileno())
    _partial(final).rename(final)


def _remove_leftovers(folder: Path) -> None:
    for path in folder.glob(f"step-*{PARTIAL}"):
        shutil.rmtree(path)


def _prune(folder: Path, *, keep: int) -> None:
    """Delete the oldest checkpoints; each is renamed first, so that a kill leaves no half of one under its name."""
    for path in list_checkpoints(folder)[:-keep]:
        doomed = path.rename(_partial(path))
        shutil.rmtree(doomed)


def _plain(progress: Mapping[str, Any]) -> dict[str, Any]:
    """Refuse progress that JSON would change on its way."""
    given = dict(progress)
    back: dict[str, Any] = json.loads(json.dumps(given, allow_nan=False))
    for key, value in given.items():
        if key not in back or back[key] != value:
            raise ValueError(
                f"progress {key!r} is not the same after JSON; expected lists, finite numbers and keys that are strings"
            )
    return back


def _unite(parts: list[dict[str, Any]], where: str = "progress") -> dict[str, Any]:
    """Join what the ranks gave: mappings key by key, everything else only where all agree."""
    united: dict[str, Any] = {}
    for key, value in ((key, value) for part in parts for key, value in part.items()):
        if key not in united:
            united[key] = value
        elif isinstance(value, dict) and isinstance(united[key], dict):
            united[key] = _unite([united[key], value], f"{where}.{key}")
        elif united[key] != value:
            raise ValueError(f"{where}.{key} is {united[key]!r} on one rank, {value!r} on another; expected one value")
    return united


def _explain(error: CheckpointException | OSError) -> str:
    """Put what went wrong on the first rank that failed into one line."""
    rank, cause = first_failure(error) if isinstance(error, CheckpointException) else (0, error)
    where = f"rank {rank}: " if rank else ""
    if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{where}the disk is full"
    return f"{where}{type(cause).__name__}: {' '.join(str(cause).split())}"


def _advice(folder: Path) -> str:
    latest = find_latest(folder)
    last = f"the last complete one is {latest.name}" if latest else "there is no earlier one"
    return f"{last}; free some space or lower the number of kept checkpoints, then resume"
