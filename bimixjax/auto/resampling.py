"""The bootstrap over runs for `auto`: the fit, and its members refitted to other draws of the runs."""

import dataclasses
import math
from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from bimixjax._base.records import record
from bimixjax.auto.donor import Donated
from bimixjax.auto.member_fits import Stack
from bimixjax.auto.members import Member, named_members, prior_of, relative_level
from bimixjax.auto.one_size import AutoSize, Drawn
from bimixjax.auto.result import AutoFit
from bimixjax.auto.reweight import Reweighted, reweigh
from bimixjax.fitting.points import losses_at
from bimixjax.fitting.resamples import Redraw
from bimixjax.fitting.resampling import Resamples
from bimixjax.observations import Unique

# Numbers in memory at once: resamples x runs x members x targets x points.
_AT_ONCE = 1 << 22
_ABSENT = 1e-9


@record
class AutoResampled(Resamples):
    """A fit of `auto`, and the same in R resamples of its runs, or in R draws from its posterior (`sample`).

    A resample draws as many runs of each model size as there are, with replacement. Each member is refitted with the
    white noise of a run's rows divided by the root of how often it was drawn, by three Gauss-Newton steps with the
    slopes at the fit; the members' weights in the average follow from their errors on runs left out, each run counting
    as often. Fixed as fitted: the donor of a model size, the law beyond the fitted sizes, and the constants of the
    noise. What the priors determine does not vary either: the spread is narrower than that between fits to other runs,
    see `fitting.resamples.Redraw`.

    Attributes:
        fit: of the runs as they are.
        sizes: per model size, coefficients, effects and weights of the members in each resample.

    Example:
        >>> import bimixjax
        >>> import pandas as pd
        >>> table = {"run": list("abcd"), "mixture/x": [0.2, 0.4, 0.6, 0.8], "mixture/y": [0.8, 0.6, 0.4, 0.2]}
        >>> observations = bimixjax.Observations.from_frame(pd.DataFrame(table | {"loss/x": [4.4, 3.3, 2.5, 2.3]}))
        >>> found = bimixjax.bootstrap(bimixjax.Auto(members=("offset",)), observations, key=0, count=20)
        >>> found.predict([0.5, 0.5]).shape, list(found.standard_errors["offset"])
        ((20, 1), ['B', 'C', 'alpha', 'beta', 'eps'])
    """

    fit: AutoFit
    sizes: tuple[Reweighted, ...]

    def __len__(self) -> int:
        return len(self.sizes[0].weights)

    def __repr__(self) -> str:
        return f"AutoResampled({self.fit!r}; {self._count})"

    def summary(self) -> str:
        """Say in plain text what was fitted, and how many resamples or draws there are."""
        return f"{self.fit.summary()}\n{self._count}"

    @property
    def _count(self) -> str:
        return f"{len(self)} {'draws from its posterior' if self.drawn else 'resamples of the runs'}"

    @property
    def drawn(self) -> bool:
        """Whether these are draws from the posterior of the fit, not resamples of its runs."""
        return self.sizes[0].path is not None

    @property
    def coefficients(self) -> dict[str, dict[str, np.ndarray]]:
        """Coefficients by member and name, in each resample and lane [R, L]; lanes are sizes x targets.

        Volumes are over the largest fitted one of their size, and a donor's losses over their geometric mean, so that a
        linear coefficient is what its term adds there in nats per token. NaN where a lane has no observation or a size
        does not have the member.
        """
        names = dict.fromkeys(name for size in self.fit.sizes for name in size.member_names)
        found = {}
        for member in named_members(tuple(names)):
            packed = np.concatenate([_packed(member, self.fit.own, *each) for each in self._sizes], axis=-1)
            found[member.name] = dict(zip(member.law.names(self.fit.domains), np.moveaxis(packed, 1, 0), strict=True))
        return found

    @property
    def standard_errors(self) -> dict[str, dict[str, np.ndarray]]:
        """Standard deviation over resamples of each coefficient, by member and name, in lanes [L]."""
        return {
            member: {name: np.std(values, axis=0, ddof=1) for name, values in named.items()}
            for member, named in self.coefficients.items()
        }

    @property
    def members(self) -> dict[str, np.ndarray]:
        """The weights of the members by name, in each resample and lane [R, L]; 0 where a size does not have it."""
        names = dict.fromkeys(name for size in self.fit.sizes for name in size.member_names)
        weights = {name: [size.weights_of(name, moved.weights) for size, moved in self._sizes] for name in names}
        return {name: np.concatenate(each, axis=1) for name, each in weights.items()}

    @property
    def _sizes(self) -> list[tuple[AutoSize, Reweighted]]:
        return list(zip(self.fit.sizes, self.sizes, strict=True))

    def resample(self, index: int | Array) -> AutoFit:
        """Return the fit of one resample, with spread, errors and sentences as they are."""
        sizes = tuple(_resample(size, jax.tree.map(lambda leaf: leaf[index], moved)) for size, moved in self._sizes)
        return dataclasses.replace(self.fit, sizes=sizes)

    def _predictions(
        self, one: AutoFit, r: Array, s: Array, model_size: float | None, inventory: Unique | None
    ) -> Array:
        points = math.prod(np.broadcast_shapes(r.shape[:-1], s.shape)) or 1
        numbers = max(size.mixture.shape[1] * np.size(size.weights) for size in self.fit.sizes) * points
        together, unique = max(1, _AT_ONCE // numbers), one.unique_tokens(inventory)
        return _predict(self, r, s, unique, model_size=model_size, together=together)


@partial(jax.jit, static_argnames=("model_size", "together"))
def _predict(
    found: AutoResampled, r: Array, s: Array, unique: Array | None, *, model_size: float | None, together: int
) -> Array:
    """Predict losses [R, n, T] or [R, T] at mixtures and volumes, so many resamples at a time."""

    def one(index: Array) -> Array:
        return losses_at(found.resample(index).at_size(model_size).predictor(inventory=unique), r, s)

    return lax.map(one, jnp.arange(len(found)), batch_size=together)


def _resample(size: AutoSize, moved: Reweighted) -> AutoSize:
    """Return a size with the coefficients, effects and weights of one resample or draw."""
    ends = list(zip(size.fitted, zip(moved.z, moved.alpha, moved.step, strict=True), strict=True))
    if moved.path is None:
        fitted = tuple(dataclasses.replace(one, z=z, alpha=alpha, step=step) for one, (z, alpha, step) in ends)
        return dataclasses.replace(size, fitted=fitted, weights=moved.weights)
    off = tuple((z - one.z, alpha - one.alpha, step - one.step) for one, (z, alpha, step) in ends)
    return dataclasses.replace(size, drawn=Drawn(chosen=moved.weights, off=off, path=moved.path))


def _packed(member: Member, own: tuple[int, ...], size: AutoSize, moved: Reweighted) -> np.ndarray:
    """Return the coefficients of a member at one size [R, q, T]."""
    domains, level = len(size.mixture), np.asarray(size.center)
    prior = prior_of(member, domains, relative_level(level, np.array(own)), np.array(own))
    shape = (len(moved.weights), len(prior.center), len(level))
    if member.name not in size.member_names:
        return np.full(shape, np.nan)
    z = np.asarray(moved.z[size.member_names.index(member.name)])
    with jax.enable_x64(True):
        packed = np.asarray(jax.vmap(prior.coefficients)(jnp.asarray(z)))
    linear = sum(c.size(domains) for c in member.law.part(linear=True))
    # The law was fitted to losses over their geometric mean. Where there is none, there are no coefficients.
    scale = np.where(np.arange(len(prior.center))[:, None] < linear, np.exp(level), level / level)
    return packed * scale


def resample(fit: AutoFit, stacks: Sequence[Donated], redraw: Redraw) -> AutoResampled:
    """Draw the runs of a fit anew in every resample, from the stacks that it was built of."""
    sizes = []
    for cell, size in enumerate(fit.sizes):
        stack = _of_cell(stacks, cell, np.shape(size.mask))
        counts = np.asarray(redraw.counts(cell, len(size.mask)), float)
        # A run that is not drawn counts next to nothing, so that no error is that of no run.
        moved = reweigh(stack, np.maximum(counts, _ABSENT))
        sizes.append(_placed(moved, stack.lanes[:, 1], len(fit.targets)))
    return AutoResampled(fit=fit, sizes=tuple(sizes))


def _of_cell(stacks: Sequence[Donated], cell: int, shape: tuple[int, ...]) -> Stack:
    """Return the lanes of one cell as a stack of their own, without the padding of its runs and volumes [m, t]."""
    found = [(donated.stack, np.flatnonzero(donated.stack.lanes[:, 0] == cell)) for donated in stacks]
    stack = next(stack.take(index) for stack, index in found if len(index))
    runs, volumes = (slice(count) for count in shape[:2])
    trimmed = stack.cells.cut(slice(cell, cell + 1), runs, volumes)
    fits = tuple(
        dataclasses.replace(
            fit,
            mean=fit.mean[runs, volumes],
            left_mean=fit.left_mean[runs, volumes],
            left_variance=fit.left_variance[runs, volumes],
        )
        for fit in stack.fits
    )
    return dataclasses.replace(stack, cells=trimmed, lanes=stack.lanes * [0, 1, 1], fits=fits)


def _placed(moved: Reweighted, target: np.ndarray, targets: int) -> Reweighted:
    """Spread lanes over all targets, with zeros for one without rows."""

    def placed(values: np.ndarray) -> np.ndarray:
        found = np.zeros((*values.shape[:2], targets))
        found[..., target] = values
        return found

    return jax.tree.map(placed, moved)
