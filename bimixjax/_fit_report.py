"""From solved lanes to a `FitResult`: what each coefficient is, how well it is known, and that in words."""

from dataclasses import dataclass

import numpy as np

from bimixjax._fit_result import FitResult
from bimixjax._kernel import Ends
from bimixjax._lanes import Lanes, Layout
from bimixjax.laws import Coefficient, Law
from bimixjax.solve import Status, infer

# How near a bound a coefficient stands there; gradient solvers reach a bound only in the limit.
_BOUND = 1e-9


@dataclass(frozen=True, kw_only=True)
class _Rows:
    """What one lane was fitted on."""

    count: int
    proportions: int
    volumes: int
    proportion_range: np.ndarray
    volume_range: np.ndarray


@dataclass(frozen=True, kw_only=True)
class _Knowledge:
    """What the rows of one lane say of its coefficients, in the user's unit."""

    covariance: np.ndarray
    variance: float
    condition: float
    identified: np.ndarray
    at_bound: np.ndarray
    sentence: str


def report(law: Law, layout: Layout, lanes: Lanes, ends: Ends, notes: tuple[str, ...]) -> FitResult:
    """Put solved lanes into a `FitResult`."""
    used, loss = lanes.weight.T > 0, lanes.loss.T
    relative = np.where(used, ends.predicted / loss - 1, 0.0)
    rows, cost = used.sum(-1), (relative**2).sum(-1)
    status = np.where(rows > 0, ends.solution.status, Status.NO_OBSERVATIONS)
    facts = [_facts(layout, lanes, lane) for lane in range(len(used))]
    known = [_knowledge(law, layout, ends, lane, facts[lane], cost[lane], status[lane]) for lane in range(len(used))]
    return FitResult(
        law=law,
        domains=layout.domains,
        targets=layout.targets,
        own=layout.own,
        volume_unit=layout.volume_unit,
        model_sizes=layout.sizes,
        sentences=tuple(k.sentence for k in known),
        notes=notes,
        values=np.where(rows[:, None] > 0, ends.user_values, np.nan),
        covariance=np.array([k.covariance for k in known]),
        identified=np.array([k.identified for k in known]),
        at_bound=np.array([k.at_bound for k in known]),
        status=status,
        steps=ends.solution.steps,
        cost=np.where(rows > 0, cost, np.nan),
        rows=rows,
        missing=layout.missing,
        zero=layout.zero,
        residual_scale=np.sqrt([k.variance for k in known]),
        condition=np.array([k.condition for k in known]),
        error=_divide(np.abs(relative).sum(-1), rows),
        r2=_r2(ends.predicted, loss, used),
        proportion_range=np.array([f.proportion_range for f in facts]),
        volume_range=np.array([f.volume_range for f in facts]),
    )


def _divide(top: np.ndarray, count: np.ndarray) -> np.ndarray:
    return np.divide(top, count, out=np.full(len(top), np.nan), where=count > 0)


def _r2(predicted: np.ndarray, loss: np.ndarray, used: np.ndarray) -> np.ndarray:
    center = _divide(np.where(used, loss, 0.0).sum(-1), used.sum(-1))
    total = np.where(used, (loss - center[:, None]) ** 2, 0.0).sum(-1)
    missed = np.where(used, (loss - predicted) ** 2, 0.0).sum(-1)
    return 1 - np.divide(missed, total, out=np.full(len(total), np.nan), where=total > 0)


def _facts(layout: Layout, lanes: Lanes, lane: int) -> _Rows:
    size, used = lanes.group[lane], lanes.weight[:, lane] > 0
    mixture, volume = lanes.mixture[:, used, size], lanes.volume[used, size] * layout.volume_scale
    if not used.any():
        nothing = np.full((len(layout.domains), 2), np.nan)
        return _Rows(count=0, proportions=0, volumes=0, proportion_range=nothing, volume_range=nothing[0])
    return _Rows(
        count=int(used.sum()),
        proportions=len(np.unique(lanes.own[used, lane].round(9))),
        volumes=len(np.unique(volume)),
        proportion_range=np.stack([mixture.min(-1), mixture.max(-1)], -1),
        volume_range=np.array([volume.min(), volume.max()]),
    )


def _knowledge(law: Law, layout: Layout, ends: Ends, lane: int, rows: _Rows, cost: float, status: int) -> _Knowledge:
    domains = len(layout.domains)
    spread = [c for c in law.ordered() for _ in range(c.size(domains))]
    short = np.array([c.proportions > rows.proportions or c.volumes > rows.volumes for c in spread])
    at_bound = _at_bound(spread, ends.values[lane]) & ~short & (rows.count > 0)
    from_rows = infer(ends.information[lane], 1.0, at_bound)
    identified = from_rows.identified & ~short
    freedom = rows.count - from_rows.rank
    variance = cost / freedom if freedom > 0 else np.nan
    with_priors = infer(ends.information[lane] + ends.penalty[lane], variance, at_bound)
    prior = bool(ends.penalty[lane].any())
    return _Knowledge(
        covariance=_transformed(with_priors.covariance, ends.to_user[lane], identified | prior),
        variance=variance,
        condition=from_rows.condition,
        identified=identified,
        at_bound=at_bound,
        sentence=_sentence(law, layout.domains, status, rows, identified, short, at_bound, prior),
    )


def _at_bound(spread: list[Coefficient], values: np.ndarray) -> np.ndarray:
    lower, upper = np.array([c.lower for c in spread]), np.array([c.upper for c in spread])
    return (values <= lower + _BOUND) | (values >= upper * (1 - _BOUND))


def _transformed(covariance: np.ndarray, slope: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Covariance in the user's unit by the delta method; NaN stays where a coefficient is not known."""
    blank = ~np.isfinite(np.diag(covariance)) | ~known
    moved = slope @ np.nan_to_num(covariance) @ slope.T
    moved[blank] = np.nan
    moved[:, blank] = np.nan
    return moved


def _sentence(
    law: Law,
    domains: tuple[str, ...],
    status: int,
    rows: _Rows,
    identified: np.ndarray,
    short: np.ndarray,
    at_bound: np.ndarray,
    prior: bool,
) -> str:
    if status == Status.NO_OBSERVATIONS:
        return Status.NO_OBSERVATIONS.sentence
    names = np.array(law.names(domains))
    said = [Status(status).sentence]
    if rows.count < len(names):
        said.append(f"too few observations: {rows.count} for {len(names)} coefficients")
    verb = "not identified, resting on the prior" if prior else "not identified"
    for name, need, got in _shortages(law, rows):
        said.append(f"{name} {verb}: takes {need}, got {got}")
    apart = names[~identified & ~short]
    if apart.size:
        why = "known only together with these" if short.any() else "the observations do not tell them apart"
        said.append(f"{', '.join(apart)} {verb}: {why}")
    said += [f"{name} at a bound" for name in names[at_bound]]
    return "; ".join(said)


def _shortages(law: Law, rows: _Rows) -> list[tuple[str, str, int]]:
    found = []
    for kind, got in (("proportions", rows.proportions), ("volumes", rows.volumes)):
        lacking = [c for c in law.ordered() if getattr(c, kind) > got]
        if lacking:
            need = max(getattr(c, kind) for c in lacking)
            found.append((", ".join(c.name for c in lacking), f"{need} distinct {kind}", got))
    return found
