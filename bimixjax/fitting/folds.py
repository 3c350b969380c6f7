"""Many weightings of the rows of one table: each is fitted on the rows that it counts, and predicts all of them."""

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np

from bimixjax._base.records import Leaf, record, static
from bimixjax.fitting.diagnostics import at_bound
from bimixjax.fitting.lanes import Group, Lanes, Layout, Table, padded_length
from bimixjax.fitting.views import Scaled, losses
from bimixjax.laws import Law
from bimixjax.solve import Status


@record
class FoldFits:
    """Losses that one law predicts for every row of a table, fitted in F folds on weighted rows.

    Args:
        targets: the columns of `predicted`.
        predicted: losses [F, n, T] in the order of the table; NaN where nothing of a row's model size was fitted,
            infinite where the law diverges.
        values: packed coefficients, with volumes and sizes divided by their largest [F, S, T, k].
        at_bound: whether any fitted coefficient stands at a bound [F, S, T].
        status: how each lane ended [F, S, T].
        rows: observations used [F, S, T].
    """

    targets: tuple[str, ...] = static()
    predicted: Leaf
    values: Leaf
    at_bound: Leaf
    status: Leaf
    rows: Leaf


@dataclass(frozen=True, kw_only=True)
class Folded:
    """The lanes of all folds: one group for each distinct weighting of the rows of a model size.

    Args:
        lanes, layout: those of the groups.
        group: which group each fold and size is [F, S].
    """

    lanes: Lanes
    layout: Layout
    group: np.ndarray

    @classmethod
    def of(cls, table: Table, weights: np.ndarray) -> "Folded":
        """The lanes of folds with the given weights of rows [F, N]; rows that count nothing take no part."""
        groups: list[Group] = []
        numbers = np.empty((len(weights), len(table.by_size)), int)
        for size, rows in enumerate(table.by_size):
            distinct, which = np.unique(weights[:, rows], axis=0, return_inverse=True)
            numbers[:, size] = len(groups) + which.reshape(-1)
            groups += [Group(rows=rows[each > 0], weight=each[each > 0]) for each in distinct]
        nothing = Group(rows=np.array([], int), weight=np.array([]))
        # Nearly as many groups share a compiled fit.
        lanes, layout = table.lanes(groups + [nothing] * (padded_length(len(groups)) - len(groups)))
        return cls(lanes=lanes, layout=layout, group=numbers)

    def by_fold(self, values: np.ndarray, targets: int) -> np.ndarray:
        """What was found for each lane [L, ...], by fold, size and target [F, S, T, ...]."""
        return values.reshape(-1, targets, *values.shape[1:])[self.group]


def fold_fits(law: Law, table: Table, folded: Folded, ends: Scaled) -> FoldFits:
    """What the solved lanes of all folds say of every row of the table."""
    count, domains = len(table.targets), len(table.observations.domains)
    values, used, status = (
        folded.by_fold(found, count) for found in (ends.values, (folded.lanes.weight > 0).sum((0, 1)), ends.status)
    )
    spread = [c for c in law.ordered() for _ in range(c.size(domains))]
    held = np.array([law.fixed(domains, own) for own in table.own])
    return FoldFits(
        targets=table.targets,
        predicted=_predicted(law, table, values, used),
        values=values,
        at_bound=(at_bound(spread, values) & np.isnan(held)).any(-1) & (used > 0),
        status=np.where(used > 0, status, Status.NO_OBSERVATIONS),
        rows=used,
    )


def _predicted(law: Law, table: Table, values: np.ndarray, used: np.ndarray) -> np.ndarray:
    """The losses of all rows [F, N, T] at coefficients [F, S, T, k]."""
    folds, sizes, targets = used.shape
    whole, _ = table.lanes(table.whole())
    flat = np.asarray(losses(law, whole, jnp.asarray(values.reshape(folds, sizes * targets, -1))))
    flat = np.where(used[..., None] > 0, flat.reshape(folds, sizes, targets, -1), np.nan)
    predicted = np.full((folds, len(table.run), targets), np.nan)
    for size, row in enumerate(np.moveaxis(whole.row, -1, 0).reshape(sizes, -1)):
        predicted[:, row[row >= 0]] = flat[:, size][..., row >= 0].swapaxes(1, 2)
    if law.diverges_at_zero:
        predicted = np.where((table.own_shares == 0) & ~np.isnan(predicted), np.inf, predicted)
    return predicted
