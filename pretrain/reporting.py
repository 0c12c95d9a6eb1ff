"""What the first rank tells of a stage while it runs and when it is through: journal, MLflow, record."""

import json
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch

from models.checkpoint.reader import file_sha256
from models.world import World
from pretrain.config import StageConfig
from pretrain.evaluate import PROMPT, Evaluation
from pretrain.held_out import CLASSES_OF_SOUNDS, PICTURES
from pretrain.job import CONFIG_FILE, EVALUATION_FILE, Result, find_held_out
from pretrain.journal import Journal
from pretrain.plan import load_gpus
from pretrain.saving import find_latest
from pretrain.trainer import CHECKPOINTS
from pretrain.weights import WEIGHTS_FILE, Weights
from reports.live import LiveRun, find_run_id
from reports.log_file import LOG_FILE
from reports.provenance import Clock, describe_processor, digest, peak_memory_gib, read_commit, read_versions
from reports.record import CheckpointInfo, DataInfo, Record, write_record
from reports.sender import log_records, warn_unsent
from reports.store import StoreError
from reports.training_run import EXPERIMENT, Status

PROTOCOL = {"id": "held-out", "prompt": PROMPT, "text": "text", "image": "image-square", "audio": "audio"}


class Reporter:
    """Speaks for a stage; ranks but the first have one that is silent.

    Args:
        config: of the stage.
        folder: of the run.
        world: the ranks.
        tracking_uri: MLflow's store or server.
    """

    def __init__(self, config: StageConfig, *, folder: Path, world: World, tracking_uri: str) -> None:
        self.config, self.folder, self.world, self.tracking_uri = config, folder, world, tracking_uri
        self.clock = Clock()
        self.journal: Journal | None = None
        self._is_complete = False

    def __enter__(self) -> Self:
        if self.world.is_first:
            self.journal = self._open_journal()
        return self

    def _open_journal(self) -> Journal:
        latest = find_latest(self.folder / CHECKPOINTS)
        done = 0 if latest is None else int(latest.name.removeprefix("step-"))
        commit, _ = read_commit()
        live = LiveRun.start(
            tracking_uri=self.tracking_uri,
            folder=self.folder,
            name=f"{self.config.stage}-{self.config.size}-{commit[:7]}",
            params=self._params(),
            tags={"commit": commit, "profile": "paper" if self.config.size == "4b" else "mini"},
            run_id=find_run_id(self.folder),
        )
        live.settle()  # before processes that read data are forked
        return Journal.open(
            self.folder,
            total_steps=self.config.steps,
            log_every_steps=self.config.log_every_steps,
            stream=sys.stderr,
            title=f"{self.config.stage}-{self.config.size}",
            live=live,
            peak_flops_per_s=find_peak(self.world),
            resume_from=done,
        )

    def _params(self) -> dict[str, Any]:
        config = self.config
        return {
            "stage": config.stage,
            "size": config.size,
            "steps": config.steps,
            "batch_size": config.batch.batch_size,
            "micro_batch_size": config.batch.micro_batch_size,
            "lr": config.optim.lr,
            "seed": config.seed,
            "world_size": self.world.size,
            "dtype": config.parallel.dtype,
        }

    def say(self, line: str) -> None:
        """Print one line; faults of other ranks' data are told by them."""
        if self.journal is not None:
            self.journal.say(line)
        elif line.startswith("corrupt"):
            print(f"rank {self.world.rank}: {line}", file=sys.stderr)

    def conclude(self, result: Result, *, command: str) -> None:
        """Note how it ended; where it was judged, as a record on disk and in MLflow."""
        self._is_complete = result.outcome.is_complete
        if self.journal is not None and result.outcome.counts:
            counts = ", ".join(f"{number} {name}" for name, number in sorted(result.outcome.counts.items()))
            self.journal.event(result.outcome.steps, f"samples of this rank: {counts}")
        if result.evaluation is None:
            return
        record = self._record(result, result.evaluation, command)
        write_record(record, self.folder)
        try:
            log_records(
                [record],
                tracking_uri=self.tracking_uri,
                command=command,
                folders={record.run_id: self.folder},
                experiment=EXPERIMENT,
            )
        except StoreError as error:
            self.say(warn_unsent(error))

    def _record(self, result: Result, evaluation: Evaluation, command: str) -> Record:
        weights = result.folder / WEIGHTS_FILE
        commit, is_dirty = read_commit()
        return Record(
            run_id=result.folder.name,
            task=f"pretrain_{self.config.stage}",
            dataset="miniworld pairs",
            split="held_out",
            profile="mini",
            model_size=self.config.size,
            setting="zero-shot",
            protocol=PROTOCOL["id"],
            protocol_sha256=digest(PROTOCOL),
            metrics=evaluation.metrics,
            checkpoint=CheckpointInfo(
                name=weights.name,
                sha256=file_sha256(weights),
                loaded=len(Weights(weights)),
            ),
            data=describe_held_out(find_held_out(self.config)),
            config=self.config.model_dump(mode="json"),
            dtype=self.config.parallel.dtype,
            device=describe_processor() if self.world.device.type == "cpu" else torch.cuda.get_device_name(),
            seed=self.config.seed,
            commit=commit,
            is_dirty=is_dirty,
            versions=read_versions(),
            started_at=self.clock.started_at,
            duration_s=self.clock.elapsed_s(),
            peak_memory_gib=peak_memory_gib(),
            command=command,
            artifacts={"log": LOG_FILE, "config": CONFIG_FILE, "evaluation": EVALUATION_FILE},
        )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.journal is None:
            return
        if error is not None and not isinstance(error, KeyboardInterrupt):
            status: Status = "FAILED"
        else:
            status = "FINISHED" if self._is_complete else "KILLED"
        self.journal.close(status, [self.folder / CONFIG_FILE])


def describe_held_out(folder: Path) -> DataInfo:
    """Say what was judged by: the pictures and clips of the held-out part."""
    pictures = folder / PICTURES
    names = [image["filename"] for image in json.loads(pictures.read_text(encoding="utf-8"))["images"]]
    clips = (folder / CLASSES_OF_SOUNDS).read_text(encoding="utf-8")
    names += [line.partition(",")[0] for line in clips.splitlines()[1:]]
    return DataInfo(
        name="miniworld pairs",
        version="miniworld",
        root_name=folder.parent.name,
        digest=digest([file_sha256(pictures), file_sha256(folder / CLASSES_OF_SOUNDS)]),
        n=len(names),
        n_expected=len(names),
        ids_sha256=digest(names),
    )


def find_peak(world: World) -> float | None:
    """Give the peak of all devices together in operations a second, where the table has this kind."""
    if world.device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(world.device).lower()
    found = [gpu for key, gpu in load_gpus().items() if key.split("-")[0] in name]
    return found[0].peak_tflops * 1e12 * world.size if found else None
