"""Mixtures trained against each other: what each lost, and what had been promised."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from bimixjax._base.checks import InputError
from bimixjax.loop.designs import make_design, run_id
from bimixjax.loop.evidence import UNIT
from bimixjax.loop.proposals import Proposals
from bimixjax.observations import Observations
from bimixjax.proxy import Progress, SwarmConfig, TokenSource, train_swarm
from bimixjax.proxy.design import SAME

# Standard errors from which a difference counts: with 6 degrees of freedom, noise stays below in 19 of 20 cases.
CLEAR = 2.5
PROPOSALS, OBSERVATIONS = "proposals.json", "observations.csv"

# In `experiments/proof`, runs without any text of a target differ ten times as much as others from seed to seed.
_COMPARABLE = 1.05

# Mixtures that differ by less in every share are one: they are trained once.
_SAME = 1e-9


@dataclasses.dataclass(frozen=True, kw_only=True)
class Proof:
    """Mixtures trained afresh with the same seeds each, and their validation losses at the last step.

    Attributes:
        mixtures, targets: names.
        steps: the last step.
        losses: measured, nats per token, for k seeds; NaN where a run did not reach the last step.
        predicted: by the methods that proposed them; NaN where nothing was promised.
        limits: lower and upper ones of the mean that methods stated; None where none did, NaN for those that did not.
        weights: of the targets in the mean; None where all count the same.
    """

    mixtures: tuple[str, ...]
    targets: tuple[str, ...]
    steps: float
    losses: Float[np.ndarray, "m k t"]
    predicted: Float[np.ndarray, "m t"]
    limits: Float[np.ndarray, "m 2"] | None = None
    weights: Float[np.ndarray, " t"] | None = None

    @property
    def runs(self) -> Float[np.ndarray, "m k"]:
        """Mean loss over targets of each run, nats per token."""
        return self._mean(self.losses)

    @property
    def means(self) -> Float[np.ndarray, " m"]:
        """Mean loss over targets and seeds of each mixture, nats per token."""
        return self.runs.mean(axis=1)

    @property
    def promised(self) -> Float[np.ndarray, " m"]:
        """What was promised of the `means`; NaN where nothing was."""
        return self._mean(self.predicted)

    @property
    def missed(self) -> Float[np.ndarray, " m"]:
        """By how much the means are above what was promised: above 0 on average is the winner's curse."""
        return self.means - self.promised

    @property
    def regret(self) -> Float[np.ndarray, " m"]:
        """By how much each mean is above the least one, nats per token."""
        return self.means - np.nanmin(self.means)

    @property
    def held(self) -> tuple[bool | None, ...]:
        """Whether each mean lies within the limits stated of it; None where none were, or a run is missing."""
        ends = np.full((len(self.mixtures), 2), np.nan) if self.limits is None else self.limits
        known = np.isfinite(ends).all(1) & np.isfinite(self.means)
        inside = (ends[:, 0] <= self.means) & (self.means <= ends[:, 1])
        return tuple(bool(yes) if given else None for yes, given in zip(inside, known, strict=True))

    def _mean(self, losses: Float[np.ndarray, "*n t"]) -> Float[np.ndarray, "*n"]:
        if self.weights is None:
            return losses.mean(-1)
        # A law may predict an infinite loss of a target that does not count.
        return losses[..., self.weights > 0] @ self.weights[self.weights > 0]

    @property
    def noise(self) -> float:
        """Standard deviation of a run's mean loss, pooled over mixtures.

        Those that lack a run do not count; nor do those whose mean is more than 5 % above the least one, where two are
        left: bad mixtures are noisier. Every mixture is trained with the same seeds, so what a seed does to all of them
        is taken out: with x_mk the mean over targets, sqrt(sum_mk (x_mk - x_m. - x_.k + x_..)^2 / ((m - 1)(k - 1))).
        """
        x = self._comparable
        if len(x) < 2 or x.shape[1] < 2:
            return np.nan
        rest = x - x.mean(axis=1, keepdims=True) - x.mean(axis=0) + x.mean()
        return float(np.sqrt((rest**2).sum() / ((len(x) - 1) * (x.shape[1] - 1))))

    @property
    def seed_effect(self) -> float:
        """Standard deviation of what a seed does to all mixtures alike, nats per token; NaN where there is no `noise`.

        With x as there, sqrt(max(0, var_k x_.k - noise^2 / m)). Runs of a table that all have one seed are off by as
        much together, which no error on runs left out of a fit shows, and no limits of a promise allow for.
        """
        noise = self.noise
        if np.isnan(noise):
            return np.nan
        x = self._comparable
        return float(np.sqrt(max(0.0, x.mean(axis=0).var(ddof=1) - noise**2 / len(x))))

    @property
    def _comparable(self) -> Float[np.ndarray, "n k"]:
        """The `runs` of mixtures that lack none, without those that are far worse than the best."""
        x = self.runs[np.isfinite(self.runs).all(axis=1)]
        near = x.mean(axis=1) <= _COMPARABLE * x.mean(axis=1).min(initial=np.inf)
        return x[near] if near.sum() > 1 else x

    @property
    def standard_error(self) -> float:
        """Of the difference between two of the `means`."""
        return self.noise * (2 / self.losses.shape[1]) ** 0.5

    @property
    def ranked(self) -> tuple[str, ...]:
        """The mixtures whose runs are all whole, least mean loss first."""
        means = self.means
        return tuple(self.mixtures[i] for i in np.argsort(means, kind="stable") if np.isfinite(means[i]))

    def differences(self, name: str) -> dict[str, tuple[float, float]]:
        """Return, for each other mixture, its mean loss minus that of `name`: nats per token, and standard errors.

        Mixtures that lack a run are left out; where `name` does, so are all.
        """
        means = dict(zip(self.mixtures, self.means.tolist(), strict=True))
        others = [other for other in self.ranked if other != name] if name in self.ranked else []
        gaps = {other: means[other] - means[name] for other in others}
        return {other: (gap, gap / self.standard_error) for other, gap in gaps.items()}


def prove(
    folder: str | Path,
    proposals: Proposals,
    tokens: TokenSource,
    config: SwarmConfig,
    seeds: Sequence[int],
    *,
    progress: Progress | None = None,
) -> Proof:
    """Train what was proposed, each mixture once per seed, and measure what it loses.

    The proposals are written to `folder`/proposals.json before anything is trained, and never changed after: those of
    a later call, which may differ by rounding, make way for them. The same call on the same folder goes on where the
    last one was killed. Mixtures that are equal are trained once.

    Args:
        folder: where everything goes.
        proposals: mixtures and what is promised of them.
        tokens: training and validation tokens by domain.
        config: how the runs of the proposals' table were trained and measured.
        seeds: of the runs, the same for all mixtures; two or more that no run of the table used.
        progress: called after each call of the training program.

    Raises:
        InputError: for seeds that will not do, other proposals in the folder, or what `train_swarm` finds wrong.
    """
    folder = Path(folder)
    require_fresh(seeds, proposals.seeds)
    proposals = _frozen(folder / PROPOSALS, proposals)
    runs = trained_as(proposals)
    chosen = {name: proposals.proportions[proposals.names.index(name)] for name in dict.fromkeys(runs.values())}
    design = make_design(chosen, proposals.domains, seeds)
    table = train_swarm(design, tokens, config, folder / "swarm", progress=progress)
    measured = Observations.read(table)
    measured.write(folder / OBSERVATIONS)
    return judged(proposals, measured, seeds)


def require_fresh(seeds: Sequence[int], used: Sequence[int]) -> None:
    """Raise `InputError` where seeds are not two or more, all different, that no run used."""
    if len(set(seeds)) < max(2, len(seeds)) or set(seeds) & set(used):
        known = ", ".join(map(str, used)) or "none"
        raise InputError(
            f"seeds are {[*seeds]}; allowed: two or more, all different, that no run used (those: {known})"
        )


def trained_as(proposals: Proposals) -> dict[str, str]:
    """Return for each proposal the name of the first one with the same mixture, whose runs it shares."""
    found: dict[str, str] = {}
    for name, mixture in zip(proposals.names, proposals.proportions, strict=True):
        near = np.abs(proposals.proportions[: len(found)] - mixture).max(1) < _SAME if found else np.array([], bool)
        found[name] = found[proposals.names[int(near.argmax())]] if near.any() else name
    return found


def judged(proposals: Proposals, measured: Observations, seeds: Sequence[int]) -> Proof:
    """Put the losses of proposals' runs at their last step beside what was promised.

    Raises:
        InputError: where the table has no steps, or not the targets.
    """
    steps = measured.volumes(UNIT)
    last = measured.select(volume=(steps.max(), None), unit=UNIT, targets=proposals.targets)
    losses = dict(zip(last.run.tolist(), last.losses, strict=True))
    missing, runs = np.full(len(proposals.targets), np.nan), trained_as(proposals)
    return Proof(
        mixtures=proposals.names,
        targets=proposals.targets,
        steps=float(steps.max()),
        losses=np.array([[losses.get(run_id(runs[name], seed), missing) for seed in seeds] for name in runs]),
        predicted=proposals.losses,
        limits=proposals.intervals,
        weights=proposals.weights,
    )


def _frozen(path: Path, proposals: Proposals) -> Proposals:
    """Return the proposals that are there, which are these but for rounding; where there are none, write these."""
    if not path.exists():
        proposals.save(path)
        return proposals
    there = Proposals.load(path)
    same = there.names == proposals.names and there.domains == proposals.domains and there.targets == proposals.targets
    if not same or np.abs(there.proportions - proposals.proportions).max() > SAME:
        raise InputError(f"{path} holds other proposals, written before; use another folder")
    return there
