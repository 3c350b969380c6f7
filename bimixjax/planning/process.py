"""A joint Gaussian process over targets: what a few runs say of the mean loss of any other mixture.

The log loss of target t at mixture r and model size N is modeled as

    z_t(r, N) = level_t(N) + a_t phi(r_o) + sum_j b_tj r_j^q + f_t(r) + noise,    phi(x) = -log(x + e) + log(1 + e)

with o the domain whose name t bears (without one, phi is 0), and f a process of the Hellinger distance
h^2 = 1 - sum_j sqrt(r_j r'_j) with covariance exp(-h^2 / l^2). Each of level, a, b, f and the noise of a run is the sum
of a part that all targets share and a part of the target's own, independent and Gaussian. The mean of a is above 0 and
that of b below 0: from few runs the process prefers mixtures that leave no target's own domain out, and mixed ones.
Between model sizes, all but the level and the noise has the correlation exp(-|log N - log N'| / m).

The mean loss is taken to first order in z, J = sum_t c_t z_t with c_t = w_t times the geometric mean of the losses of t
measured: so J is one Gaussian process, in the unit of the losses.
"""

import dataclasses
from typing import Self

import numpy as np
from jaxtyping import Bool, Complex, Float
from scipy import linalg

# A part that all targets share, and one of each target: standard deviations in log loss.
Pair = tuple[float, float]
Points = Float[np.ndarray, "*n d"] | Complex[np.ndarray, "*n d"]

# Added to shares before roots and powers are taken, whose slopes at 0 have no bound.
_OFF_ZERO = 1e-6
# Wide: levels are measured, not known. The first is that of all targets, in whatever unit losses are.
_LEVEL: Pair = (3.0, 1.0)
# Of the size of a level that differs between model sizes.
_SIZE_LEVEL: Pair = (0.3, 0.1)
# Added to the diagonal, far below any noise of a loss.
_JITTER = 1e-10


@dataclasses.dataclass(frozen=True, kw_only=True)
class Constants:
    """What the process assumes before any run.

    Attributes:
        slope_mean, slope: of a, the slope by phi of a target's own share.
        offset: e of phi.
        source_mean, source: of -b, what any domain brings to any target.
        power: q.
        process: standard deviations of f.
        length: l.
        run: of the noise of a run.
        size_length: m.
    """

    slope_mean: float
    slope: Pair
    offset: float
    source_mean: float
    source: Pair
    power: float
    process: Pair
    length: float
    run: Pair
    # The likelihood of 70M to 410M parameters in pile_5groups and pile_3domains rises up to here, and is flat beyond.
    size_length: float = 100.0

    def alternatives(self) -> tuple["Constants", ...]:
        """Return the constants among which losses of tasks decide: these, and with other powers q of shares.

        By how much mixed mixtures lose less than plain ones differs from one set of tasks to another, and the power
        of greatest likelihood on some (.2) keeps a plan from ever trying the best run of another.
        """
        return self, *(dataclasses.replace(self, power=power) for power in _POWERS)


# Beside the power of tasks learned from tables, to that of domains: chosen by experiments/planning on draws 0 to 9.
_POWERS = (0.4, 0.7)

# Learned from eight public tables by experiments/planning/constants.py: where targets are domains, and where none is.
DOMAINS = Constants(
    slope_mean=0.042,
    slope=(0.0085, 0.04),
    offset=0.00031,
    source_mean=0.098,
    source=(0.014, 0.064),
    power=0.8,
    process=(0.014, 0.037),
    length=0.28,
    run=(0.0015, 0.0067),
)
TASKS = Constants(
    slope_mean=0.05,
    slope=(0.02, 0.04),
    offset=0.002,
    source_mean=0.054,
    source=(0.034, 0.15),
    power=0.2,
    process=(0.019, 0.039),
    length=0.29,
    run=(0.0015, 0.0064),
)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class MeanLoss:
    """The mean loss J of any mixture given the runs so far; `MeanLoss.of` makes one.

    Attributes:
        constants: what was assumed.
        own: for each target, the column of the domain whose name it bears, or -1 [t].
        scale: c_t [t].
        size: log of the model size N at which mixtures are judged.
        runs: mixtures of the runs [n, d].
        sizes: logs of their model sizes [n].
        seen: which of their losses there are [n, t].
        factor: the Cholesky factor of the covariance of the losses seen [s, s].
        alpha: the inverse covariance times their deviations from the mean [s].
    """

    constants: Constants
    own: np.ndarray
    scale: Float[np.ndarray, " t"]
    size: float
    runs: Float[np.ndarray, "n d"]
    sizes: Float[np.ndarray, " n"]
    seen: Bool[np.ndarray, "n t"]
    factor: Float[np.ndarray, "s s"]
    alpha: Float[np.ndarray, " s"]

    @classmethod
    def of(
        cls,
        runs: Float[np.ndarray, "n d"],
        losses: Float[np.ndarray, "n t"],
        own: np.ndarray,
        weights: Float[np.ndarray, " t"],
        constants: Constants,
        sizes: Float[np.ndarray, " n"] | None = None,
        size: float = 0.0,
    ) -> Self:
        """Condition on the losses of runs, above 0, NaN where missing; each target has one somewhere."""
        logs, seen = np.log(losses), np.isfinite(losses)
        scale = weights * np.exp(np.nanmean(logs, axis=0))
        sizes = np.full(len(runs), size) if sizes is None else sizes
        none = {"factor": np.zeros((0, 0)), "alpha": np.zeros(0)}
        here = cls(
            constants=constants, own=own, scale=scale, size=size, runs=runs, sizes=sizes, seen=seen, **none
        )._factored()
        # Deviations from the mean of all: the wide level takes up what is left.
        rest = (logs - np.nanmean(logs) - here.prior_mean(runs))[seen]
        return dataclasses.replace(here, alpha=linalg.cho_solve((here.factor, True), rest))

    def _factored(self) -> Self:
        covariance = covariances(self.constants, self.own, self.runs, self.sizes)
        flat = self.seen.ravel()
        square = covariance.reshape(len(flat), len(flat))[np.ix_(flat, flat)]
        factor = linalg.cholesky(square + _JITTER * np.eye(len(square)), lower=True)
        return dataclasses.replace(self, factor=factor)

    def with_run(self, mixture: Float[np.ndarray, " d"], size: float) -> Self:
        """Condition on a run whose losses are as expected: J is as it was, but better known."""
        runs, sizes = np.vstack([self.runs, mixture]), np.append(self.sizes, size)
        seen = np.vstack([self.seen, np.ones((1, len(self.own)), bool)])
        # Residuals of 0 given the others add zeros to the inverse covariance times residuals.
        alpha = np.append(self.alpha, np.zeros(len(self.own)))
        return dataclasses.replace(self, runs=runs, sizes=sizes, seen=seen, alpha=alpha)._factored()

    @property
    def evidence(self) -> float:
        """The log likelihood of the losses seen, per target, up to a constant.

        Per target, since constants err in all of them alike: losses of many targets are no more evidence for these
        than those of one.
        """
        whitened = self.factor.T @ self.alpha
        return float(-(whitened @ whitened) / 2 - np.log(np.diag(self.factor)).sum()) / len(self.own)

    def prior_mean(self, mixtures: Points) -> np.ndarray:
        """Return the mean of z before any run, but for the level [..., t]."""
        return mean(self.constants, self.own, mixtures)

    def cross(self, mixtures: Points, size: float) -> np.ndarray:
        """Return the covariance of J at mixtures [m, d] and one size with the losses seen [m, s]."""
        to_all = self._covariance(mixtures[:, None], size, self.runs[None], self.sizes)
        return to_all.reshape(len(mixtures), -1)[:, self.seen.ravel()]

    def expected(self, mixtures: Float[np.ndarray, "m d"]) -> Float[np.ndarray, " m"]:
        """Return the mean of J, up to a constant [m]."""
        return self.prior_mean(mixtures) @ self.scale + self.cross(mixtures, self.size) @ self.alpha

    def between(self, left: Points, left_size: float, right: Points, right_size: float) -> np.ndarray:
        """Return the covariance, before any run, of J at pairs of mixtures and sizes [...]."""
        return self._covariance(left, left_size, right, np.asarray(right_size)) @ self.scale

    def _covariance(self, left: Points, size: float, right: Points, sizes: np.ndarray) -> np.ndarray:
        """Return Cov(J(left, size), z_t(right, sizes)) [..., t]; axes before the domains broadcast."""
        of_all, of_own, rho = _parts(self.constants, left, right, np.abs(size - sizes))
        phi, other = phis(self.constants, self.own, left), phis(self.constants, self.own, right)
        shared, alone = (deviation**2 for deviation in self.constants.slope)
        # Shared parts count with the sum of all c, own parts with that of the target.
        constant = of_all[..., None] * self.scale.sum() + of_own[..., None] * self.scale
        slopes = (phi @ self.scale)[..., None] * other * shared + self.scale * phi * other * alone
        return constant + np.asarray(rho)[..., None] * slopes

    def noise(self) -> float:
        """Return the variance of the mean loss of a run around J."""
        shared, alone = (deviation**2 for deviation in self.constants.run)
        return float(shared * self.scale.sum() ** 2 + alone * (self.scale**2).sum())


def phis(constants: Constants, own: np.ndarray, mixtures: Points) -> np.ndarray:
    """Return phi of each target's own share [..., t], 0 for a target that is no domain."""
    shares = mixtures[..., np.maximum(own, 0)]
    phi = np.log(1 + constants.offset) - np.log(shares + constants.offset)
    return np.where(own >= 0, phi, 0.0)


def mean(constants: Constants, own: np.ndarray, mixtures: Points) -> np.ndarray:
    """Return the mean of z before any run, but for the level [..., t]."""
    variety = np.sum((mixtures + _OFF_ZERO) ** constants.power, axis=-1)
    return constants.slope_mean * phis(constants, own, mixtures) - constants.source_mean * variety[..., None]


def covariances(
    constants: Constants, own: np.ndarray, runs: Float[np.ndarray, "n d"], sizes: Float[np.ndarray, " n"]
) -> Float[np.ndarray, "n t n t"]:
    """Return the covariance of the losses of runs, with their noise, before any is known."""
    of_all, of_own, rho = _parts(constants, runs[:, None], runs[None], np.abs(sizes[:, None] - sizes))
    same = np.eye(len(runs))
    of_all, of_own = of_all + constants.run[0] ** 2 * same, of_own + constants.run[1] ** 2 * same
    phi, targets = phis(constants, own, runs), np.eye(len(own))
    shared, alone = (deviation**2 for deviation in constants.slope)
    slopes = np.einsum("ij,it,ju,tu->itju", rho, phi, phi, shared + alone * targets, optimize=True)
    return of_all[:, None, :, None] + of_own[:, None, :, None] * targets[:, None] + slopes


def _parts(
    constants: Constants, left: Points, right: Points, apart: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the covariance that all targets share, and a target's own beside it, without slopes; and rho."""
    a, b = left + _OFF_ZERO, right + _OFF_ZERO
    source = np.sum(a**constants.power * b**constants.power, axis=-1)
    process = np.exp((np.sum(np.sqrt(a * b), axis=-1) - 1) / constants.length**2)
    rho, same = np.exp(-apart / constants.size_length), apart == 0

    def part(which: int) -> np.ndarray:
        level = _LEVEL[which] ** 2 + same * _SIZE_LEVEL[which] ** 2
        return level + rho * (constants.source[which] ** 2 * source + constants.process[which] ** 2 * process)

    return part(0), part(1), rho
