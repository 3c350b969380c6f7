"""The process against its definition, summed target by target."""

import dataclasses
from functools import cache

import numpy as np
import pytest

from bimixjax.planning import process
from bimixjax.planning.process import Constants, MeanLoss

CONSTANTS = Constants(
    slope_mean=0.05,
    slope=(0.02, 0.04),
    offset=0.01,
    source_mean=0.03,
    source=(0.03, 0.06),
    power=0.6,
    process=(0.03, 0.05),
    length=0.4,
    run=(0.01, 0.02),
    size_length=2.0,
)
OWN = np.array([0, 2, -1])
WEIGHTS = np.array([0.2, 0.5, 0.3])
SIZES = np.log([1.0, 1.0, 3.0, 3.0, 3.0])


def covariance(a, b):
    """Of log losses at two points (mixture, log size, target), by the formula of the module's page."""
    (r, s, t), (q, u, v) = a, b

    def phi(mixture, target):
        share = mixture[OWN[target]] if OWN[target] >= 0 else 1.0
        return np.log((1 + CONSTANTS.offset) / (share + CONSTANTS.offset))

    def part(pair):
        return pair[0] ** 2 + (t == v) * pair[1] ** 2

    hellinger = 1 - np.sqrt(r * q).sum()
    found = part(CONSTANTS.slope) * phi(r, t) * phi(q, v)
    found += part(CONSTANTS.source) * (r**CONSTANTS.power * q**CONSTANTS.power).sum()
    found += part(CONSTANTS.process) * np.exp(-hellinger / CONSTANTS.length**2)
    found *= np.exp(-abs(s - u) / CONSTANTS.size_length)
    return found + part(process._LEVEL) + (s == u) * part(process._SIZE_LEVEL)


@dataclasses.dataclass
class Oracle:
    """The same posterior of the mean loss, from one dense covariance."""

    points: list
    residual: np.ndarray
    inverse: np.ndarray
    scale: np.ndarray

    def mean(self, r, size):
        prior = self.scale @ process.mean(CONSTANTS, OWN, r)
        return prior + self.to_points(r, size) @ self.inverse @ self.residual

    def to_points(self, r, size):
        return np.array([sum(c * covariance((r, size, t), p) for t, c in enumerate(self.scale)) for p in self.points])

    def covariance(self, r, s, q, u):
        prior = sum(
            c * e * covariance((r, s, t), (q, u, v)) for t, c in enumerate(self.scale) for v, e in enumerate(self.scale)
        )
        return prior - self.to_points(r, s) @ self.inverse @ self.to_points(q, u)


@cache
def both():
    """Five runs of two sizes with one loss missing, as the process sees them and as the oracle does."""
    random = np.random.default_rng(0)
    runs, losses = random.dirichlet(np.full(4, 2.0), 5), np.exp(random.normal(1, 0.1, (5, 3)))
    losses[1, 2] = np.nan
    made = MeanLoss.of(runs, losses, OWN, WEIGHTS, CONSTANTS, SIZES, SIZES[-1])
    cells = [(i, t) for i in range(5) for t in range(3) if np.isfinite(losses[i, t])]
    points = [(runs[i], SIZES[i], t) for i, t in cells]
    dense = np.array([[covariance(a, b) for b in points] for a in points])
    for row, (i, t) in enumerate(cells):
        for column, (j, u) in enumerate(cells):
            noise = CONSTANTS.run[0] ** 2 + (t == u) * CONSTANTS.run[1] ** 2
            dense[row, column] += (i == j) * noise
    logs = np.log(losses)
    residual = np.array([logs[i, t] - np.nanmean(logs) - process.mean(CONSTANTS, OWN, runs[i])[t] for i, t in cells])
    scale = WEIGHTS * np.exp(np.nanmean(logs, axis=0))
    oracle = Oracle(points=points, residual=residual, inverse=np.linalg.inv(dense), scale=scale)
    return made, oracle, random.dirichlet(np.full(4, 2.0), 6)


def test_the_expected_mean_loss_is_that_of_the_dense_covariance():
    made, oracle, asked = both()
    np.testing.assert_allclose(made.expected(asked), [oracle.mean(r, SIZES[-1]) for r in asked], rtol=0, atol=2e-6)


def test_covariances_are_those_of_the_definition():
    made, oracle, asked = both()
    found = made.cross(asked, 0.5)
    np.testing.assert_allclose(found, [oracle.to_points(r, 0.5) for r in asked], rtol=1e-5)
    pair = made.between(asked[0], SIZES[0], asked[1], SIZES[-1])
    prior = sum(
        c * e * covariance((asked[0], SIZES[0], t), (asked[1], SIZES[-1], v))
        for t, c in enumerate(made.scale)
        for v, e in enumerate(made.scale)
    )
    assert pair == pytest.approx(prior, rel=1e-5)


def test_a_run_that_is_as_expected_moves_no_mean_and_narrows_what_is_open():
    made, _, asked = both()
    later = made.with_run(asked[0], SIZES[-1])
    np.testing.assert_allclose(later.expected(asked), made.expected(asked), rtol=1e-12)
    before, after = (
        one.between(asked[0], one.size, asked[0], one.size)
        - np.sum(np.linalg.solve(one.factor, one.cross(asked[:1], one.size)[0]) ** 2)
        for one in (made, later)
    )
    assert 0 <= after < 0.5 * before


def test_many_runs_of_a_smooth_law_are_interpolated():
    random = np.random.default_rng(1)
    runs, asked = random.dirichlet(np.ones(3), 40), random.dirichlet(np.full(3, 3.0), 20)

    def losses(r):
        return np.array([2.0, 3.0, 1.5]) * (r + 0.01) ** -0.1

    made = MeanLoss.of(runs, losses(runs), np.arange(3), np.full(3, 1 / 3), process.DOMAINS)
    expected, true = made.expected(asked), losses(asked).mean(axis=1)
    np.testing.assert_allclose(expected - expected.mean(), true - true.mean(), atol=0.02)
