from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import torch

from sat2map.training.batches import Ahead, Batch


class Maker:
    """Makes batches that hold their step, and tells who made them."""

    def __init__(self, broken: int = -1) -> None:
        self.made: list[int] = []
        self.threads: set[int] = set()
        self.begun = {step: threading.Event() for step in range(12)}
        self._broken = broken

    def at(self, step: int) -> Batch:
        self.begun[step].set()
        self.threads.add(threading.get_ident())
        if step == self._broken:
            raise ValueError(f"step {step}")
        self.made.append(step)
        return Batch(torch.tensor([step]), None)


@pytest.fixture
def ended() -> Iterator[list[Ahead]]:
    opened: list[Ahead] = []
    yield opened
    for each in opened:
        each.close()


def test_the_next_batch_is_made_while_a_step_is_taken(ended: list[Ahead]) -> None:
    maker = Maker()
    ahead = Ahead(maker.at, 10)
    ended.append(ahead)
    assert int(ahead.at(7).source) == 7  # a run that goes on begins anywhere
    assert maker.begun[8].wait(30)
    assert [int(ahead.at(step).source) for step in (8, 9)] == [8, 9]
    assert maker.made == [7, 8, 9]  # and none beyond the end of the run
    assert maker.threads.isdisjoint({threading.get_ident()})
    assert len(maker.threads) == 1


def test_another_step_than_the_next_is_made_as_well(ended: list[Ahead]) -> None:
    maker = Maker()
    ahead = Ahead(maker.at, 10)
    ended.append(ahead)
    assert [int(ahead.at(step).source) for step in (0, 5, 6, 1)] == [0, 5, 6, 1]


def test_what_cannot_be_made_is_told_in_its_turn(ended: list[Ahead]) -> None:
    maker = Maker(broken=3)
    ahead = Ahead(maker.at, 10)
    ended.append(ahead)
    assert int(ahead.at(2).source) == 2
    with pytest.raises(ValueError, match="step 3"):
        ahead.at(3)
    assert int(ahead.at(4).source) == 4
