"""Refits under transforms, against finite differences of fits and against fits without a run."""

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

import bimixjax
from bimixjax import Budget, Observations, refit
from bimixjax._base.checks import InputError
from bimixjax.fitting import Criterion, Refit

RUNS, STEPS = 6, np.array([1000.0, 3000.0, 9000.0, 27000.0])


def observations(*, missing: bool = False) -> Observations:
    random = np.random.default_rng(3)
    share = random.dirichlet(np.ones(3), RUNS)
    columns = {"run": np.repeat(list("abcdef"), len(STEPS)), "step": np.tile(STEPS, RUNS)}
    columns |= {f"mixture/{d}": np.repeat(share[:, i], len(STEPS)) for i, d in enumerate("xyz")}
    for i, domain in enumerate("xyz"):
        loss = (share[:, i : i + 1] + 0.02) ** -0.15 * (1.5 + 2 * (STEPS / 1000) ** -0.4)
        columns[f"loss/{domain}"] = (loss * np.exp(0.01 * random.standard_normal(loss.shape))).ravel()
    if missing:
        columns["loss/y"][5] = np.nan
    return Observations.from_frame(pd.DataFrame(columns))


# All tests but one compile the same two programs.
PLAIN = {"volume": "steps", "priors": False, "criterion": Criterion(residual="absolute")}
CASES = {"absolute, a loss missing": PLAIN, "huber, priors": {"volume": "steps", "criterion": Criterion(huber=0.01)}}


@pytest.fixture(scope="module", params=CASES, ids=list(CASES))
def again(request: pytest.FixtureRequest) -> Refit:
    return refit("bimix", observations(missing="missing" in request.param), **CASES[request.param])


def predicted(fit: bimixjax.FitResult) -> jax.Array:
    """A number that reads all coefficients."""
    return jnp.sum(fit.predict(jnp.array([0.2, 0.3, 0.5]), 60000.0) * jnp.array([1.0, 2.0, 3.0]))


def difference(function, at: np.ndarray, way: np.ndarray, step: float) -> float:
    return (float(function(at + step * way)) - float(function(at - step * way))) / (2 * step)


def test_slopes_by_losses_and_weights(again: Refit) -> None:
    random = np.random.default_rng(0)
    way = np.where(np.isfinite(again.losses), random.standard_normal(again.losses.shape), 0.0)
    of_rows, ones = random.standard_normal(len(way)), np.ones(len(way))
    with jax.enable_x64(True):
        wanted = difference(lambda y: predicted(again(y)), again.losses, way, 1e-4)
        by_weight = difference(lambda w: predicted(again(weights=w)), ones, of_rows, 1e-4)
        # Losses missing have no slope.
        slopes = np.nan_to_num(np.asarray(jax.grad(lambda y: predicted(again(y)))(again.losses)))
        by_weights = np.asarray(jax.grad(lambda w: predicted(again(weights=w)))(ones))
    np.testing.assert_allclose(np.sum(slopes * way), wanted, rtol=1e-5)
    np.testing.assert_allclose(by_weights @ of_rows, by_weight, rtol=1e-5, atol=1e-7)
    # The caller's numbers are of 32 bits where nothing else is asked for.
    narrow = jax.grad(lambda y: predicted(again(y)))(jnp.asarray(np.nan_to_num(again.losses, nan=1.0)))
    assert narrow.dtype == jnp.float32
    np.testing.assert_allclose(narrow, slopes, rtol=1e-3, atol=1e-5 * np.abs(slopes).max())


def test_a_refit_is_the_fit_of_other_losses() -> None:
    """Of a law that fixes a coefficient of the target's own domain; of another one where losses are traced."""
    fixed, again = refit("bimix_transfer", observations(), volume="steps"), refit("bimix", observations(), **PLAIN)
    with jax.enable_x64(True):
        np.testing.assert_allclose(fixed().values, fixed.fit.values, rtol=1e-5, atol=1e-7)
        compiled = jax.jit(lambda y: again(y).values)(again.losses * 1.01)
        np.testing.assert_allclose(compiled, again(again.losses * 1.01).values, rtol=1e-7, atol=1e-9)


def test_coefficients_at_a_bound_stay() -> None:
    """Losses that do not depend on the volume leave nothing for B."""
    frame = observations().to_frame()
    for domain in "xyz":
        frame[f"loss/{domain}"] = (frame[f"mixture/{domain}"] + 0.02) ** -0.15 * (1 + 0.01 * (frame["step"] / 27000))
    again = refit("bimix", Observations.from_frame(frame), **PLAIN)
    place = again.fit.names.index("B")
    assert again.fit.at_bound[:, place].all()
    with jax.enable_x64(True):
        slopes = np.asarray(jax.jacrev(lambda y: again(y).values)(again.losses))
    assert np.isfinite(slopes).all()
    assert np.all(slopes[:, place] == 0)
    assert np.abs(slopes).max() > 0


def test_slopes_through_the_best_mixture() -> None:
    """Of a law alone, from losses to the exact optimum; compared with searches on other losses."""
    again, zero, one = refit("bimix", observations(), **PLAIN), np.zeros(3), np.ones(3)

    def best(losses: jax.Array) -> jax.Array:
        goal = bimixjax.objective(again(losses), budget=Budget(volume=27000.0, unit="steps"))
        return goal.optimal_proportions(zero, one)[0]

    way = np.random.default_rng(1).standard_normal(again.losses.shape)
    with jax.enable_x64(True):
        slopes = jax.grad(best)(jnp.asarray(again.losses))
        wanted = difference(best, again.losses, way, 1e-4)
    np.testing.assert_allclose(np.sum(np.asarray(slopes) * way), wanted, rtol=1e-5)


def test_influence_is_what_leaving_a_run_out_changes() -> None:
    table = observations()
    again = refit("bimix", table, **PLAIN)
    found = again.influence(predicted)
    assert list(found) == list("abcdef")
    estimate, measured = [], []
    for run, change in found.items():
        kept = (table.run != run).astype(float)
        estimate.append(float(change))
        measured.append(float(predicted(again(weights=kept)) - predicted(again.fit)))
    # First order: the same runs matter, by about as much.
    assert np.corrcoef(estimate, measured)[0, 1] > 0.95
    assert np.argmax(np.abs(estimate)) == np.argmax(np.abs(measured))


def test_other_shapes_are_refused() -> None:
    again = refit("bimix", observations(), **PLAIN)
    with pytest.raises(InputError, match=r"got losses \[3, 3\]"):
        again(np.ones((3, 3)))
