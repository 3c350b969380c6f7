"""Fit a law to observations: every target, and every model size, in one compiled call."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from bimixjax import _checks
from bimixjax._fit_report import report
from bimixjax._fit_result import FitResult as FitResult
from bimixjax._fit_result import target_loss
from bimixjax._kernel import Ends, Solver, lanes_at_once, solve_lanes, start_grid
from bimixjax._lanes import Lanes, Layout, build, choose_targets
from bimixjax.laws import LAWS, Law
from bimixjax.observations import Observations, Unit
from bimixjax.solve import VarPro


def fit(
    law: Law | str,
    observations: Observations,
    *,
    volume: Unit | None = None,
    targets: Sequence[str] | None = None,
    priors: bool = True,
    solver: Solver | None = None,
) -> FitResult:
    """Fit a law to every target of a table, in float64 and in one compiled call.

    Minimizes, for each target (and each model size, where the law has none), the sum over its observations of
    ((predicted - measured) / measured)^2, plus the weak priors of the law's coefficients.

    Args:
        law: a name in `LAWS`, or a law.
        observations: measured losses.
        volume: "tokens" or "steps"; by default tokens where the table has them, else steps.
        targets: which losses to fit; by default all that the law can describe.
        priors: whether the weak priors take part; without them this is plain least squares.
        solver: `VarPro` (the default, from as many starts as the law has valleys) or `LBFGS`, with their settings.

    Returns:
        The fit, with a status in words for each target.

    Raises:
        InputError: for an unknown law, target or unit of volume, or a target that the law cannot describe.

    Example:
        >>> import pandas as pd
        >>> import bimixjax
        >>> table = {"run": ["a"] * 3 + ["b"] * 3, "step": [1, 4, 16] * 2}
        >>> table |= {"mixture/x": [0.25] * 3 + [0.5] * 3, "mixture/y": [0.75] * 3 + [0.5] * 3}
        >>> table |= {"loss/x": [6.0, 4.0, 3.0, 3 * 2**0.5, 2 * 2**0.5, 1.5 * 2**0.5]}
        >>> fit = bimixjax.fit("bimix", bimixjax.Observations.from_frame(pd.DataFrame(table)), priors=False)
        >>> {name: round(float(value[0]), 4) for name, value in fit.coefficients.items()}
        {'A': 1.0, 'B': 2.0, 'C': 1.0, 'alpha': 0.5, 'beta': 0.5}

    Source: the law of arXiv 2405.14908, Eq. 1-3; the method, Golub and Pereyra (1973).
    """
    chosen = LAWS[_checks.choice("law", law, LAWS)] if isinstance(law, str) else law
    unit = observations.volume_unit(volume)
    names = choose_targets(chosen, observations, None if targets is None else tuple(targets))
    lanes, layout = build(chosen, observations, unit, names)
    starts = start_grid(chosen, len(layout.domains))
    unknowns = starts.shape[1] + len(chosen.part(linear=True))
    with jax.enable_x64(True):
        ends = solve_lanes(
            jax.tree.map(jnp.asarray, lanes),
            jnp.asarray(starts),
            (jnp.asarray(layout.volume_scale), jnp.asarray(layout.size_scale)),
            law=chosen,
            solver=solver or VarPro(starts=chosen.valleys),
            priors=priors,
            chunk=lanes_at_once(lanes.own.shape[0], unknowns, len(lanes.group)),
        )
        ends = jax.tree.map(np.asarray, ends)
    result = report(chosen, layout, lanes, ends, _notes(chosen, observations, names))
    if chosen not in LAWS.values():
        _check_units(result, layout, lanes, ends)
    return result


def _check_units(result: FitResult, layout: Layout, lanes: Lanes, ends: Ends) -> None:
    """Raise where a law of one's own would predict other losses than it was fitted to."""
    used = np.argwhere(lanes.weight.T > 0)
    if not used.size:
        return
    lane, row = used[0]
    size = lanes.group[lane]
    volume, model_size = lanes.volume[row, size] * layout.volume_scale, lanes.model_size[row, size] * layout.size_scale
    loss = float(
        target_loss(result.law)(
            result.values[lane], lanes.domain[lane], lanes.mixture[:, row, size], volume, model_size
        )
    )
    if not np.isclose(loss, ends.predicted[lane, row], rtol=1e-6):
        raise _checks.InputError(
            f"law {result.law.name!r} gives {ends.predicted[lane, row]:g} in the units of the fit and {loss:g} in "
            "those of the table; its with_units must say how its coefficients change"
        )


def _notes(law: Law, observations: Observations, targets: tuple[str, ...]) -> tuple[str, ...]:
    left = [t for t in observations.targets if t not in targets]
    if not left or not law.own_proportion:
        return observations.notes
    note = f"not fitted, since {law.name} needs a target that is a training domain: {', '.join(left)}"
    return (*observations.notes, note)
