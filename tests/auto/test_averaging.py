"""`auto` says nothing absurd: finite and near what was measured at any mixture, and not led by rows that went wrong."""

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

import bimixjax
from bimixjax import AutoFit, Observations
from bimixjax.auto.averaging import sane

DOMAINS, TARGETS = ("web", "books", "code"), ("web", "task")
# No prediction is further outside the fitted log losses: where a member keeps its weight, and the most that one adds
# while it loses it.
FURTHEST = 0.7 + 0.2 * np.exp(-0.5)
CORNERS = np.eye(3)


def table(mixtures: np.ndarray, losses: np.ndarray, steps: tuple[float, ...] | None = None) -> Observations:
    """Losses [m, t, T] of runs at steps, or [m, T] of one volume."""
    count = 1 if steps is None else len(steps)
    frame = pd.DataFrame({"run": [f"run{i}" for i in range(len(mixtures)) for _ in range(count)]})
    if steps is not None:
        frame["step"] = np.tile(steps, len(mixtures))
    shares, values = np.repeat(mixtures, count, axis=0), losses.reshape(len(frame), -1)
    for i, domain in enumerate(DOMAINS):
        frame[f"mixture/{domain}"] = shares[:, i]
    for i, target in enumerate(TARGETS[: values.shape[1]] if values.shape[1] < 3 else DOMAINS):
        frame[f"loss/{target}"] = values[:, i]
    return Observations.from_frame(frame)


def some_mixtures(seed: int) -> np.ndarray:
    """Spread evenly, peaked, and the corners."""
    random = np.random.default_rng(seed)
    return np.concatenate([random.dirichlet(np.ones(3), 40), random.dirichlet(np.full(3, 0.05), 40), CORNERS])


def assert_believable(fit: AutoFit, observations: Observations, mixtures: np.ndarray) -> None:
    predicted = np.asarray(fit.predict(mixtures))
    lower, upper = (np.asarray(end) for end in fit.interval(mixtures))
    assert np.isfinite(predicted).all()
    assert np.isfinite(upper).all()
    assert (lower > 0).all()
    assert ((lower <= predicted) & (predicted <= upper)).all()
    logs = np.log(observations.losses)
    assert (np.log(predicted) > np.nanmin(logs, axis=0) - FURTHEST - 0.05).all()
    assert (np.log(predicted) < np.nanmax(logs, axis=0) + FURTHEST + 0.05).all()


@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(
    runs=st.integers(1, 4),
    seed=st.integers(0, 2**32 - 1),
    spread=st.sampled_from([0.0, 1e-6, 0.01, 0.3, 1.5]),
    level=st.sampled_from([0.05, 1.0, 3.0, 500.0]),
    concentration=st.sampled_from([0.05, 1.0, 50.0]),
)
def test_any_table_gives_finite_predictions_near_its_losses(
    runs: int, seed: int, spread: float, level: float, concentration: float
) -> None:
    """Few runs anywhere on the simplex, with losses that follow no law; one target is a domain, one is not."""
    random = np.random.default_rng(seed)
    mixtures = random.dirichlet(np.full(3, concentration), runs)
    observations = table(mixtures, level * np.exp(spread * random.standard_normal((runs, 2))))
    assert_believable(bimixjax.fit("auto", observations), observations, some_mixtures(seed))


def test_eight_runs_of_two_kinds_give_no_absurd_loss() -> None:
    """Losses near 8.5 or near 12, whatever the mixture: a law that goes through them all grows without end."""
    random = np.random.default_rng(4)
    mixtures = random.dirichlet(np.ones(3), 8)
    losses = np.column_stack([np.where(np.arange(8) % 2, 8.5, 12.0), np.full(8, 8.0)]) * random.uniform(
        0.97, 1.03, (8, 2)
    )
    observations = table(mixtures, losses)
    fit = bimixjax.fit("auto", observations)
    for seed in range(3):
        assert_believable(fit, observations, some_mixtures(seed))
    best = bimixjax.optimize(fit)
    assert best.objective <= np.asarray(fit.predict(some_mixtures(0))).mean(1).min() + 1e-6


def test_losses_that_mixtures_say_nothing_of_are_predicted_nearly_as_by_their_mean() -> None:
    """Noise of 5 % about one level: laws alone have 1.4 times the error of the mean of the runs."""
    laws = bimixjax.Auto(members=tuple(name for name in bimixjax.Auto().members if name != "mean"))
    errors = []
    for seed in range(20):
        random = np.random.default_rng(seed)
        losses = 3.0 * np.exp(0.05 * random.standard_normal((4, 2)))
        observations = table(random.dirichlet(np.ones(3), 4), losses)
        measured = 3.0 * np.exp(0.05 * random.standard_normal((50, 2)))
        where = random.dirichlet(np.ones(3), 50)
        found = [np.asarray(bimixjax.fit(law, observations).predict(where)) for law in ("auto", laws)]
        errors.append([np.abs(each - measured).mean() for each in (*found, losses.mean(0))])
    auto, alone, mean = np.mean(errors, axis=0)
    assert alone > 1.3 * mean
    assert auto < 1.2 * mean


def test_one_run_has_no_cross_validation_error() -> None:
    observations = table(np.array([[0.2, 0.3, 0.5]]), np.array([[3.0, 2.5]]))
    fit = bimixjax.fit(bimixjax.Auto(members=("offset", "mean")), observations)
    assert all("one run, laws weighed by their priors" in sentence for sentence in fit.sentences)
    assert not any("cross-validation" in sentence for sentence in fit.sentences)


def test_members_lose_their_weight_smoothly_and_the_mean_of_the_runs_takes_it() -> None:
    names, weights = ("law", "other", "mean"), np.array([0.7, 0.2, 0.1])
    fitted = np.array([-0.1, 0.1])
    for off, kept in ((0.8, 1.0), (1.0, np.exp(-0.5)), (-1.2, np.exp(-2.0)), (400.0, 0.0)):
        found = sane(names, weights, np.array([off, 0.0, 0.0]), fitted)
        np.testing.assert_allclose(found.weights, [0.7 * kept, 0.2, 0.1 + 0.7 * (1 - kept)], atol=1e-12)
        np.testing.assert_allclose(found.doubt, 0.7 * (1 - kept) * 0.3**2, atol=1e-12)
    without_mean = sane(names[:2], np.array([0.7, 0.3]), np.array([9.0, 2.0]), fitted)
    np.testing.assert_allclose(without_mean.weights, [0.0, 1.0], atol=1e-12)
    with jax.enable_x64(True):
        slope = jax.grad(lambda x: sane(names, jnp.asarray(weights), jnp.array([x, 0.0, 0.0]), fitted).weights[0])
        assert np.isfinite([float(slope(x)) for x in (-1e6, -1.0, 0.0, 0.8, 1e6)]).all()


def test_members_in_epochs_that_predict_harm_are_not_replaced_by_the_mean_of_the_runs() -> None:
    names, weights = ("offset_epochs", "offset", "mean"), np.array([0.5, 0.3, 0.2])
    fitted = np.array([-0.1, 0.1])
    found = sane(names, weights, np.array([3.8, 0.0, 0.0]), fitted)
    np.testing.assert_allclose(found.weights, weights)
    np.testing.assert_allclose(found.means, [0.8 + 0.2 * np.log(16.0), 0.0, 0.0])
    assert found.doubt == 0.0
    within, below = (sane(names, weights, np.array([one, 0.0, 0.0]), fitted) for one in (0.8, -9.0))
    np.testing.assert_array_equal(within.means, [0.8, 0.0, 0.0])
    np.testing.assert_allclose(below.weights, [0.0, 0.3, 0.7], atol=1e-12)


STEPS = (2_000.0, 4_000.0, 8_000.0, 16_000.0, 32_000.0)


def clean() -> tuple[np.ndarray, np.ndarray]:
    """Mixtures [8, 3] and losses [8, 5, 3] of a BiMix law with noise of .3 %."""
    random = np.random.default_rng(7)
    mixtures = random.dirichlet([3.0, 3.0, 3.0], 8)
    volume = 30.0 / np.sqrt(np.array(STEPS))[:, None] + np.array([2.8, 2.4, 1.0])
    losses = mixtures[:, None] ** -np.array([0.05, 0.10, 0.15]) * volume
    return mixtures, losses * np.exp(0.003 * random.standard_normal(losses.shape))


@pytest.fixture(scope="module")
def clean_fit() -> AutoFit:
    return bimixjax.fit("auto", table(*clean(), STEPS))


def test_a_run_that_diverged_does_not_choose_the_mixture(clean_fit: AutoFit) -> None:
    """Three rows of one run at a loss of 9: they get no weight, a note names them, and the mixture stays as it was."""
    mixtures, losses = clean()
    losses[6, 2:] = 9.0
    fit = bimixjax.fit("auto", table(mixtures, losses, STEPS))
    np.testing.assert_array_equal(fit.rows, [37] * 3)
    (note,) = fit.notes
    assert "run6 (3 of its 5 rows, at 8000, 16000, 32000 steps)" in note
    budget = bimixjax.Budget(volume=STEPS[-1])
    wanted, found = (bimixjax.optimize(each, budget=budget) for each in (clean_fit, fit))
    regret = np.asarray(clean_fit.predict(found.proportions, volume=STEPS[-1])).mean() - wanted.objective
    assert regret < 0.003


@pytest.mark.slow
def test_a_run_that_is_wrong_from_its_start_gets_no_weight() -> None:
    mixtures, losses = clean()
    losses[2] *= 1.6
    fit = bimixjax.fit("auto", table(mixtures, losses, STEPS))
    assert "run2 (all its rows: 5)" in fit.notes[0]
    np.testing.assert_array_equal(fit.rows, [35] * 3)


def test_clean_runs_keep_their_weight(clean_fit: AutoFit) -> None:
    """So does a run at a corner, whose losses are far from those of the others but on the same law."""
    assert not clean_fit.notes
    mixtures, _ = clean()
    mixtures[0] = [0.002, 0.008, 0.99]
    volume = 30.0 / np.sqrt(np.array(STEPS))[:, None] + np.array([2.8, 2.4, 1.0])
    far = bimixjax.fit("auto", table(mixtures, mixtures[:, None] ** -np.array([0.05, 0.10, 0.15]) * volume, STEPS))
    assert not far.notes
    np.testing.assert_array_equal(far.rows, [40] * 3)


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ((), "auto has no member"),
        (("offset", "offset"), "auto has member 'offset' more than once"),
        (("donor",), "unknown member 'donor' in auto"),
    ],
)
def test_members_are_named_once(members: tuple[str, ...], said: str) -> None:
    """A donor is no member to ask for: it is added where a smaller model size has more mixtures."""
    with pytest.raises(bimixjax.InputError, match=said):
        bimixjax.Auto(members=members)
