"""Fit `auto` to a table: cells, fitted and averaged lanes, `AutoFit`."""

import dataclasses
from collections.abc import Sequence

import jax
import numpy as np

from bimixjax import fitting
from bimixjax._base import checks
from bimixjax.auto.averaging import CORRELATION
from bimixjax.auto.beyond import Beyond
from bimixjax.auto.donor import Auto, Donated, fit_stacks
from bimixjax.auto.grids import build_cells
from bimixjax.auto.member import Fitted
from bimixjax.auto.member_fits import Stack
from bimixjax.auto.one_size import AutoSize, Lent
from bimixjax.auto.outlying import note
from bimixjax.auto.result import AutoFit
from bimixjax.fitting.coverage import losses_differ, notes as coverage_notes, share_range
from bimixjax.observations import Observations, Unit

# Weights below this are not printed.
_LEAST_WEIGHT = 0.005


def build(
    observations: Observations,
    unit: Unit | None,
    targets: tuple[str, ...],
    stacks: Sequence[Donated],
    beyond: Beyond | None,
) -> AutoFit:
    """Put the lanes of all stacks, whose cells are one per model size, into an `AutoFit`."""
    cells = stacks[0].stack.cells
    sizes = []
    for cell in range(len(cells.size)):
        donated = next(each for each in stacks if (each.stack.lanes[:, 0] == cell).any())
        index = np.flatnonzero(donated.stack.lanes[:, 0] == cell)
        stack, lent = donated.stack.take(index), None
        if donated.donor is not None:
            lane, center = _lane_of_target(stack), donated.donor.center[index]
            size = _size(donated.donor.stack.take(index), None)
            lent = Lent(size=size, center=np.where(lane >= 0, center[lane], 0.0))
        sizes.append(_size(stack, lent))
    fit = AutoFit(
        domains=observations.domains,
        targets=targets,
        own=tuple(cells.own.tolist()),
        volume_unit=unit,
        model_sizes=tuple(cells.size.tolist()) if observations.model_sizes else (),
        sentences=tuple(s for size in sizes for s in _sentences(size)),
        notes=observations.notes,
        sizes=tuple(sizes),
        beyond=beyond,
    )
    return dataclasses.replace(fit, notes=(*fit.notes, *coverage_notes(fit.coverage, fit.domains)))


def _lane_of_target(stack: Stack) -> np.ndarray:
    """Find the lane of each target [T] in a stack with one cell, or -1."""
    lane = np.full(len(stack.cells.own), -1)
    lane[stack.lanes[:, 1]] = np.arange(len(stack.lanes))
    return lane


def _size(stack: Stack, lent: Lent | None) -> AutoSize:
    """Strip a stack with one cell of the padding of its runs and volumes; a target without rows gets zeros."""
    cells, cell = stack.cells, stack.lanes[0, 0]
    there = cells.mask[cell].max(2)
    runs, volumes = (int(np.flatnonzero(there.any(axis))[-1]) + 1 for axis in (1, 0))
    mask = cells.mask[cell, :runs, :volumes]
    lane, used = _lane_of_target(stack), mask.max((0, 1)) > 0

    def of(values: np.ndarray, absent: float = 0.0) -> np.ndarray:
        return np.where(used, values[..., lane], absent)

    def trimmed(fitted: Fitted) -> Fitted:
        fitted = jax.tree.map(of, fitted)
        return dataclasses.replace(
            fitted,
            alpha=fitted.alpha[:runs],
            step=fitted.step[:volumes],
        )

    mixture = cells.mixture[cell, :, :runs]
    volume = cells.volume[cell, :volumes]
    loss = np.exp(cells.loss[cell, :runs, :volumes]).reshape(runs * volumes, -1)
    return AutoSize(
        member_names=tuple(member.name for member in stack.members),
        model_size=np.asarray(cells.size[cell]),
        mixture=mixture,
        volume=volume,
        scale=np.asarray(cells.scale[cell]),
        mask=mask,
        center=np.where(used, cells.center[cell], np.nan),
        fitted=tuple(trimmed(fit.fitted) for fit in stack.fits),
        weights=of(stack.average.weights),
        spread=of(stack.average.spread, np.nan),
        correlation=of(stack.average.correlation, CORRELATION),
        left_out_error=of(stack.average.left_out_error, np.nan),
        log_range=of(stack.average.log_range),
        rows=mask.sum((0, 1)),
        proportion_range=np.moveaxis(share_range(mixture[..., None], mask.max(1)), 0, 1),
        volume_range=share_range((volume * cells.scale[cell])[:, None], mask.max(0)),
        varies=losses_differ(np.tile(np.arange(volumes), runs), loss, mask.reshape(loss.shape)).astype(float),
        lent=lent,
        unique=None if cells.unique is None else cells.unique[cell, :, :runs],
    )


def _sentences(size: AutoSize) -> list[str]:
    """Say what each target's average is made of."""
    lent, names = "", size.member_names
    if size.lent is not None:
        donor = size.lent.size
        lent = f"; covariate: model size {float(donor.model_size):g}, with {donor.mixture.shape[1]} runs"
    runs, said = size.run_counts, []
    for t, weights in enumerate(np.asarray(size.weights).T):
        several = f"cross-validation error {size.left_out_error[t]:.2%}"
        error = several if runs[t] > 1 else "one run, laws weighed by their priors"
        order = [i for i in np.argsort(-weights, kind="stable") if weights[i] >= _LEAST_WEIGHT]
        shares = ", ".join(f"{names[i]} {weights[i]:.0%}" for i in order)
        usable = f"{int(size.rows[t])} observations; {error}{lent}; {shares}"
        said.append(usable if size.rows[t] else "no usable observation")
    return said


def checked_targets(observations: Observations, targets: Sequence[str] | None) -> tuple[str, ...]:
    """Return the targets asked for, by default all of a table; raise `InputError` for one that it has not."""
    if targets is None:
        return observations.targets
    checks.known("target", tuple(targets), observations.targets, observations.source)
    return tuple(targets)


def fit_auto(
    settings: Auto, observations: Observations, *, volume: Unit | None = None, targets: Sequence[str] | None = None
) -> tuple[AutoFit, list[Donated]]:
    """Fit `auto`, and return the fit and the stacks that it was built of."""
    names, unit = checked_targets(observations, targets), observations.volume_unit(volume)
    if settings.beyond and (count := len(observations.model_sizes)) < 2:
        needs = f"{settings.beyond} beyond the fitted model sizes needs two of them"
        raise checks.InputError(f"{needs}; {observations.source} has {count}")
    cells = build_cells(observations, np.ones((1, len(observations))), unit, names)
    with jax.enable_x64(True):
        stacks = [each.without_idle() for each in fit_stacks(cells, settings)]
    if not stacks:
        raise checks.InputError(f"{observations.source} has no loss of {', '.join(names)}; nothing can be fitted")
    beyond = None
    if settings.beyond is not None:
        beyond = Beyond.of(fitting.fit(settings.beyond, observations, volume=unit, targets=names))
    found = build(observations, unit, names, stacks, beyond)
    notes = note(cells, [each.stack.cells for each in stacks], observations, unit)
    if observations.has_inventory and cells.unique is None:
        notes = (*notes, "the columns unique/<domain> are not read: they are in tokens, and the volume is not")
    return dataclasses.replace(found, notes=(*found.notes, *notes)), stacks
