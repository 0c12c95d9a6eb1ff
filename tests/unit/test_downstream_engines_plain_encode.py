"""Every unit is encoded once, and the size of a batch changes neither vectors nor numbers."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor, nn

from downstream.engines.plain import encode as encode_module
from downstream.engines.plain.cache import VectorCache
from downstream.engines.plain.encode import Encoding, encode
from downstream.engines.plain.inputs import Preparer
from downstream.engines.plain.model import Retriever
from downstream.engines.plain.settings import InputSettings
from downstream.engines.plain.units import Unit, unit_key
from downstream.formats.base import Captioned, Labelled
from downstream.kinds import load_kind
from downstream.kinds.base import Facts, Outputs
from models.config import load_config
from models.embedding import find_tokenizer
from models.onepeace import build_model
from models.world import World

TINY = load_config("tiny")
INPUTS = {
    "audio": InputSettings(protocol="audio", arguments={"max_duration_s": 2}),
    "text": InputSettings(protocol="text"),
}
LENGTHS = [16_000 + 1_100 * (7 * number % 12) for number in range(12)]
CPU = World(0, 1, torch.device("cpu"))
FACTS = Facts("audio", tuple(f"thing_{number}" for number in range(4)), prompt="This is a sound of {label}")


class Counting(nn.Module):
    """A retriever that notes how many sequences each call had, and which."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Retriever(build_model(TINY.branch(*INPUTS), seed=0))
        self.sizes: list[int] = []
        self.names: list[str] = []

    def forward(self, inputs: dict[str, Any]) -> Tensor:
        vectors: Tensor = self.inner(inputs)
        self.sizes.append(len(vectors))
        self.names += inputs
        return vectors


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    folder, rng = tmp_path_factory.mktemp("clips"), np.random.default_rng(0)
    paths = tuple(folder / f"{number}.wav" for number in range(len(LENGTHS)))
    for path, length in zip(paths, LENGTHS, strict=True):
        soundfile.write(path, rng.uniform(-0.5, 0.5, length), 16_000)
    return paths


@pytest.fixture
def encoding(clips: tuple[Path, ...]) -> Encoding:
    return Encoding(
        module=Counting(),
        preparer=Preparer(TINY.branch(*INPUTS), INPUTS, find_tokenizer(TINY.modalities["text"]["vocabulary_size"])),
        digests={path: path.stem for path in clips},
        lengths={path: length / 16_000 for path, length in zip(clips, LENGTHS, strict=True)},
        batch_size=5,
        dtype=torch.float32,
        world=CPU,
    )


def samples_of(clips: Sequence[Path]) -> list[Captioned]:
    return [
        Captioned(f"{number}", path, tuple(f"words {number} {more}" for more in range(2)))
        for number, path in enumerate(clips)
    ]


def quiet(done: int, total: int) -> None:
    """Show nothing."""


def run(units: Sequence[Unit], encoding: Encoding, path: Path) -> Tensor:
    with VectorCache(path) as cache:
        encode(units, encoding, cache, progress=quiet)
        return cache.read([unit_key(unit, encoding.digests) for unit in units])


def test_the_batch_size_changes_neither_vectors_nor_numbers(
    encoding: Encoding, clips: tuple[Path, ...], tmp_path: Path
) -> None:
    kind, samples = load_kind("retrieval"), samples_of(clips)
    units = kind.list_units(samples, FACTS)
    vectors, numbers, rows = {}, {}, {}
    for size in (1, 7, 32):
        vectors[size] = run(units, replace(encoding, batch_size=size), tmp_path / f"{size}.sqlite")
        judged = kind.judge(samples, give(units, vectors[size]), FACTS)
        numbers[size], rows[size] = judged.metrics, list(judged.rows)
    for size in (7, 32):
        torch.testing.assert_close(vectors[size], vectors[1], atol=1e-6, rtol=0)
        assert numbers[size] == numbers[1]
        assert rows[size] == rows[1]
    assert len({tuple(row.tolist()) for row in vectors[1].round(decimals=4)}) == len(units), "no two are alike"


def give(units: Sequence[Unit], vectors: Tensor) -> Outputs:
    table = dict(zip(units, vectors, strict=True))
    return lambda asked: torch.stack([table[unit] for unit in asked])


def test_every_unit_is_encoded_once_and_a_second_call_encodes_nothing(
    encoding: Encoding, clips: tuple[Path, ...], tmp_path: Path
) -> None:
    units = [Unit.of(audio=path) for path in clips] * 2 + [Unit.of(text="a dog")] * 3
    with VectorCache(tmp_path / "a.sqlite") as cache:
        timing = encode(units, encoding, cache, progress=quiet)
        assert timing.num_units == sum(encoding.module.sizes) == len(clips) + 1
        assert encoding.module.sizes == [5, 5, 2, 1]
        assert encode(units[::-1], encoding, cache, progress=quiet).num_units == 0
        assert len(encoding.module.sizes) == 4


def test_equal_content_in_two_places_is_encoded_once(
    encoding: Encoding, clips: tuple[Path, ...], tmp_path: Path
) -> None:
    both = replace(encoding, digests={clips[0]: "same", clips[1]: "same"})
    found = run([Unit.of(audio=clips[0]), Unit.of(audio=clips[1])], both, tmp_path / "a.sqlite")
    assert encoding.module.sizes == [1]
    assert torch.equal(found[0], found[1])


def test_another_prompt_costs_its_texts_alone(encoding: Encoding, clips: tuple[Path, ...], tmp_path: Path) -> None:
    kind = load_kind("prompted")
    samples = [Labelled(path.stem, path, (number % 4,)) for number, path in enumerate(clips)]
    with VectorCache(tmp_path / "a.sqlite") as cache:
        encode(kind.list_units(samples, FACTS), encoding, cache, progress=quiet)
        encoding.module.names.clear()
        other = kind.list_units(samples, replace(FACTS, prompt="One hears {label}"))
        assert encode(other, encoding, cache, progress=quiet).num_units == len(FACTS.class_names)
    assert set(encoding.module.names) == {"text"}


def test_batches_hold_neighbours_in_length_the_longest_first(
    encoding: Encoding, clips: tuple[Path, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    widths = []
    real = Preparer.collate

    def collate(self: Preparer, units: Sequence[Unit], **options: Any) -> Any:
        widths.append([LENGTHS[clips.index(unit.passes[0][0][1])] for unit in units])
        return real(self, units, **options)

    monkeypatch.setattr(Preparer, "collate", collate)
    run([Unit.of(audio=path) for path in clips], encoding, tmp_path / "a.sqlite")
    assert [width for batch in widths for width in batch] == sorted(LENGTHS, reverse=True)


def test_modules_are_evaluated_without_dropping_anything(
    encoding: Encoding, clips: tuple[Path, ...], tmp_path: Path
) -> None:
    encoding.module.train()
    run([Unit.of(text="a")], encoding, tmp_path / "a.sqlite")
    assert not encoding.module.training


def test_processes_share_the_work_without_gap_or_overlap(
    encoding: Encoding, clips: tuple[Path, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(World, "barrier", lambda _: None)
    units = [Unit.of(audio=path) for path in clips] + [Unit.of(text=f"word {number}") for number in range(6)]
    whole = run(units, encoding, tmp_path / "whole.sqlite")
    for size in (2, 3):
        counts, path = [], tmp_path / f"{size}.sqlite"
        monkeypatch.setattr(VectorCache, "find", lambda _, keys: frozenset())  # all look before anybody writes
        for rank in range(size):
            with VectorCache(path) as cache:
                world = World(rank, size, CPU.device)
                counts.append(encode(units, replace(encoding, world=world), cache, progress=quiet).num_units)
        monkeypatch.undo()
        monkeypatch.setattr(World, "barrier", lambda _: None)
        assert sum(counts) == len(units)
        assert min(counts) > 0
        with VectorCache(path) as cache:
            found = cache.read([unit_key(unit, encoding.digests) for unit in units])
        assert torch.equal(found, whole)


def test_where_the_model_is_sharded_all_processes_run_it_equally_often(
    encoding: Encoding, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(World, "barrier", lambda _: None)
    units = [Unit.of(text=f"word {number}") for number in range(11)]  # batches of 5, 5 and 1
    for is_sharded, calls in ((True, [2, 2]), (False, [2, 1])):
        for rank in range(2):
            module = Counting()
            own = replace(encoding, module=module, world=World(rank, 2, CPU.device), is_sharded=is_sharded)
            with VectorCache(tmp_path / f"{is_sharded}-{rank}.sqlite") as cache:
                timing = encode(units, own, cache, progress=quiet)
                keys = [unit_key(unit, {}) for unit in units]
                assert len(cache.find(keys)) == timing.num_units, "idle batches leave nothing"
            assert len(module.sizes) == calls[rank]


def test_progress_counts_what_was_there_and_ends_at_all(
    encoding: Encoding, clips: tuple[Path, ...], tmp_path: Path
) -> None:
    seen = []
    with VectorCache(tmp_path / "a.sqlite") as cache:
        encode([Unit.of(audio=clips[0]), Unit.of(audio=clips[1])], encoding, cache, progress=quiet)
        units = [Unit.of(audio=path) for path in clips]
        encode(units, encoding, cache, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(7, 12), (12, 12)]


def test_what_was_encoded_before_a_fault_is_kept(
    encoding: Encoding, clips: tuple[Path, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encode_module, "WRITE_INTERVAL_S", 0.0)
    gone = tmp_path / "gone.wav"  # the shortest, so the last
    digests = {**encoding.digests, gone: "gone"}
    units = [Unit.of(audio=path) for path in (*clips, gone)]
    with VectorCache(tmp_path / "a.sqlite") as cache:
        with pytest.raises(FileNotFoundError, match=r"gone\.wav"):
            encode(units, replace(encoding, digests=digests), cache, progress=quiet)
        assert len(cache.find([unit_key(unit, digests) for unit in units])) == 10


def test_processes_that_load_data_give_the_same_vectors(
    encoding: Encoding, clips: tuple[Path, ...], tmp_path: Path
) -> None:
    units = [Unit.of(audio=path) for path in clips]
    alone = run(units, encoding, tmp_path / "alone.sqlite")
    assert torch.equal(run(units, replace(encoding, num_workers=2), tmp_path / "two.sqlite"), alone)
