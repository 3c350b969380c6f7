"""The keywords of `fit`, which every function that fits a table takes."""

from collections.abc import Mapping, Sequence
from typing import TypedDict

from bimixjax.fitting.criterion import Criterion
from bimixjax.observations import Unit
from bimixjax.solve import LBFGS, VarPro

Solver = VarPro | LBFGS


class TableOptions(TypedDict, total=False):
    """What of a table is fitted.

    Attributes:
        volume: "tokens" or "steps"; by default tokens where the table has them, else steps.
        targets: which losses to fit; by default all that the law can describe.
    """

    volume: Unit | None
    targets: Sequence[str] | None


class FoldOptions(TableOptions, total=False):
    """How a single law is fitted to a table with given weights of its rows.

    Attributes:
        volume, targets: see `TableOptions`.
        priors: whether the weak priors take part; without them this is plain least squares.
        criterion: relative or absolute residuals, squared or Huber's; by default squared relative ones.
        solver: `VarPro` (the default, from as many starts as the law needs) or `LBFGS`, with their settings, of which
            `precision` says in which numbers they iterate.
    """

    priors: bool
    criterion: Criterion | None
    solver: Solver | None


class FitOptions(FoldOptions, total=False):
    """How a single law is fitted to a table.

    Attributes:
        volume, targets, priors, criterion, solver: see `FoldOptions`.
        weights: by run, what its squared residuals count; 1 for a run not named.
    """

    weights: Mapping[str, float] | None
