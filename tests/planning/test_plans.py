"""`plan` as its callers see it."""

from typing import Any

import jax
import numpy as np
import pandas as pd
import pytest

import bimixjax
from bimixjax import Budget, InputError, Inventory, Limits, Observations, Plan, plan
from bimixjax.proxy import Design

DOMAINS = ("web", "code", "math")


def table(runs=5, sizes=(None,), seed=0, targets=DOMAINS) -> pd.DataFrame:
    """Losses of a power of the own share, or of the first domain's for a target that is none."""
    random, rows = np.random.default_rng(seed), []
    for i, r in enumerate(random.dirichlet(np.full(3, 1.5), runs)):
        for size in sizes:
            row = {"run": f"r{i}"} if size is None else {"run": f"r{i}/{size:g}", "model_size": size}
            row |= {f"mixture/{name}": share for name, share in zip(DOMAINS, r, strict=True)}
            for t, name in enumerate(targets):
                row[f"loss/{name}"] = (2 + t) * (r[t] + 0.01) ** -0.1 * (1 if size is None else (1e8 / size) ** 0.05)
            rows.append(row)
    return pd.DataFrame(rows)


def rows(made: Plan) -> list[int]:
    assert made.index is not None
    return made.index.tolist()


def observe(**options) -> Observations:
    return Observations.from_frame(table(**options))


def test_from_nothing_every_run_is_within_the_limits():
    limits = Limits(lower={"math": 0.2}, upper={"web": 0.3})
    made = plan(domains=DOMAINS, runs=6, limits=limits)
    lower, upper = limits.arrays(DOMAINS)
    assert made.mixtures.shape == (6, 3)
    np.testing.assert_allclose(made.mixtures.sum(axis=1), 1, atol=1e-12)
    assert ((made.mixtures >= lower) & (made.mixtures <= upper)).all()
    np.testing.assert_allclose(made.mixtures[0], [0.3, 0.35, 0.35], atol=1e-9)
    assert np.isnan(made.improvement).all()


def test_from_nothing_targets_that_are_no_domains_are_said_to_have_no_order():
    made = plan(domains=DOMAINS, targets=["arc"], runs=2)
    assert "no zero-run order" in made.method
    np.testing.assert_allclose(made.mixtures[0], 1 / 3, atol=1e-9)


def test_an_inventory_adds_the_natural_mixture():
    made = plan(domains=DOMAINS, runs=3, inventory=Inventory({"web": 6e9, "code": 3e9, "math": 1e9}))
    np.testing.assert_allclose(made.mixtures[-1], [0.6, 0.3, 0.1])


def test_epochs_and_groups_limit_every_run():
    limits = Limits(max_epochs=2.0, groups={"hard": (("code", "math"), 0.3, 0.5)})
    stock = Inventory({"web": 6e9, "code": 3e9, "math": 1e9})
    options = {"limits": limits, "inventory": stock, "budget": Budget(volume=1e10, unit="tokens"), "runs": 3}
    for made in (plan(domains=DOMAINS, **options), plan(observe(), **options)):
        assert (made.mixtures[:, 2] <= 0.2 + 1e-9).all()
        hard = made.mixtures[:, 1:].sum(axis=1)
        assert ((hard >= 0.3 - 1e-9) & (hard <= 0.5 + 1e-9)).all()


def test_a_seed_gives_one_plan_and_so_does_its_key():
    first, again, other = (plan(domains=DOMAINS, runs=4, key=key).mixtures for key in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    of_keys = [plan(domains=DOMAINS, runs=4, key=jax.random.key(5)).mixtures for _ in range(2)]
    np.testing.assert_array_equal(of_keys[0], of_keys[1])


def test_from_a_table_the_plan_goes_where_the_mean_loss_is_least():
    made = plan(observe(runs=8), runs=2)
    grid = bimixjax.mixtures.lattice(3, 50)
    best = grid[((2 + np.arange(3)) * (grid + 0.01) ** -0.1).sum(axis=1).argmin()]
    nearest = np.abs(observe(runs=8).proportions - best).sum(axis=1).min()
    assert np.abs(made.mixtures - best).sum(axis=1).min() < nearest
    assert (made.improvement > 0).all()


def test_candidates_are_each_chosen_once_and_named_by_their_rows():
    candidates = np.random.default_rng(3).dirichlet(np.ones(3), 6)
    made = plan(observe(), candidates=candidates, runs=6)
    assert sorted(rows(made)) == list(range(6))
    np.testing.assert_allclose(made.mixtures, candidates[rows(made)], atol=1e-15)
    assert made.named("abcdef").runs == tuple("abcdef"[row] for row in rows(made))


def test_candidates_out_of_the_limits_are_left_out():
    candidates = [[0.9, 0.05, 0.05], [0.2, 0.4, 0.4], [0.3, 0.3, 0.4]]
    made = plan(observe(), candidates=candidates, runs=2, limits=Limits(upper={"web": 0.5}))
    assert sorted(rows(made)) == [1, 2]


def test_weights_move_the_plan():
    towards = plan(observe(), runs=1, weights={"math": 1.0}).mixtures[0]
    assert towards[2] > plan(observe(), runs=1).mixtures[0][2]


def test_sizes_are_chosen_by_improvement_per_cost():
    observations = observe(runs=6, sizes=(1e7, 1e8))
    made = plan(observations, runs=3, model_sizes=[1e7, 1e8])
    assert made.model_sizes is not None
    assert set(made.model_sizes.tolist()) <= {1e7, 1e8}
    assert made.model_sizes[0] == 1e7
    assert plan(observations, runs=1).model_sizes is None


def test_tasks_and_missing_losses_are_planned_for():
    frame = table(targets=("arc", "squad"))
    frame.loc[1, "loss/arc"] = np.nan
    made = plan(Observations.from_frame(frame), runs=2)
    assert np.isfinite(made.improvement).all()
    assert "2 targets" in made.method


def test_the_last_common_volume_is_read_and_what_was_left_out_is_said():
    frame: Any = pd.concat([table().assign(step=step) for step in (10, 20)])
    frame = frame[(frame["run"] != "r4") | (frame["step"] == 10)]
    made = plan(Observations.from_frame(frame), runs=1)
    assert "From 5 measured runs" in made.method
    frame = frame[(frame["run"] != "r3") | (frame["step"] == 20)]
    made = plan(Observations.from_frame(frame), runs=1)
    assert "From 4 measured runs" in made.method
    assert any("r4" in note for note in made.notes)


def test_runs_that_diverged_are_left_out():
    frame = table(runs=6)
    frame.loc[2, [f"loss/{name}" for name in DOMAINS]] = 1e4
    made = plan(Observations.from_frame(frame), runs=1)
    assert "From 5 measured runs" in made.method
    assert any("diverged" in note and "r2" in note for note in made.notes)


def test_from_draws_of_a_fit_each_run_improves_on_those_before():
    fit = bimixjax.fit(bimixjax.Auto(members=("offset",)), observe(runs=6))
    made = plan(fit, runs=2, candidates=np.random.default_rng(3).dirichlet(np.ones(3), 12))
    assert len(set(rows(made))) == 2
    assert made.improvement[0] >= made.improvement[1] >= 0
    resampled = bimixjax.bootstrap("bimix_offset", observe(runs=6), key=0, count=20)
    assert plan(resampled, runs=1).mixtures.shape == (1, 3)
    with pytest.raises(InputError, match="no draws to plan from"):
        plan(resampled.fit, runs=1)


def test_a_plan_is_written_as_the_design_that_a_swarm_reads(tmp_path):
    made = plan(observe(), runs=3)
    made.write(tmp_path / "next.csv", seed=7)
    design = Design.read(tmp_path / "next.csv")
    assert design.runs == made.runs == ("plan-1", "plan-2", "plan-3")
    np.testing.assert_array_equal(design.proportions, made.design().proportions)
    assert design.seeds.tolist() == [7, 7, 7]


def test_ids_go_on_from_those_of_an_earlier_plan():
    frame = table(runs=3).replace({"run": {"r0": "plan-1", "r1": "plan-7"}})
    assert plan(Observations.from_frame(frame), runs=2).runs == ("plan-8", "plan-9")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "needs domains"),
        ({"domains": DOMAINS, "runs": 0}, "runs is 0"),
        ({"domains": ("a", "a")}, "more than once"),
        ({"domains": ("a",)}, "one mixture"),
        ({"domains": DOMAINS, "limits": Limits(lower={"x": 0.1})}, "unknown domain"),
        ({"domains": DOMAINS, "limits": Limits(lower={"web": 0.8, "code": 0.8})}, "no mixture keeps|conflict"),
        ({"domains": DOMAINS, "candidates": [[0.5, 0.5]]}, "mixtures have shape"),
        ({"domains": DOMAINS, "candidates": [[0.5, 0.5, 0.5]]}, "sums to 1.5"),
        ({"domains": DOMAINS, "candidates": [[0.5, 0.5, 0.0]], "runs": 2}, "1 candidates"),
        ({"domains": DOMAINS, "budget": Budget(model_size=1e8)}, "from nothing"),
        ({"domains": DOMAINS, "limits": Limits(max_epochs=4.0)}, "an inventory"),
        ({"domains": DOMAINS, "key": -1}, "key is -1"),
        ({"given": observe(), "targets": ["arc"]}, "unknown target"),
        ({"given": observe(), "domains": ("web", "code")}, "leave them out"),
        ({"given": observe(), "budget": Budget(model_size=1e8)}, "was not measured"),
        ({"given": observe(), "model_sizes": []}, "model_sizes are empty"),
        ({"given": observe(), "weights": {"web": -1.0}}, "weight of 'web'"),
    ],
)
def test_bad_input_gets_one_clear_error(options, message):
    with pytest.raises(InputError, match=message):
        plan(options.pop("given", None), **{"runs": 1} | options)
