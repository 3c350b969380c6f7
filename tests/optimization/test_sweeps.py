"""Best mixtures at many points are those of single searches; a front is one."""

import numpy as np
import pandas as pd
import pytest

import bimixjax
from bimixjax import Budget, InputError, Limits, Observations, fit, optimize, pareto, sweep

DOMAINS = ("a", "b", "c")


def table(sizes=(1e6,)) -> Observations:
    """Losses of three domains without noise; the best mixture moves with the volume, and with the size."""
    mixtures = np.random.default_rng(0).dirichlet(np.ones(3), 6)
    rows = []
    for size in sizes:
        for k, r in enumerate(mixtures):
            for tokens in (1e8, 1e9, 1e10):
                row = {"run": f"r{k}-{size:g}", "model_size": size, "tokens": tokens}
                for i, name in enumerate(DOMAINS):
                    height = (3e3 * (i + 1) / tokens**0.5 + 1 + 0.2 * i) * (size / 1e6) ** (-0.02 * i)
                    row |= {f"mixture/{name}": r[i], f"loss/{name}": height * (r[i] + 0.001) ** (-0.1 - 0.05 * i)}
                rows.append(row)
    return Observations.from_frame(pd.DataFrame(rows))


@pytest.mark.parametrize("law", ["bimix_offset", "bimix_transfer", "additive"])
def test_each_point_is_what_a_search_alone_finds(law):
    result = fit(law, table())
    volumes, limits = np.geomspace(1e8, 1e10, 5), Limits(upper={"b": 0.35})
    found = sweep(result, volume=volumes, limits=limits)
    assert found.converged.all()
    assert (found.of, found.unit) == ("volume", "tokens")
    for k, volume in enumerate(volumes):
        alone = optimize(result, budget=Budget(volume=volume, unit="tokens"), limits=limits)
        assert found.objective[k] == pytest.approx(alone.objective, abs=1e-9)
        assert found.proportions[k] == pytest.approx(alone.proportions, abs=1e-4)
        assert found.losses[k] == pytest.approx(alone.losses, abs=1e-4)


def test_epochs_bend_the_mixture_as_the_training_grows():
    result, stock = fit("bimix_offset", table()), bimixjax.Inventory({"c": 2e9})
    volumes = np.array([1e9, 4e9, 1e10])
    found = sweep(result, volume=volumes, limits=Limits(max_epochs=1.0), inventory=stock)
    assert found.epochs is not None
    assert found.epochs[:, 2] == pytest.approx(found.proportions[:, 2] * volumes / 2e9)
    assert found.epochs.max() <= 1 + 1e-9
    assert found.proportions[2, 2] == pytest.approx(0.2)
    assert found.proportions[0, 2] > 0.3


def test_a_sweep_of_model_sizes_is_of_each_of_them():
    result = fit("bimix_offset", table(sizes=(1e6, 1e7, 1e8)))
    found = sweep(result, model_size=[1e6, 1e7, 1e8], budget=Budget(volume=1e9))
    alone = optimize(result, budget=Budget(volume=1e9, model_size=1e7))
    assert found.objective[1] == pytest.approx(alone.objective, abs=1e-9)
    assert found.of == "model size"


def test_auto_is_followed_from_point_to_point():
    result = fit(bimixjax.Auto(members=("offset",)), table())
    found = sweep(result, volume=[3e8, 1e9, 3e9])
    assert found.converged.all()
    for k, volume in enumerate((3e8, 1e9, 3e9)):
        alone = optimize(result, budget=Budget(volume=volume))
        assert found.objective[k] <= alone.objective + 1e-7


@pytest.mark.parametrize("law", ["bimix_offset", "additive"])
def test_a_front_trades_one_loss_for_the_other_and_nothing_beats_it(law):
    result = fit(law, table())
    found = pareto(result, "c", "a", budget=Budget(volume=1e9), points=9, limits=Limits(lower={"b": 0.2}))
    first, second = found.targets.index("c"), found.targets.index("a")
    assert (np.diff(found.losses[:, first]) <= 1e-9).all()
    assert (np.diff(found.losses[:, second]) >= -1e-9).all()
    assert found.values[4] == pytest.approx(0.5)
    tried = np.random.default_rng(0).dirichlet(np.ones(3), 300)
    tried = 0.2 * np.eye(3)[1] + 0.8 * tried
    losses = np.asarray(result.predict(tried, 1e9))[:, [2, 0]]
    for w, loss in zip(found.values, found.losses[:, [first, second]], strict=True):
        assert (losses @ [w, 1 - w] >= loss @ [w, 1 - w] - 1e-9).all()


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda result: sweep(result), "give one of them"),
        (lambda result: sweep(result, volume=[1e9], model_size=[1e6]), "give one of them"),
        (lambda result: sweep(result, volume=[1e9, -1.0]), "volume is -1"),
        (lambda result: sweep(result, volume=[]), "volume has no value"),
        (lambda result: pareto(result, "a", "a", budget=Budget(volume=1e9)), "a front is of two targets"),
        (lambda result: pareto(result, "a", "z", budget=Budget(volume=1e9)), "unknown target 'z'"),
    ],
)
def test_what_is_no_sweep_is_named(ask, words):
    with pytest.raises(InputError, match=words):
        ask(fit("bimix_offset", table()))
