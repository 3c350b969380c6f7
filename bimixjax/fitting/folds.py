"""Many weightings of the rows of one table: each is fitted on the rows that it counts, and predicts all of them."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from bimixjax._base.records import record, static
from bimixjax.fitting.diagnostics import at_bound
from bimixjax.fitting.lanes import Group, Lanes, Table, padded_length
from bimixjax.fitting.views import Brief, losses
from bimixjax.laws import Law
from bimixjax.solve import Status


@record
class FoldFits:
    """Losses that one law predicts for every row of a table, fitted in F folds on weighted rows.

    Attributes:
        targets: the columns of `predicted`.
        predicted: losses in the order of the table; NaN where nothing of a row's model size was fitted, infinite where
            the law diverges.
        values: packed coefficients, with volumes and sizes divided by their largest.
        at_bound: whether any fitted coefficient stands at a bound.
        status: how each lane ended.
        rows: observations used.
    """

    targets: tuple[str, ...] = static()
    predicted: Float[np.ndarray, "F N T"]
    values: Float[np.ndarray, "F S T k"]
    at_bound: Bool[np.ndarray, "F S T"]
    status: Int[np.ndarray, "F S T"]
    rows: Int[np.ndarray, "F S T"]


def fold_lanes(table: Table, weights: Float[np.ndarray, "F N"]) -> tuple[Lanes, Int[np.ndarray, "F S"]]:
    """Lay out the lanes of folds whose rows have these weights; rows of weight zero take no part.

    Each distinct weighting of the rows of a model size is one group of lanes; the group of each fold and size is
    returned too.
    """
    groups: list[Group] = []
    numbers = np.empty((len(weights), len(table.by_size)), int)
    for size, rows in enumerate(table.by_size):
        distinct, which = np.unique(weights[:, rows], axis=0, return_inverse=True)
        numbers[:, size] = len(groups) + which.reshape(-1)
        groups += [(rows[each > 0], each[each > 0]) for each in distinct]
    # Nearly as many groups share a compiled fit.
    empty = [(np.array([], int), np.array([]))] * (padded_length(len(groups)) - len(groups))
    return table.lanes(groups + empty), numbers


def fold_fits(law: Law, table: Table, lanes: Lanes, group: Int[np.ndarray, "F S"], ends: Brief) -> FoldFits:
    """Put the solved lanes of all folds into `FoldFits`; arguments are those of `fold_lanes` and what it gave."""
    domains = len(table.observations.domains)
    # From lanes to [F, S, T].
    values, used, status = (
        found.reshape(-1, len(table.targets), *found.shape[1:])[group]
        for found in map(np.asarray, (ends.values, (lanes.weight > 0).sum((0, 1)), ends.status))
    )
    given = np.array([law.fixed(domains, own) for own in table.own])
    return FoldFits(
        targets=table.targets,
        predicted=_predict(law, table, values, used),
        values=values,
        at_bound=(at_bound(law, domains, values) & np.isnan(given)).any(-1) & (used > 0),
        status=np.where(used > 0, status, Status.NO_OBSERVATIONS),
        rows=used,
    )


def _predict(
    law: Law, table: Table, values: Float[np.ndarray, "F S T k"], used: Int[np.ndarray, "F S T"]
) -> Float[np.ndarray, "F N T"]:
    """Predict the losses of all rows of the table in each fold."""
    folds, sizes, targets = used.shape
    whole = table.lanes(table.groups())
    with jax.enable_x64(True):
        flat = np.asarray(losses(law, whole, jnp.asarray(values.reshape(folds, sizes * targets, -1))))
    flat = np.where(used[..., None] > 0, flat.reshape(folds, sizes, targets, -1), np.nan)
    predicted = np.full((folds, len(table.run), targets), np.nan)
    for size, row in enumerate(whole.flat(whole.row).T):
        predicted[:, row[row >= 0]] = flat[:, size][..., row >= 0].swapaxes(1, 2)
    # Lanes leave such rows out.
    return np.where(table.diverges & (table.own_share == 0) & ~np.isnan(predicted), np.inf, predicted)
