"""Batches come in order however they are prepared, and what fails in preparing fails where it is asked for."""

import threading
import time

import pytest
import torch

from downstream.engines.plain.ahead import count_workers, prepare_ahead
from models.world import World


class Squares:
    """Takes longer for earlier ones, and remembers which were begun."""

    def __init__(self, size: int, *, fails_at: int = -1) -> None:
        self.size = size
        self.begun: list[int] = []
        self.fails_at = fails_at

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> int:
        self.begun.append(index)
        if index == self.fails_at:
            raise ValueError("a.jpg is no picture")
        time.sleep(0.01 / (index + 1))
        return index * index


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("size", [0, 1, 9])
def test_batches_come_in_order(size: int, num_workers: int) -> None:
    assert list(prepare_ahead(Squares(size), num_workers=num_workers)) == [n * n for n in range(size)]


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_file_that_cannot_be_read_is_told_in_its_turn(num_workers: int) -> None:
    batches = prepare_ahead(Squares(9, fails_at=2), num_workers=num_workers)
    assert [next(batches), next(batches)] == [0, 1]
    with pytest.raises(ValueError, match=r"a\.jpg is no picture"):
        next(batches)


def test_some_are_prepared_while_the_first_is_at_work_but_not_all() -> None:
    squares = Squares(50)
    batches = prepare_ahead(squares, num_workers=0)
    next(batches)
    time.sleep(0.1)
    assert 1 < len(squares.begun) <= 6
    before = threading.active_count()
    batches.close()  # type: ignore[attr-defined]
    assert threading.active_count() < before, "nothing goes on for nobody"
    assert len(squares.begun) <= 6


@pytest.mark.parametrize(("device", "wanted", "count"), [("cpu", None, 0), ("cpu", 3, 3), ("cuda", 0, 0)])
def test_data_is_loaded_beside_a_gpu_only_or_as_asked(device: str, wanted: int | None, count: int) -> None:
    assert count_workers(wanted, World(0, 1, torch.device(device))) == count


def test_some_processes_load_data_beside_a_gpu() -> None:
    assert 1 <= count_workers(None, World(0, 1, torch.device("cuda"))) <= 8
