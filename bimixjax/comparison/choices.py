"""What would be chosen without a law: the held-out mixture nearest to one that needs none, or the best run trained."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from bimixjax.comparison.rows import Rows
from bimixjax.comparison.schemes import Split
from bimixjax.mixtures import uniform
from bimixjax.observations import Inventory, Observations
from bimixjax.optimization.baselines import NATURAL, UNIFORM, ZERO_RUN, zero_run_values

Values = Float[np.ndarray, " n"]


def orders(
    table: Observations, targets: Sequence[str], inventory: Inventory | None
) -> tuple[dict[str, Values], dict[str, str]]:
    """Order the mixtures of a table without any run: return values by baseline, the least first, and what is missing.

    For natural and uniform, the distance from that mixture, 1 - sum_i sqrt(r_i q_i) (the squared Hellinger distance);
    for zero-run, `zero_run_values` of the targets that are domains.

    Args:
        table: n rows over d domains.
        targets: what counts, all alike.
        inventory: unique tokens; by default those of the table, where all of its runs had the same.
    """
    roots, domains = np.sqrt(table.proportions), table.domains
    found, missing = {UNIFORM: 1 - roots @ np.sqrt(uniform(len(domains)))}, {}
    counts = np.full(len(domains), np.inf) if inventory is None else inventory.array(domains)
    if inventory is None and table.unique is not None and (table.unique == table.unique[:1]).all():
        counts = table.unique[0]
    if np.isfinite(counts).all():
        found[NATURAL] = 1 - roots @ np.sqrt(counts / counts.sum())
    else:
        missing[NATURAL] = "nothing says how many tokens there are of every domain"
    own = np.isin(domains, targets)
    if own.any():
        found[ZERO_RUN] = zero_run_values(table.proportions, own / own.sum())
    else:
        missing[ZERO_RUN] = "no target is a domain"
    return found, missing


def best_trained(rows: Rows, split: Split, objective: Values) -> Float[np.ndarray, "F n"]:
    """Return the objective that was measured, at the size and volume of each row, of the best run that a fold fits.

    Where a fold fits runs at that size and volume, the best of them. Else the run, of the last volume that a fold fits
    of the nearest size, that was best there and has been measured here too. NaN where there is none.

    Args:
        rows: n rows.
        split: F folds.
        objective: measured, NaN where a loss is missing.
    """
    found = np.full(split.fitted.shape, np.nan)
    places = np.column_stack([rows.model_size, rows.volume])
    for fold, fitted in enumerate(split.fitted & np.isfinite(objective)):
        judged = split.held_out[fold] & rows.judged
        for size, volume in np.unique(places[judged], axis=0):
            here = (rows.model_size == size) & (rows.volume == volume)
            trained = fitted & here
            if not trained.any() and fitted.any():
                sizes = rows.model_size[fitted]
                near = fitted & (rows.model_size == sizes[np.argmin(np.abs(np.log(sizes / size)))])
                trained = near & (rows.volume == rows.volume[near].max())
            for row in np.flatnonzero(trained)[np.argsort(objective[trained], kind="stable")]:
                same = here & (rows.mixture == rows.mixture[row]) & np.isfinite(objective)
                if same.any():
                    found[fold, judged & here] = objective[same].mean()
                    break
    return found
