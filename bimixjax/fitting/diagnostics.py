"""From solved lanes to a `FitResult`: the coefficients, their covariance, what is identified, and that in words."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from bimixjax._base.arrays import Stored
from bimixjax.fitting.constant import LEAST_GAIN, gain
from bimixjax.fitting.coverage import companions, losses_differ, notes as coverage_notes, share_range
from bimixjax.fitting.lanes import Lanes, Table, numbered
from bimixjax.fitting.result import FitResult
from bimixjax.fitting.views import Ends
from bimixjax.laws import Law
from bimixjax.solve import Status, infer

# How near a bound a coefficient stands there; gradient solvers reach a bound only in the limit.
_BOUND = 1e-9

# A coefficient whose posterior is this wide beside its prior, in standard deviations, rests on the prior.
_HARDLY_NARROWER = 0.9

# What a coefficient may take several distinct values of, as a field of `Coefficient` and in words.
_COUNTED = {"proportions": "proportions", "volumes": "volumes", "sizes": "model sizes"}

_SENTENCES = {int(status): status.sentence for status in Status}

# How many distinct values of each of these the rows of a lane have.
_Counts = Mapping[str, Int[np.ndarray, " L"]]


def report(law: Law, table: Table, lanes: Lanes, ends: Ends, notes: tuple[str, ...]) -> FitResult:
    """Put solved lanes into a `FitResult`."""
    used, loss = lanes.flat(lanes.weight).T > 0, lanes.flat(lanes.loss).T
    rows, domains = used.sum(1), table.observations.domains
    # What coefficients that are not fitted are, else NaN.
    given = np.tile([law.fixed(len(domains), own) for own in table.own], (len(used) // len(table.own), 1))
    fixed, counts = ~np.isnan(given), _counts(law, table, lanes)
    needed = np.array([(c.proportions, c.volumes, c.sizes) for c in law.packed(len(domains))])
    short = (needed > np.stack([counts[kind] for kind in _COUNTED], axis=1)[:, None]).any(-1) & ~fixed
    gained = gain(law, lanes, ends, counts["proportions"])
    status = np.where(rows > 0, ends.solution.status, Status.NO_OBSERVATIONS)
    status = np.where((status == Status.CONVERGED) & (gained < LEAST_GAIN), Status.CONSTANT, status)
    missing, zero = table.unusable(lanes.row)
    residual = np.where(used, ends.predicted - loss, 0.0)
    from_mean = np.where(used, loss - _divide(np.where(used, loss, 0.0).sum(1), rows)[:, None], 0.0)
    total = (from_mean**2).sum(1)
    result = FitResult(
        law=law,
        domains=domains,
        targets=table.targets,
        own=table.own,
        volume_unit=table.unit,
        model_sizes=table.observations.model_sizes,
        sentences=(),
        notes=notes,
        values=np.where(rows[:, None] > 0, np.where(fixed, given, ends.user_values), np.nan),
        status=status,
        steps=ends.solution.steps,
        cost=np.where(rows > 0, ends.cost, np.nan),
        rows=rows,
        missing=missing.sum((0, 1)),
        zero=zero.sum((0, 1)),
        error=_divide(np.abs(residual / loss).sum(1), rows),
        r2=1 - _divide((residual**2).sum(1), total),
        volumes=counts["volumes"],
        **_covered(law, table, lanes),
        **_inferred(law, domains, ends, ((residual * ends.factor) ** 2).sum(1), rows, fixed, short),
    )
    sentences = _sentences(result, counts, short, (~fixed).sum(1), np.any(ends.penalty, (1, 2)), np.isnan(gained))
    return replace(result, sentences=sentences, notes=(*notes, *coverage_notes(result.coverage, domains)))


def _divide(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    return np.divide(top, bottom, out=np.full(len(top), np.nan), where=bottom > 0)


def _counts(law: Law, table: Table, lanes: Lanes) -> _Counts:
    """Count the distinct values that the rows of each lane have of what coefficients depend on."""
    used = lanes.flat(lanes.weight) > 0
    mixture = lanes.flat(lanes.mixture).round(9)
    if law.own_proportion and not law.cross_domain:
        proportion = lanes.flat(lanes.own).round(9)
    else:
        # Equal mixtures have equal numbers.
        numbers = numbered(mixture.reshape(len(mixture), -1).T)
        proportion = numbers.reshape(mixture.shape[1:])[:, lanes.group]
    volume, size = lanes.flat(lanes.volume)[:, lanes.group], lanes.flat(lanes.model_size)[:, lanes.group]
    found = {}
    for kind, values in {"proportions": proportion, "volumes": volume * table.scales[0], "sizes": size}.items():
        ordered = np.sort(np.where(used, values, np.nan), axis=0)
        found[kind] = (ordered[1:] > ordered[:-1]).sum(0) + used.any(0)
    return found


def _covered(law: Law, table: Table, lanes: Lanes) -> dict[str, Any]:
    """Return the fields of a `FitResult` that say what mixtures and volumes each lane was fitted on; see `Coverage`."""
    used, loss, place = lanes.flat(lanes.weight) > 0, lanes.flat(lanes.loss), lanes.places()
    mixture, volume = lanes.flat(lanes.mixture), lanes.flat(lanes.volume) * table.scales[0]
    companion, varies = np.zeros((used.shape[1], len(mixture)), int), np.zeros(used.shape[1], bool)
    of_size = np.zeros(place.shape, bool)
    for size in range(place.shape[1]):
        mine = lanes.group == size
        companion[mine] = companions(mixture[..., size], used[:, mine])
        varies[mine] = losses_differ(place[:, size], loss[:, mine], used[:, mine])
        of_size[:, size] = used[:, mine].any(1)
    mixtures = mixture[:, of_size].T
    epochs = (
        np.zeros(mixture.shape) if lanes.unique is None else lanes.flat(lanes.mixture * lanes.volume / lanes.unique)
    )
    return {
        "proportion_range": np.moveaxis(share_range(mixture[..., lanes.group], used), 0, 1),
        "volume_range": share_range(volume[:, lanes.group], used),
        "epochs": np.moveaxis(share_range(epochs[..., lanes.group], used), 0, 1)[..., 1] if law.reads_unique else (),
        "mixtures": mixtures[np.unique(mixtures.round(9), axis=0, return_index=True)[1]],
        "companion": companion,
        "varies": varies,
    }


def _inferred(
    law: Law,
    domains: tuple[str, ...],
    ends: Ends,
    squares: Float[np.ndarray, " L"],
    rows: Int[np.ndarray, " L"],
    fixed: Bool[np.ndarray, "L k"],
    short: Bool[np.ndarray, "L k"],
) -> dict[str, Any]:
    """Return the fields of a `FitResult` that say how well the rows determine its coefficients.

    Rows alone decide what is identified. With J'J of the residuals, P of the priors, v = squares / (rows - rank of J)
    and D the derivative of the coefficients in the user's units by those of the solver (the delta method),

        covariance = D v (J'J + P)^-1 D'.
    """
    information, penalty, to_user = np.asarray(ends.information), np.asarray(ends.penalty), np.asarray(ends.to_user)
    bounded = at_bound(law, len(domains), np.asarray(ends.values)) & ~short & ~fixed & (rows > 0)[:, None]
    absent = bounded | fixed
    from_rows = infer(information, 1.0, absent)
    identified = from_rows.identified & ~short
    variance = _divide(squares, rows - from_rows.rank)
    covariance = infer(information + penalty, variance, absent).covariance
    prior = np.any(penalty, axis=(1, 2))[:, None]
    blank = ~np.isfinite(np.diagonal(covariance, axis1=1, axis2=2)) | ~(identified | prior)
    covariance = to_user @ np.nan_to_num(covariance) @ to_user.swapaxes(1, 2)
    at_prior = np.zeros(absent.shape, bool)
    if penalty.any():
        # A ratio of standard deviations of one coefficient is the same on any scale, so also on that of its prior.
        before, after = infer(penalty, 1.0, absent), infer(information + penalty, 1.0, absent)
        with np.errstate(invalid="ignore"):
            at_prior = after.standard_errors > _HARDLY_NARROWER * before.standard_errors
    return {
        "covariance": np.where(blank[:, None, :] | blank[:, :, None], np.nan, covariance),
        "residual_scale": np.sqrt(variance),
        "condition": from_rows.condition,
        "identified": identified,
        "at_bound": bounded,
        "at_prior": at_prior,
    }


def at_bound(law: Law, domains: int, values: Float[Stored, "*lanes k"]) -> Any:
    """Find which packed coefficients, in the units of the solver, stand at a bound."""
    lower, upper = np.array([(c.lower, c.upper) for c in law.packed(domains)]).T
    return (values <= lower + _BOUND) | (values >= upper * (1 - _BOUND))


def _sentences(
    fit: FitResult,
    counts: _Counts,
    short: Bool[np.ndarray, "L k"],
    free: Int[np.ndarray, " L"],
    prior: Bool[np.ndarray, " L"],
    same: Bool[np.ndarray, " L"],
) -> tuple[str, ...]:
    """Say how each lane ended, and what to know of its `free` coefficients.

    Args:
        fit: whose sentences these are.
        counts: of distinct values.
        short: what takes more of them.
        free: how many coefficients were fitted.
        prior: whether priors took part.
        same: whether losses are the same for all mixtures.
    """
    sentences = [_SENTENCES[status] for status in fit.status.tolist()]
    one_size = fit.law.sized & (counts["sizes"] < 2)
    doubtful = (fit.rows < free) | one_size | (short | ~fit.identified | fit.at_bound).any(1)
    for lane in np.flatnonzero(same | (doubtful & (fit.rows > 0))).tolist():
        remarks = ["the losses are the same for all mixtures"] if same[lane] else []
        if fit.rows[lane] < free[lane]:
            remarks.append(f"too few observations: {fit.rows[lane]} for {free[lane]} coefficients")
        if one_size[lane]:
            remarks.append("one model size, which does not identify how losses depend on it")
        verb = "not identified, set by the prior" if prior[lane] else "not identified"
        remarks += _unidentified(fit, lane, counts, short[lane], verb)
        remarks += [f"{name} at a bound" for name in np.array(fit.names)[fit.at_bound[lane]]]
        sentences[lane] = "; ".join([sentences[lane], *remarks])
    return tuple(sentences)


def _unidentified(
    fit: FitResult, lane: int, counts: _Counts, short: Bool[np.ndarray, " k"], verb: str
) -> Iterator[str]:
    """Say which coefficients of a lane its rows do not identify, and why."""
    for kind, words in _COUNTED.items() if short.any() else ():
        got = int(counts[kind][lane])
        if lacking := [c for c in fit.law.ordered() if getattr(c, kind) > got]:
            need = max(getattr(c, kind) for c in lacking)
            yield f"{', '.join(c.name for c in lacking)} {verb}: takes {need} distinct {words}, got {got}"
    names = np.array(fit.names)
    combined = names[~fit.identified[lane] & ~short]
    if combined.size:
        them = ", ".join(["them", *names[short]])
        yield f"{', '.join(combined)} {verb}: the observations determine only combinations of {them}"
