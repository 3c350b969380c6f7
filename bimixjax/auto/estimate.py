"""Fit `auto` to a table: cells, fitted and averaged lanes, `AutoFit`."""

import dataclasses
from collections.abc import Sequence

import jax
import numpy as np

from bimixjax import fitting
from bimixjax._base import checks
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
    sizes = tuple(_donated(_of_cell(stacks, cell), cell) for cell in range(len(cells.size)))
    fit = AutoFit(
        domains=observations.domains,
        targets=targets,
        own=tuple(cells.own.tolist()),
        volume_unit=unit,
        model_sizes=tuple(cells.size.tolist()) if observations.model_sizes else (),
        sentences=tuple(s for size in sizes for s in _sentences(size)),
        notes=observations.notes,
        sizes=sizes,
        beyond=beyond,
    )
    return dataclasses.replace(fit, notes=(*fit.notes, *coverage_notes(fit.coverage, fit.domains)))


def _of_cell(stacks: Sequence[Donated], cell: int) -> Donated:
    return next(donated for donated in stacks if (donated.stack.lanes[:, 0] == cell).any())


def _donated(donated: Donated, cell: int) -> AutoSize:
    """Return one cell with its donor."""
    index = np.flatnonzero(donated.stack.lanes[:, 0] == cell)
    stack, donor = donated.stack.take(index), donated.donor
    if donor is None:
        return _size(stack, None)
    lender = donor.stack.take(index)
    size, lane = _size(lender, None), _lane_of_target(stack)
    return _size(stack, Lent(size=size, center=np.where(lane >= 0, donor.center[index][lane], 0.0)))


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
        fitted=tuple(_trimmed(jax.tree.map(of, fit.fitted), runs, volumes) for fit in stack.fits),
        weights=of(stack.average.weights),
        spread=of(stack.average.spread, np.nan),
        left_out_error=of(stack.average.left_out_error, np.nan),
        log_range=of(stack.average.log_range),
        rows=mask.sum((0, 1)),
        proportion_range=np.stack([share_range(share, mask.max(1)) for share in mixture], axis=1),
        volume_range=share_range(volume * cells.scale[cell], mask.max(0)),
        varies=losses_differ(np.tile(np.arange(volumes), runs), loss, mask.reshape(loss.shape)).astype(float),
        lent=lent,
    )


def _trimmed(fitted: Fitted, runs: int, volumes: int) -> Fitted:
    return Fitted(
        z=fitted.z,
        spread=fitted.spread,
        alpha=fitted.alpha[:runs],
        alpha_slope=fitted.alpha_slope[:, :runs],
        step=fitted.step[:volumes],
        step_slope=fitted.step_slope[:, :volumes],
        step_variance=fitted.step_variance[:volumes],
        precision=fitted.precision[:runs, :runs],
    )


def _sentences(size: AutoSize) -> list[str]:
    """Say what each target's average is made of."""
    lent = "" if size.lent is None else _lender(size.lent)
    # A single run that is left out is predicted by the priors alone: that is no error of a fit.
    runs = np.any(np.asarray(size.mask) > 0, axis=1).sum(0)
    errors = [
        f"cross-validation error {error:.2%}" if count > 1 else "one run, laws weighed by their priors"
        for error, count in zip(size.left_out_error, runs, strict=True)
    ]
    return [
        f"{int(size.rows[t])} observations; {errors[t]}{lent}; " + _shares(size.member_names, w)
        if size.rows[t]
        else "no usable observation"
        for t, w in enumerate(np.asarray(size.weights).T)
    ]


def _lender(lent: Lent) -> str:
    return f"; covariate: model size {float(lent.size.model_size):g}, with {lent.size.mixture.shape[1]} runs"


def _shares(names: Sequence[str], weights: np.ndarray) -> str:
    order = np.argsort(-weights, kind="stable")
    return ", ".join(f"{names[i]} {weights[i]:.0%}" for i in order if weights[i] >= _LEAST_WEIGHT)


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
    _check_sizes(settings, observations)
    cells = build_cells(observations, np.ones((1, len(observations))), unit, names)
    with jax.enable_x64(True):
        stacks = fit_stacks(cells, settings)
    if not stacks:
        raise checks.InputError(f"{observations.source} has no loss of {', '.join(names)}; nothing can be fitted")
    found = build(observations, unit, names, stacks, _beyond(settings, observations, unit, names))
    notes = note(cells, [each.stack.cells for each in stacks], observations, unit)
    return dataclasses.replace(found, notes=(*found.notes, *notes)), stacks


def _check_sizes(settings: Auto, observations: Observations) -> None:
    """Raise where a law is to extrapolate from the model sizes of a table that has not two of them."""
    if settings.beyond and len(observations.model_sizes) < 2:
        raise checks.InputError(
            f"{settings.beyond} beyond the fitted model sizes needs two of them; "
            f"{observations.source} has {len(observations.model_sizes)}"
        )


def _beyond(settings: Auto, observations: Observations, unit: Unit | None, names: tuple[str, ...]) -> Beyond | None:
    """Fit the law that extrapolates to other model sizes to all sizes at once."""
    if settings.beyond is None:
        return None
    return Beyond.of(fitting.fit(settings.beyond, observations, volume=unit, targets=names))
