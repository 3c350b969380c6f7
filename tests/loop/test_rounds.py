"""Planning and training by turns on three tiny domains: what is left, and that it goes on after a kill."""

import dataclasses

import numpy as np
import pytest

from bimixjax import InputError, Inventory, Limits, Observations, plan
from bimixjax.loop import rounds
from bimixjax.loop.rounds import RoundsConfig, _next, run_rounds
from bimixjax.proxy import Design
from tests.loop.test_workflow import Watcher


@pytest.fixture(scope="module")
def config(tiny_loop_config, tiny_store):
    limits = Limits(lower={"a": 0.1})
    stock = Inventory(dict(zip(tiny_store.domains, tiny_store.tokens.tolist(), strict=True)))
    swarm = dataclasses.replace(tiny_loop_config.swarm, eval_steps=(60,))
    return RoundsConfig(per_round=2, limits=limits, inventory=stock, swarm=swarm)


@pytest.fixture(scope="module")
def found(tiny_store, config, tmp_path_factory):
    return run_rounds(tmp_path_factory.mktemp("rounds"), tiny_store, config, rounds=3)


def test_each_round_is_planned_from_all_before(found, tiny_store, config):
    assert found.observations.runs == tuple(f"plan-{i}" for i in range(1, 7))
    counts = tiny_store.tokens / tiny_store.tokens.sum()
    np.testing.assert_allclose(found.plans[0].mixtures[-1], counts)
    known = found.observations.select(runs=["plan-1", "plan-2"])
    again = plan(known, runs=2, limits=config.limits)
    np.testing.assert_allclose(found.plans[1].mixtures, again.mixtures, atol=1e-9)
    assert (found.observations.proportions[:, 0] >= 0.1 - 1e-12).all()


def test_the_least_loss_is_that_of_the_table(found):
    means = found.observations.losses.mean(axis=1)
    np.testing.assert_allclose(found.least, [means[:2].min(), means[:4].min(), means.min()])


def test_the_folder_holds_the_table_and_every_design(found):
    folder = found.table.parent
    np.testing.assert_array_equal(Observations.read(found.table).losses, found.observations.losses)
    for number, made in enumerate(found.plans, 1):
        design = Design.read(folder / f"round-{number}" / "design.csv")
        assert design.runs == made.runs
        np.testing.assert_array_equal(design.proportions, made.design().proportions)


def test_after_a_kill_it_ends_in_the_same_numbers(found, tiny_store, config, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run_rounds(tmp_path, tiny_store, config, rounds=3, watch=Watcher("round 2", 20))
    assert not (tmp_path / "round-3").exists()
    again = run_rounds(tmp_path, tiny_store, config, rounds=3)
    assert again.table.read_bytes() == found.table.read_bytes()


def test_more_rounds_go_on_from_those_there(found, tiny_store, config):
    watcher = Watcher()
    more = run_rounds(found.table.parent, tiny_store, config, rounds=4, watch=watcher)
    np.testing.assert_array_equal(more.observations.losses[:6], found.observations.losses)
    assert len(more.observations.runs) == 8
    assert max(watcher.steps) == 60


def test_plans_of_another_number_of_threads_go_on_with_those_there(found, tiny_store, config, monkeypatch):
    def moved(*arguments):
        made, design = _next(*arguments)
        shares = design.proportions + np.array([1e-12, -1e-12, 0])
        return made, dataclasses.replace(design, proportions=shares)

    before = found.table.read_bytes()
    monkeypatch.setattr(rounds, "_next", moved)
    assert run_rounds(found.table.parent, tiny_store, config, rounds=4).table.read_bytes() == before


def test_another_loop_is_refused(found, tiny_store, config):
    other = dataclasses.replace(config, limits=Limits())
    with pytest.raises(InputError, match="begun with another limits"):
        run_rounds(found.table.parent, tiny_store, other)


@pytest.mark.parametrize("rounds", [0, -1])
def test_a_number_of_rounds_that_is_none_is_refused(rounds, tiny_store, tmp_path):
    with pytest.raises(InputError, match="rounds is"):
        run_rounds(tmp_path, tiny_store, rounds=rounds)
