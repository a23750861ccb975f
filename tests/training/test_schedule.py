from __future__ import annotations

from sat2map.recipe import load_recipe
from sat2map.training.schedule import Plan


def saved(*settings: str, pairs: int = 6) -> list[int]:
    plan = Plan(load_recipe("pix2pix", ["training.epochs=2", *settings]), pairs)
    return [done for done in range(1, plan.steps + 1) if plan.saves(done)]


def test_checkpoints_are_due_at_ends_of_epochs_and_every_so_many_steps() -> None:
    assert saved() == [6, 12]
    assert saved("training.checkpoint_steps=4") == [4, 6, 8, 12]
    assert saved("training.checkpoint_steps=4", "training.batch=2") == [3, 4, 6]
    assert saved("training.max_steps=8") == [6, 8]


def test_several_processes_share_an_epoch() -> None:
    recipe = load_recipe("pix2pix", ["training.batch=2"])
    plans = [Plan(recipe, 9, processes=2, rank=rank) for rank in (0, 1)]
    assert [plan.steps_per_epoch for plan in plans] == [2, 2]
    seen = [plan.batch(step).tolist() for step in (0, 1) for plan in plans]
    assert len({number for batch in seen for number in batch}) == 8
    alone = Plan(load_recipe("pix2pix", ["training.batch=4"]), 9)
    assert [*seen[0], *seen[1]] == alone.batch(0).tolist()
