"""Which run to train next: that whose expected improvement per cost is greatest.

With b the run of least expected mean loss so far, a run of mixture r at size s, whose mean loss Y will be measured,
moves what is expected of J(b) - J(r), at the size that counts, by a Gaussian of mean and standard deviation

    g = E[J(b)] - E[J(r)],    d = |Cov(J(r) - J(b), Y)| / sd(Y),

so the improvement that it is expected to bring is E max(g + d e, 0) = d h(g / d), h(z) = z Phi(z) + phi(z), e standard
normal: that of Jones et al. (1998) where s is the size that counts. It is divided by the cost of the run. The runs of a
batch follow one another, each as if those before had come out as expected.

Of several processes, which differ in what they assume, the mean improvement counts, weighted by their evidence.
"""

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy import linalg, optimize, special

from bimixjax.planning.process import MeanLoss
from bimixjax.planning.space import Chosen, Space
from bimixjax.solve import Region

# Of the imaginary step by which slopes are computed; squares of it vanish.
_IMAGINARY = 1e-100
# Below this, h is taken to its leading order, h = phi(z) / z^2: the next one is smaller by 3 / z^2.
_FAR = -1e4
# How many of the best mixtures looked at are followed uphill, and how far.
_STARTS, _STEPS = 3, 40
# Below it a deviation is rounding.
_LEAST = 1e-12


class _Climbed(ABC):
    """An expected improvement whose slope is followed uphill."""

    @abstractmethod
    def logs(self, mixtures: Float[np.ndarray, "m d"]) -> Float[np.ndarray, " m"]:
        """Return the log of the expected improvement [m]."""

    @abstractmethod
    def with_slope(self, mixture: Float[np.ndarray, " d"]) -> tuple[float, Float[np.ndarray, " d"]]:
        """Return the log of the expected improvement of one mixture, and its slope by the shares [d]."""

    def climb(self, start: Float[np.ndarray, " d"], region: Region) -> Float[np.ndarray, " d"]:
        """Follow the slope uphill within limits, and return the mixture where it ends."""

        def goal(mixture: np.ndarray) -> tuple[float, np.ndarray]:
            value, slope = self.with_slope(np.maximum(mixture, 0.0))
            return -value, -slope

        limits: list[dict[str, Any]] = [{"type": "eq", "fun": lambda r: r.sum() - 1, "jac": np.ones_like}]
        for members, least, most in zip(region.members, region.least, region.most, strict=True):
            row = np.isin(np.arange(len(start)), members).astype(float)
            for sign, end in ((1.0, least), (-1.0, most)):
                if np.isfinite(end):
                    inside = partial(_above, sign * row, sign * end)
                    limits.append({"type": "ineq", "fun": inside, "jac": lambda r, row=sign * row: row})
        if (ball := region.ball) is not None:
            limits.append({"type": "ineq", "fun": lambda r: ball.radius - ball.of(r), "jac": lambda r: -ball.slopes(r)})
        options = {"maxiter": _STEPS, "ftol": 1e-6}
        bounds = list(zip(region.lower, region.upper, strict=True))
        found = optimize.minimize(
            goal, start, jac=True, method="SLSQP", bounds=bounds, constraints=limits, options=options
        )
        # It keeps the limits up to rounding, or less well where it was stopped.
        return region.nearest(found.x) if np.isfinite(found.x).all() else start

    def best_of(self, mixtures: Float[np.ndarray, "m d"], region: Region) -> tuple[Float[np.ndarray, " d"], float]:
        """Return the mixture within limits, and the log of the improvement, that climbs from the best of some reach."""
        values = self.logs(mixtures)
        starts = mixtures[np.argsort(-values, kind="stable")[:_STARTS]]
        ends = np.concatenate([starts, [self.climb(start, region) for start in starts]])
        found = self.logs(ends)
        return ends[found.argmax()], float(found.max())


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Improvement(_Climbed):
    """The expected improvement by runs of one size, given the runs so far.

    Attributes:
        process: what these say.
        best: the mixture b [d].
        size: log of the model size s of the runs.
    """

    process: MeanLoss
    best: Float[np.ndarray, " d"]
    size: float

    @classmethod
    def of(cls, process: MeanLoss, size: float) -> "Improvement":
        """Take for b the run of least expected J."""
        return cls(process=process, best=process.runs[process.expected(process.runs).argmin()], size=size)

    def moments(self, mixtures: Float[np.ndarray, "m d"]) -> tuple[np.ndarray, np.ndarray]:
        """Return g and d of runs of some mixtures [m]."""
        p, best = self.process, self.best[None]
        gain = p.expected(best) - p.expected(mixtures)
        at_r, at_y, at_b = (
            linalg.solve_triangular(p.factor, p.cross(points, size).T, lower=True)
            for points, size in ((mixtures, p.size), (mixtures, self.size), (best, p.size))
        )
        shared = p.between(mixtures, p.size, mixtures, self.size) - p.between(best, p.size, mixtures, self.size)
        shared = shared - np.sum((at_r - at_b) * at_y, axis=0)
        own = p.between(mixtures, self.size, mixtures, self.size) + p.noise() - np.sum(at_y**2, axis=0)
        return gain, np.maximum(np.abs(shared) / np.sqrt(np.maximum(own, _LEAST**2)), _LEAST)

    def logs(self, mixtures: Float[np.ndarray, "m d"]) -> Float[np.ndarray, " m"]:
        """Return the log of the expected improvement [m]."""
        gain, deviation = self.moments(mixtures)
        return np.log(deviation) + log_h(gain / deviation)

    def with_slope(self, mixture: Float[np.ndarray, " d"]) -> tuple[float, Float[np.ndarray, " d"]]:
        """Return the log of the expected improvement of one mixture, and its slope by the shares [d]."""
        p, s, best = self.process, self.size, self.best[None]
        points = ((mixture[None], p.size), (mixture[None], s), (best, p.size))
        of_r, of_y, of_b = (p.cross(each, size)[0] for each, size in points)
        in_r, in_y, in_b = (linalg.cho_solve((p.factor, True), each) for each in (of_r, of_y, of_b))
        shared = p.between(mixture, p.size, mixture, s) - p.between(best[0], p.size, mixture, s) - (of_r - of_b) @ in_y
        own = max(p.between(mixture, s, mixture, s) + p.noise() - of_y @ in_y, _LEAST**2)
        gain = float(p.expected(best)[0] - p.expected(mixture[None])[0])
        deviation = max(abs(shared) / np.sqrt(own), _LEAST)
        # Covariances are analytic in the shares: a step along the imaginary axis gives slopes to the last digit.
        steps = mixture + 1j * _IMAGINARY * np.eye(len(mixture))
        d_r, d_y = (np.imag(p.cross(steps, size)) for size in (p.size, s))
        gain_slope = -(np.imag(p.prior_mean(steps)) @ p.scale + d_r @ p.alpha)
        of_pairs = np.imag(p.between(steps, p.size, steps, s) - p.between(best, p.size, steps, s))
        shared_slope = of_pairs - d_r @ in_y - d_y @ (in_r - in_b)
        own_slope = np.imag(p.between(steps, s, steps, s)) - 2 * d_y @ in_y
        slope = np.sign(shared) * (shared_slope - shared * own_slope / (2 * own)) / np.sqrt(own)
        # The slopes of log(d h(g / d)) by g and d are Phi / (d h) and phi / (d h).
        z = gain / deviation
        log_value = float(log_h(np.array([z]))[0])
        by_gain, by_deviation = np.exp(special.log_ndtr(z) - log_value), np.exp(_log_phi(z) - log_value)
        found = (by_gain * gain_slope + by_deviation * slope) / deviation / _IMAGINARY
        return float(np.log(deviation)) + log_value, found


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Averaged(_Climbed):
    """The mean of the expected improvements under several processes, by how well each explains the losses seen.

    Attributes:
        parts: the improvement under each.
        weights: exp(evidence) over their sum [k].
    """

    parts: tuple[Improvement, ...]
    weights: Float[np.ndarray, " k"]

    @property
    def best(self) -> Float[np.ndarray, " d"]:
        """The mixture b of the process of most weight."""
        return self.parts[int(self.weights.argmax())].best

    def moments(self, mixtures: Float[np.ndarray, "m d"]) -> tuple[np.ndarray, np.ndarray]:
        """Return the mean and the standard deviation, over processes too, of what g and d are for one [m]."""
        gains, deviations = np.array([part.moments(mixtures) for part in self.parts]).swapaxes(0, 1)
        gain = self.weights @ gains
        return gain, np.sqrt(self.weights @ (deviations**2 + (gains - gain) ** 2))

    def logs(self, mixtures: Float[np.ndarray, "m d"]) -> Float[np.ndarray, " m"]:
        """Return the log of the expected improvement [m]."""
        return self._log_mean(np.stack([part.logs(mixtures) for part in self.parts]))

    def with_slope(self, mixture: Float[np.ndarray, " d"]) -> tuple[float, Float[np.ndarray, " d"]]:
        """Return the log of the expected improvement of one mixture, and its slope by the shares [d]."""
        values, slopes = zip(*(part.with_slope(mixture) for part in self.parts), strict=True)
        value = float(self._log_mean(np.array(values)))
        return value, self.weights * np.exp(np.array(values) - value) @ np.stack(slopes)

    def _log_mean(self, logs: np.ndarray) -> np.ndarray:
        """Return the log of the mean over processes, the first axis, of what has these logs."""
        most = logs.max(axis=0)
        return most + np.log(self.weights @ np.exp(logs - most))


def _above(row: np.ndarray, end: float, r: np.ndarray) -> float:
    return float(row @ r - end)


def batch(space: Space, processes: Sequence[MeanLoss], costs: Mapping[float, float], count: int) -> Chosen:
    """Choose runs one after the other, each as if those before had come out as expected.

    Args:
        space: what to choose among.
        processes: what the runs so far say, under one assumption or several.
        costs: of a run, by the model sizes that it may have.
        count: how many.
    """
    chosen, taken = Chosen(), []
    weights = special.softmax([process.evidence for process in processes])
    for _ in range(count):
        found = []
        for size, cost in costs.items():
            here = Averaged(parts=tuple(Improvement.of(each, np.log(size)) for each in processes), weights=weights)
            pool = space.pool(around=here.best)
            if space.candidates is None:
                row, (mixture, value) = -1, here.best_of(pool, space.region)
            else:
                values = here.logs(pool)
                values[taken] = -np.inf
                row = int(values.argmax())
                mixture, value = pool[row], float(values[row])
            found.append((value - np.log(cost), value, size, row, mixture, here))
        _, value, size, row, mixture, here = max(found, key=lambda each: each[0])
        gain, deviation = (float(each[0]) for each in here.moments(mixture[None]))
        off = f"{abs(gain):.2g} {'below' if gain >= 0 else 'above'} the best run before, ± {deviation:.2g}"
        chosen.add(mixture, row, f"expected {off}", float(np.exp(value)), size)
        taken.append(row)
        processes = [process.with_run(mixture, float(np.log(size))) for process in processes]
    return chosen


def log_h(z: Float[np.ndarray, " m"]) -> Float[np.ndarray, " m"]:
    """Return log(z Phi(z) + phi(z)), as exact far below 0 as above.

    Source: Ament et al., Unexpected improvements to expected improvement (2023), Eq. 9.
    """
    below = np.clip(z, _FAR, -1.0)
    tail = 1 + below * np.sqrt(np.pi / 2) * special.erfcx(-below / np.sqrt(2))
    above = np.maximum(z, -1.0)
    near = np.log(above * special.ndtr(above) + np.exp(_log_phi(above)))
    far = _log_phi(z) + np.where(z < _FAR, -2 * np.log(np.maximum(-z, 1.0)), np.log(np.maximum(tail, 1e-300)))
    return np.where(z > -1.0, near, far)


def _log_phi(z: np.ndarray | float) -> np.ndarray | float:
    return -(z**2) / 2 - np.log(2 * np.pi) / 2
