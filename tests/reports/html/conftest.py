"""A decision on three domains with names that a page must not take for its own; only the fit is computed."""

import dataclasses

import numpy as np
import pytest

import bimixjax
from bimixjax import FitResult, Observations
from bimixjax.comparison import Comparison
from bimixjax.loop.decision import Decision
from bimixjax.loop.influence import Influence, moves
from bimixjax.optimization import Baselines, OptimalMixture, OptimalResamples

# A tag, an entity with quotes, and what matplotlib would take for a formula.
NAMES = ("<script>alert(1)</script>", 'a & "b"', "$x_1$ of a corpus with a long name")
COUNT, FOLDS = 40, 4


@pytest.fixture(scope="session")
def odd_table(three_domains: Observations) -> Observations:
    """The losses of three domains under odd names, of which something is noted."""
    note = "2 of 42 rows left out: <b>twice</b>"
    table = three_domains.select(targets=("web", "books", "code"))
    return dataclasses.replace(table, domains=NAMES, targets=NAMES, source="<runs>.csv", notes=(note,))


@pytest.fixture(scope="session")
def odd_decision(odd_table: Observations) -> Decision:
    """Every part that a page can have; what would take long to compute is made up."""
    fit = bimixjax.fit("bimix", odd_table)
    stock = bimixjax.Inventory(dict(zip(NAMES, (8e9, 1e9, 3e9), strict=True)))
    goal = {"budget": bimixjax.Budget(volume=64_000, unit="steps"), "inventory": stock}
    best, baselines = bimixjax.optimize(fit, **goal), Baselines.of(fit, observations=odd_table, **goal)
    worth = best.worth(fit, baselines=baselines, inventory=stock, train_tokens=6e9)
    ends = {"lower": worth.gains - 0.001, "upper": worth.gains + 0.001, "better": np.ones_like(worth.gains)}
    runs = tuple(odd_table.runs)
    influence = Influence(
        runs=runs,
        shift=np.linspace(0.05, 0.0, len(runs)),
        gain=np.linspace(-0.01, 0.01, len(runs)),
        reference="natural",
        of=len(runs),
        method="made up",
    )
    return Decision(
        fit=fit,
        best=best,
        baselines=baselines,
        worth=dataclasses.replace(worth, draws=COUNT, **ends),
        others={"entropy <of> tokens": np.array([0.5, 0.3, 0.2])},
        inventory=stock,
        train_tokens=6e9,
        observations=odd_table,
        comparison=compared(odd_table, fit),
        draws=drawn(best),
        moves=moves(fit, best, stock),
        influence=influence,
        plan=dataclasses.replace(bimixjax.plan(domains=NAMES, runs=2), reasons=("near <it>", "far & wide")),
    )


def drawn(best: OptimalMixture) -> OptimalResamples:
    """Mixtures near the best one."""
    noise = np.exp(0.05 * np.random.default_rng(0).standard_normal((COUNT, len(best.domains))))
    near = best.proportions * noise
    near = near / near.sum(1, keepdims=True)
    return OptimalResamples(best=best, proportions=near, regret=np.full(COUNT, 1e-4), converged=np.ones(COUNT, bool))


def compared(table: Observations, fit: FitResult) -> Comparison:
    """The last rows of all runs, each held out once, predicted 1 % too high by one law and 2 % by another."""
    rows = np.flatnonzero(table.volumes("steps") == 32_000)
    measured = table.losses[rows]
    predicted = np.stack([1.01 * measured, 1.02 * measured])
    folds = np.arange(len(rows)) % FOLDS
    order = np.argsort(folds, kind="stable")
    return Comparison(
        laws=(fit.name, "<additive>"),
        targets=table.targets,
        level=0.9,
        grouped_by="runs",
        beyond="",
        group=np.full(FOLDS, 5.0),
        block=np.zeros(FOLDS, int),
        fold=folds[order],
        run=table.run[rows][order],
        mixture=order,
        model_size=np.ones(len(rows)),
        volume=np.full(len(rows), 32_000.0),
        outside=np.zeros(len(rows), bool),
        absent=np.zeros(measured.shape, bool),
        measured=measured[order],
        predicted=predicted[:, order],
        lower=predicted[:, order] * 0.97,
        upper=predicted[:, order] * 1.03,
        at_bound=np.zeros((2, FOLDS)),
        unconverged=np.zeros((2, FOLDS)),
    )
