"""From solved lanes to a `FitResult`: what each coefficient is, how well it is known, and that in words."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from bimixjax.fitting.constant import LEAST_GAIN, gain
from bimixjax.fitting.coverage import companions, losses_differ
from bimixjax.fitting.coverage import notes as coverage_notes
from bimixjax.fitting.lanes import Lanes, Layout
from bimixjax.fitting.result import FitResult
from bimixjax.fitting.views import Ends
from bimixjax.laws import Coefficient, Law
from bimixjax.solve import Status, infer

# How near a bound a coefficient stands there; gradient solvers reach a bound only in the limit.
_BOUND = 1e-9

# A coefficient whose posterior is this wide beside its prior, in standard deviations, rests on the prior.
_HARDLY_NARROWER = 0.9

_SAME = ("the losses are the same for all mixtures",)

# What a coefficient may take several distinct ones of, and what that is called.
_COUNTED = {"proportions": "proportions", "volumes": "volumes", "sizes": "model sizes"}


@dataclass(frozen=True, kw_only=True)
class _Rows:
    """What each lane was fitted on: counts [L], ranges [L, d, 2] and [L, 2], as in `Coverage`, and mixtures [m, d]."""

    count: np.ndarray
    proportions: np.ndarray
    volumes: np.ndarray
    sizes: np.ndarray
    proportion_range: np.ndarray
    volume_range: np.ndarray
    mixtures: np.ndarray
    companion: np.ndarray
    varies: np.ndarray


@dataclass(frozen=True, kw_only=True)
class _Knowledge:
    """What the rows of each lane say of its coefficients, in the user's unit.

    Args:
        covariance: of the coefficients [L, k, k].
        variance: of the relative residuals [L].
        condition: of the scaled Jacobian [L].
        identified, at_bound, at_prior: as in `FitResult` [L, k].
        short: what takes more distinct proportions, volumes or model sizes than there are [L, k].
        held: what is not fitted [L, k].
        prior: whether priors took part [L].
    """

    covariance: np.ndarray
    variance: np.ndarray
    condition: np.ndarray
    identified: np.ndarray
    at_bound: np.ndarray
    at_prior: np.ndarray
    short: np.ndarray
    held: np.ndarray
    prior: np.ndarray


def report(law: Law, layout: Layout, lanes: Lanes, ends: Ends, notes: tuple[str, ...]) -> FitResult:
    """Put solved lanes into a `FitResult`."""
    used, loss = lanes.flat(lanes.weight).T > 0, lanes.flat(lanes.loss).T
    difference = np.where(used, ends.predicted - loss, 0.0)
    rows, squares = _rows(law, layout, lanes), ((difference * ends.factor) ** 2).sum(-1)
    status = np.where(rows.count > 0, ends.solution.status, Status.NO_OBSERVATIONS)
    told = gain(law, lanes, ends, rows.proportions)
    status = np.where((status == Status.CONVERGED) & (told < LEAST_GAIN), Status.CONSTANT, status)
    held = np.array([law.fixed(len(layout.domains), own) for own in layout.own])
    held = np.tile(held, (len(used) // len(layout.own), 1))
    known = _knowledge(law, layout, ends, rows, squares, ~np.isnan(held))
    values = np.where(np.isnan(held), ends.user_values, held)
    result = FitResult(
        law=law,
        domains=layout.domains,
        targets=layout.targets,
        own=layout.own,
        volume_unit=layout.volume_unit,
        model_sizes=layout.sizes,
        sentences=_sentences(law, layout, status, rows, known, np.isnan(told)),
        notes=notes,
        values=np.where(rows.count[:, None] > 0, values, np.nan),
        covariance=known.covariance,
        identified=known.identified,
        at_bound=known.at_bound,
        at_prior=known.at_prior,
        status=status,
        steps=ends.solution.steps,
        cost=np.where(rows.count > 0, ends.cost, np.nan),
        rows=rows.count,
        missing=layout.missing,
        zero=layout.zero,
        residual_scale=np.sqrt(known.variance),
        condition=known.condition,
        error=_divide(np.abs(difference / loss).sum(-1), rows.count),
        r2=_r2(ends.predicted, loss, used),
        proportion_range=rows.proportion_range,
        volume_range=rows.volume_range,
        mixtures=rows.mixtures,
        volumes=rows.volumes,
        companion=rows.companion,
        varies=rows.varies,
    )
    return replace(result, notes=(*notes, *coverage_notes(result.coverage, layout.domains)))


def _divide(top: np.ndarray, count: np.ndarray) -> np.ndarray:
    return np.divide(top, count, out=np.full(len(top), np.nan), where=count > 0)


def _r2(predicted: np.ndarray, loss: np.ndarray, used: np.ndarray) -> np.ndarray:
    center = _divide(np.where(used, loss, 0.0).sum(-1), used.sum(-1))
    total = np.where(used, (loss - center[:, None]) ** 2, 0.0).sum(-1)
    missed = np.where(used, (loss - predicted) ** 2, 0.0).sum(-1)
    return 1 - np.divide(missed, total, out=np.full(len(total), np.nan), where=total > 0)


def _rows(law: Law, layout: Layout, lanes: Lanes) -> _Rows:
    used = lanes.flat(lanes.weight) > 0
    volume = (lanes.flat(lanes.volume) * layout.volume_scale)[:, lanes.group]
    mixture, own = lanes.flat(lanes.mixture), lanes.flat(lanes.own)
    own_only = law.own_proportion and not law.cross_domain
    loss, size = lanes.flat(lanes.loss), lanes.flat(lanes.model_size)
    companion, varies = np.zeros((used.shape[1], len(mixture)), int), np.zeros(used.shape[1], bool)
    for group in range(mixture.shape[-1]):
        own_lanes = np.flatnonzero(lanes.group == group)
        companion[own_lanes] = companions(mixture[..., group], used[:, own_lanes])
        places = np.column_stack([lanes.flat(lanes.volume)[:, group], size[:, group]])
        number = np.unique(places, axis=0, return_inverse=True)[1].reshape(-1)
        varies[own_lanes] = losses_differ(number, loss[:, own_lanes], used[:, own_lanes])
    return _Rows(
        count=used.sum(0),
        proportions=_distinct(own.round(9) if own_only else _numbered(mixture)[:, lanes.group], used),
        volumes=_distinct(volume, used),
        sizes=_distinct(lanes.flat(lanes.model_size)[:, lanes.group], used),
        proportion_range=np.stack([_range(share[:, lanes.group], used) for share in mixture], axis=1),
        volume_range=_range(volume, used),
        mixtures=_distinct_mixtures(mixture, used, lanes.group),
        companion=companion,
        varies=varies,
    )


def _distinct_mixtures(mixture: np.ndarray, used: np.ndarray, group: np.ndarray) -> np.ndarray:
    """The mixtures [d, n, S] of rows that any lane [n, L] uses, each once: [m, d]."""
    sizes = np.stack([used[:, group == size].any(1) for size in range(mixture.shape[2])], axis=1)
    kept = mixture[:, sizes].T
    return kept[np.unique(kept.round(9), axis=0, return_index=True)[1]]


def _distinct(values: np.ndarray, used: np.ndarray) -> np.ndarray:
    """How many distinct values the used rows [n, L] of each lane have."""
    ordered = np.sort(np.where(used, values, np.nan), axis=0)
    return (ordered[1:] > ordered[:-1]).sum(0) + used.any(0)


def _range(values: np.ndarray, used: np.ndarray) -> np.ndarray:
    """The lowest and highest value of the used rows [n, L] of each lane, as [L, 2]; NaN where there is none."""
    low = values.min(axis=0, where=used, initial=np.inf)
    high = values.max(axis=0, where=used, initial=-np.inf)
    return np.where(used.any(0), [low, high], np.nan).T


def _numbered(mixtures: np.ndarray) -> np.ndarray:
    """A number for each mixture [d, n, S], the same for equal ones, as [n, S]."""
    flat = mixtures.round(9).reshape(len(mixtures), -1)
    return np.unique(flat, axis=1, return_inverse=True)[1].reshape(mixtures.shape[1:])


def _knowledge(law: Law, layout: Layout, ends: Ends, rows: _Rows, squares: np.ndarray, held: np.ndarray) -> _Knowledge:
    spread = [c for c in law.ordered() for _ in range(c.size(len(layout.domains)))]
    needs = ((kind, np.array([getattr(c, kind) for c in spread])) for kind in _COUNTED)
    short = np.any([need > getattr(rows, kind)[:, None] for kind, need in needs], axis=0) & ~held
    bounded = at_bound(spread, ends.values) & ~short & ~held & (rows.count > 0)[:, None]
    from_rows = infer(ends.information, 1.0, bounded | held)
    identified = from_rows.identified & ~short
    variance = _divide(squares, rows.count - from_rows.rank)
    with_priors = infer(ends.information + ends.penalty, variance, bounded | held)
    prior = ends.penalty.any((-2, -1))
    return _Knowledge(
        covariance=_transformed(with_priors.covariance, ends.to_user, identified | prior[:, None]),
        variance=variance,
        condition=from_rows.condition,
        identified=identified,
        at_bound=bounded,
        at_prior=_at_prior(ends.information, ends.penalty, bounded | held),
        short=short,
        held=held,
        prior=prior,
    )


def _at_prior(information: np.ndarray, penalty: np.ndarray, apart: np.ndarray) -> np.ndarray:
    """Whether rows leave a coefficient nearly as wide as its prior [L, k]; those that are set apart are not asked.

    A ratio of standard deviations of one coefficient is the same on any scale, so also on that of its prior.
    """
    if not penalty.any():
        return np.zeros(apart.shape, bool)
    before, after = infer(penalty, 1.0, apart), infer(information + penalty, 1.0, apart)
    with np.errstate(invalid="ignore"):
        return after.standard_errors > _HARDLY_NARROWER * before.standard_errors


def at_bound(spread: list[Coefficient], values: np.ndarray) -> np.ndarray:
    """Whether packed coefficients [..., k], in the units of the solver, stand at a bound."""
    lower, upper = np.array([c.lower for c in spread]), np.array([c.upper for c in spread])
    return (values <= lower + _BOUND) | (values >= upper * (1 - _BOUND))


def _transformed(covariance: np.ndarray, slope: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Covariances in the user's unit by the delta method; NaN stays where a coefficient is not known."""
    blank = ~np.isfinite(np.diagonal(covariance, axis1=-2, axis2=-1)) | ~known
    moved = slope @ np.nan_to_num(covariance) @ slope.swapaxes(-2, -1)
    return np.where(blank[:, None, :] | blank[:, :, None], np.nan, moved)


def _sentences(
    law: Law, layout: Layout, status: np.ndarray, rows: _Rows, known: _Knowledge, same: np.ndarray
) -> tuple[str, ...]:
    names, of_status = np.array(law.names(layout.domains)), {int(one): one.sentence for one in Status}
    remarked = (same | _remarkable(law, rows, known)).tolist()
    return tuple(
        "; ".join([of_status[how], *_SAME[: int(same[lane])], *_remarks(law, names, lane, rows, known)])
        if remarked[lane]
        else of_status[how]
        for lane, how in enumerate(status.tolist())
    )


def _remarkable(law: Law, rows: _Rows, known: _Knowledge) -> np.ndarray:
    """The lanes with observations of which there is anything to remark [L]."""
    few = rows.count < (~known.held).sum(-1)
    one_size = law.sized & (rows.sizes < 2)
    return (rows.count > 0) & (few | one_size | (known.short | ~known.identified | known.at_bound).any(-1))


def _remarks(law: Law, names: np.ndarray, lane: int, rows: _Rows, known: _Knowledge) -> Iterator[str]:
    """What a reader of one lane's coefficients should know, beyond how the solver ended."""
    free, short = int((~known.held[lane]).sum()), known.short[lane]
    if rows.count[lane] < free:
        yield f"too few observations: {rows.count[lane]} for {free} coefficients"
    if law.sized and rows.sizes[lane] < 2:
        yield "one model size, which does not identify how losses depend on it"
    verb = "not identified, set by the prior" if known.prior[lane] else "not identified"
    for name, need, got in _shortages(law, rows, lane) if short.any() else ():
        yield f"{name} {verb}: takes {need}, got {got}"
    apart = names[~known.identified[lane] & ~short]
    if apart.size:
        them = ", ".join(["them", *names[short]])
        why = f"the observations determine only combinations of {them}"
        yield f"{', '.join(apart)} {verb}: {why}"
    yield from (f"{name} at a bound" for name in names[known.at_bound[lane]])


def _shortages(law: Law, rows: _Rows, lane: int) -> Iterator[tuple[str, str, int]]:
    for kind, said in _COUNTED.items():
        got = getattr(rows, kind)[lane]
        lacking = [c for c in law.ordered() if getattr(c, kind) > got]
        if lacking:
            need = max(getattr(c, kind) for c in lacking)
            yield ", ".join(c.name for c in lacking), f"{need} distinct {said}", int(got)
