"""The bootstrap of `auto`: its algebra against covariances written out, its resamples against full fits, its spread."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from scipy.optimize import least_squares

import bimixjax
from bimixjax import Auto, InputError, Observations, fitting
from bimixjax.auto.averaging import average
from bimixjax.auto.block import noise_of
from bimixjax.auto.donor import Donated, fit_stacks
from bimixjax.auto.grids import build_cells
from bimixjax.auto.law_values import log_law
from bimixjax.auto.member_fits import Stack
from bimixjax.auto.members import prior_of, relative_level
from bimixjax.auto.noise import Noise, NoiseCovariance
from bimixjax.auto.resampling import resample
from bimixjax.auto.reweight import reweigh, weighted_products
from bimixjax.estimation import AutoResampled
from bimixjax.fitting.resamples import Redraw

KEY, COUNT, RUNS = jax.random.key(5), 60, 8
STEPS = np.array([1000.0, 3000.0, 9000.0])
ONE, TWO = Auto(members=("offset",)), Auto(members=("offset", "transfer"))
POINTS = np.array([[0.25, 0.75], [0.5, 0.5], [0.7, 0.3]])


def truth(share: np.ndarray, step: np.ndarray | float) -> np.ndarray:
    return (share + 0.01) ** -0.07 * (2.0 + 1.5 * (step / 9000.0) ** -0.4)


def table(seed: int, runs: int = RUNS, level: float = 1.0) -> pd.DataFrame:
    """Two domains, one target, runs that err by about half a percent as a whole and rows by a tenth of that."""
    random = np.random.default_rng(seed)
    share, step = np.repeat(np.linspace(0.1, 0.9, runs), len(STEPS)), np.tile(STEPS, runs)
    noise = np.repeat(0.005 * random.standard_normal(runs), len(STEPS)) + 0.0005 * random.standard_normal(len(step))
    run = np.repeat([f"r{k}" for k in range(runs)], len(STEPS))
    loss = level * truth(share, step) * np.exp(noise)
    return pd.DataFrame({"run": run, "step": step, "mixture/x": share, "mixture/y": 1 - share, "loss/x": loss})


def observations(seed: int) -> Observations:
    return Observations.from_frame(table(seed))


def fitted(settings: Auto) -> list[Donated]:
    """What was fitted to the table above."""
    rows = observations(0)
    with jax.enable_x64(True):
        return fit_stacks(build_cells(rows, np.ones((1, len(rows))), "steps", ("x",)), settings)


def stack(settings: Auto = ONE) -> Stack:
    return fitted(settings)[0].stack


class Even(Redraw):
    """Every run counts as it does in the fit."""

    def counts(self, size: int, runs: int) -> jax.Array:
        return jnp.ones((self.count, runs))


@pytest.fixture(scope="module")
def found() -> AutoResampled:
    return bimixjax.bootstrap(TWO, observations(0), key=KEY, count=COUNT)


@pytest.fixture(scope="module")
def helped() -> AutoResampled:
    """A small model size with eight runs, which lends to a larger one with three."""
    small, large = table(0).assign(model_size=1e6), table(1, 3, 0.9).assign(model_size=1e7)
    frame = pd.concat([small, large.assign(run="large " + large["run"])], ignore_index=True)
    return bimixjax.bootstrap(ONE, Observations.from_frame(frame), key=KEY, count=COUNT)


class TestProducts:
    """Columns of rows with weights, against the covariance of the noise row by row."""

    noise = Noise(white=0.006, step=0.005, run=0.003, process=0.02, length=0.7)
    random = np.random.default_rng(0)
    mixture = random.dirichlet(np.ones(3), 5).T
    run_weight = random.exponential(size=(2, 5))
    mask = (random.random((5, 4)) > 0.3).astype(float)
    columns = random.normal(size=(4, 5, 3)) * mask.T[..., None]

    def covariance(self) -> NoiseCovariance:
        return NoiseCovariance.of(
            self.noise, self.mixture[..., None], self.run_weight.T[:, None] * self.mask[..., None]
        )

    def precision(self, b: int) -> np.ndarray:
        """S^-1 of all rows [m t, m t], zero where there is none."""
        root = np.sqrt(self.mixture + 1e-6)
        apart = ((root[:, :, None] - root[:, None]) ** 2).sum(0)
        process = self.process(apart) + (self.noise.run**2 + 1e-12) * np.eye(5)
        white = np.diag(self.noise.white**2 / np.repeat(self.run_weight[b], 4))
        whole = np.kron(process, np.ones((4, 4))) + np.kron(np.ones((5, 5)), self.noise.step**2 * np.eye(4)) + white
        there, found = np.flatnonzero(self.mask), np.zeros((20, 20))
        found[np.ix_(there, there)] = np.linalg.inv(whole[np.ix_(there, there)])
        return found

    def process(self, apart: np.ndarray) -> np.ndarray:
        return self.noise.process**2 * np.exp(-apart / (2 * self.noise.length**2))

    @pytest.mark.parametrize("b", [0, 1])
    def test_products_are_quadratic_forms(self, b: int) -> None:
        squares = np.einsum("tmi,tmj->imj", self.columns, self.columns)
        products = weighted_products(self.covariance(), self.columns, squares, self.run_weight)[b]
        x = self.columns.transpose(1, 0, 2).reshape(20, 3)
        np.testing.assert_allclose(products, x.T @ self.precision(b) @ x, rtol=1e-8, atol=1e-8)

    @pytest.mark.parametrize("b", [0, 1])
    def test_the_inverse_and_effects_of_residuals(self, b: int) -> None:
        """Effects are conditional means: covariances with the rows, times S^-1 x."""
        x = np.repeat(self.columns[..., 0].T[..., None], 2, axis=-1)
        inverse = (self.precision(b) @ x[..., b].ravel()).reshape(5, 4)
        alpha, step = (np.asarray(effect)[:, b] for effect in self.covariance().effects(x))
        np.testing.assert_allclose(np.asarray(self.covariance().inverse(x))[..., b], inverse, rtol=1e-7, atol=1e-7)
        root = np.sqrt(self.mixture + 1e-6)
        process = self.process(((root[:, :, None] - root[:, None]) ** 2).sum(0))
        np.testing.assert_allclose(process @ alpha, process @ inverse.sum(1), rtol=1e-7)
        np.testing.assert_allclose(step, self.noise.step**2 * inverse.sum(0), rtol=1e-7)


def test_weights_of_one_give_the_fit(found: AutoResampled) -> None:
    """As far as the fit had converged: it stops where a step promises a thousandth of a squared deviation."""
    with jax.enable_x64(True):
        same = resample(found.fit, fitted(TWO), Even(key=KEY, count=2))
    np.testing.assert_allclose(same.sizes[0].weights[0], found.fit.sizes[0].weights, rtol=1e-9)
    np.testing.assert_allclose(same.predict(POINTS, 9000.0)[0], found.fit.predict(POINTS, 9000.0), rtol=1e-5)


def test_resamples_are_full_fits_with_the_weights() -> None:
    """Of one member, by scipy with the noise's dense root: z, resample by resample, as far as its law is linear."""
    whole, random = stack(), np.random.default_rng(1)
    (member,), (fit,), rows = whole.members, whole.fits, whole.cells.rows(whole.lanes)
    weights = random.exponential(size=(40, RUNS))
    weights /= weights.mean(1, keepdims=True)
    moved = reweigh(whole, weights)
    prior = prior_of(member, 2, relative_level(whole.cells.center[0], whole.cells.own), whole.cells.own)

    def missed(z: jax.Array) -> jax.Array:
        points = jax.tree.map(lambda leaf: leaf[..., 0], rows.points())
        many = len(points.volume)
        packed = jnp.broadcast_to(prior.coefficients(z[:, None]), (len(z), many))
        own = np.broadcast_to(rows.own, many)
        found = log_law(member.law, packed, points.mixture, points.volume, own, points.donor)
        return jnp.asarray(rows.loss[..., 0] - found.reshape(rows.loss.shape[:2]))

    with jax.enable_x64(True):
        residual, slopes = jax.jit(missed), jax.jit(jax.jacfwd(missed))
        refits = np.stack([_refit(whole, w, residual, slopes, np.asarray(fit.fitted.z)[:, 0]) for w in weights])
    np.testing.assert_allclose(moved.z[0][..., 0].std(0), refits.std(0), rtol=0.15)
    assert np.max(np.abs(moved.z[0][..., 0] - refits).std(0) / refits.std(0)) < 0.2


def _refit(whole: Stack, weight, residual, slopes, start: np.ndarray) -> np.ndarray:
    noise, mask = noise_of(whole.members[0]), whole.cells.mask[0, :, :, 0]
    covariance = NoiseCovariance.of(noise, whole.cells.mixture[0][..., None], (weight[:, None] * mask)[..., None])
    there, rows = np.flatnonzero(mask), np.eye(mask.size).reshape(mask.size, *mask.shape)
    root = np.linalg.cholesky(
        np.stack([np.asarray(covariance.inverse(rows[i, ..., None])).ravel()[there] for i in there])
    ).T

    def whitened(z: np.ndarray) -> np.ndarray:
        return np.concatenate([root @ np.asarray(residual(z)).ravel()[there], z])

    def change(z: np.ndarray) -> np.ndarray:
        return np.concatenate([root @ np.asarray(slopes(z)).reshape(-1, len(z))[there], np.eye(len(z))])

    return least_squares(whitened, start, jac=change, xtol=1e-12, ftol=1e-12).x  # pyright: ignore[reportArgumentType]


def test_members_are_averaged_by_errors_with_the_weights() -> None:
    whole, weight = stack(TWO), np.random.default_rng(2).exponential(size=RUNS)
    cells = replace(whole.cells, mask=whole.cells.mask * weight[:, None, None])
    wanted = average(whole.members, whole.fits, cells, whole.lanes).weights
    np.testing.assert_allclose(reweigh(whole, weight[None]).weights[0], wanted, rtol=1e-9)


def test_the_same_key_gives_the_same_numbers_whatever_the_count(found: AutoResampled) -> None:
    again = bimixjax.bootstrap(TWO, observations(0), key=KEY, count=COUNT // 2)
    for one, other in zip(again.sizes[0].z, found.sizes[0].z, strict=True):
        np.testing.assert_allclose(one, other[: COUNT // 2], rtol=1e-9, atol=1e-9)
    other = bimixjax.bootstrap(ONE, observations(0), key=jax.random.key(6), count=2)
    assert np.max(np.abs(other.sizes[0].z[0] - found.sizes[0].z[0][:2])) > 1e-3


def test_one_resample_is_a_fit_of_its_own(found: AutoResampled) -> None:
    losses = found.predict(POINTS, 3000.0)
    assert losses.shape == (COUNT, 3, 1)
    np.testing.assert_allclose(found.resample(7).predict(POINTS, 3000.0), losses[7], rtol=1e-12)
    np.testing.assert_allclose(found.predict(POINTS[0], STEPS)[:, 1], losses[:, 0], rtol=1e-12)


def test_intervals_and_errors_are_those_of_the_resamples(found: AutoResampled) -> None:
    losses = found.predict(POINTS, 9000.0)
    lower, upper = found.interval(POINTS, 9000.0, level=0.5)
    assert np.mean((losses >= lower) & (losses <= upper)) == pytest.approx(0.5, abs=0.02)
    errors = found.standard_errors["offset"]
    assert set(errors) == {"B", "C", "beta", "alpha", "eps"}
    np.testing.assert_allclose(errors["alpha"], found.coefficients["offset"]["alpha"].std(0, ddof=1))
    np.testing.assert_allclose(sum(found.members.values()), 1.0)


def test_coefficients_are_those_of_the_law_at_the_largest_volume(found: AutoResampled) -> None:
    """C (r + e)^-alpha at endless volume is 2 (r + .01)^-.07 here; its terms are in nats per token."""
    named = {name: float(np.median(values)) for name, values in found.coefficients["offset"].items()}
    share = np.array([0.2, 0.8])
    law = (share + named["eps"]) ** -named["alpha"] * (named["B"] + named["C"])
    np.testing.assert_allclose(law, truth(share, 9000.0), rtol=0.02)


def test_the_spread_is_that_of_fresh_data() -> None:
    """Standard deviations of predictions over tables with other noise, and how many intervals hold the truth."""
    each = [bimixjax.bootstrap(ONE, observations(seed), key=KEY, count=COUNT) for seed in range(12)]
    fresh = np.std([np.log(one.fit.predict(POINTS, 9000.0)) for one in each], axis=0, ddof=1)
    resampled = np.mean([np.log(one.predict(POINTS, 9000.0)).std(0) for one in each], axis=0)
    assert np.all((resampled > 0.4 * fresh) & (resampled < 2 * fresh))
    wanted = truth(POINTS[:, 0], 9000.0)[:, None]
    limits = [one.interval(POINTS, 9000.0) for one in each]
    assert 0.5 < np.mean([(lower < wanted) & (wanted < upper) for lower, upper in limits]) <= 1.0


def test_a_size_that_is_lent_losses_is_resampled_with_them_held(helped: AutoResampled) -> None:
    large = helped.fit.at(1e7)
    lower, upper = helped.interval(POINTS, 9000.0, 1e7)
    predicted = np.asarray(large.predict(POINTS, 9000.0))
    assert np.all((lower < predicted) & (predicted < upper))
    lent = [large.sizes[0].lent, helped.resample(3).at(1e7).sizes[0].lent]
    for one, other in zip(*map(jax.tree.leaves, lent), strict=True):
        np.testing.assert_array_equal(one, other)
    assert np.isnan(helped.coefficients["donor"]["slope"][:, 0]).all()
    assert np.isfinite(helped.coefficients["donor"]["slope"][:, 1]).all()
    assert not helped.members["donor"][:, 0].any()


def test_missing_losses_are_masked_in_resamples_too() -> None:
    frame = table(0).assign(**{"loss/y": np.flip(table(3)["loss/x"]), "loss/z": np.nan})
    frame.loc[[0, 4, 5], "loss/y"] = np.nan
    found = bimixjax.bootstrap(ONE, Observations.from_frame(frame), key=KEY, count=4)
    losses = found.predict(POINTS, 9000.0)
    assert np.isfinite(losses[..., :2]).all()
    assert np.isnan(losses[..., 2]).all()
    assert np.isnan(found.standard_errors["offset"]["alpha"][2])


def test_bad_input_is_refused(found: AutoResampled) -> None:
    with pytest.raises(InputError, match="count is 1; allowed: at least 2"):
        bimixjax.bootstrap(ONE, observations(0), key=KEY, count=1)
    with pytest.raises(InputError, match="auto takes no weights"):
        bimixjax.bootstrap("auto", observations(0), key=KEY, weights={"r0": 2.0})
    with pytest.raises(InputError, match="level is 0"):
        found.interval(POINTS, 9000.0, level=0)
    with pytest.raises(InputError, match="say which with volume"):
        found.predict(POINTS)


def test_a_single_law_is_handed_on() -> None:
    found = bimixjax.bootstrap("bimix", observations(0), key=KEY, count=3, priors=False)
    single = fitting.bootstrap("bimix", observations(0), key=KEY, count=3, priors=False)
    np.testing.assert_array_equal(found.values, single.values)
    np.testing.assert_allclose(found.resample(1).predict(POINTS, 9000.0), found.predict(POINTS, 9000.0)[1], rtol=1e-12)
    assert len(found) == 3


def test_runs_are_drawn_with_replacement() -> None:
    """As many as there are, other ones in each resample and size, each as often as any other."""
    counts = np.asarray(Redraw(key=KEY, count=2000).counts(0, RUNS))
    assert (counts.sum(1) == RUNS).all()
    np.testing.assert_allclose(counts.mean(0), 1.0, atol=0.1)
    np.testing.assert_allclose(counts.var(0), 1 - 1 / RUNS, atol=0.15)
    np.testing.assert_array_equal(Redraw(key=KEY, count=3).counts(0, RUNS), counts[:3])
    assert (np.asarray(Redraw(key=KEY, count=3).counts(1, RUNS)) != counts[:3]).any()


def test_a_run_that_is_not_drawn_has_no_say(found: AutoResampled) -> None:
    """Its losses may be anything: resamples without it move as if it were not there, from the same slopes."""
    whole, weight = stack(), np.ones((1, RUNS))
    weight[0, 2] = 1e-9
    loss = whole.cells.loss.copy()
    loss[0, 2] += 0.5
    moved = [
        reweigh(replace(whole, cells=replace(whole.cells, loss=each)), weight) for each in (whole.cells.loss, loss)
    ]
    np.testing.assert_allclose(moved[0].z[0], moved[1].z[0], atol=1e-4)
