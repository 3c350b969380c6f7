"""RegMix's predictor beside the laws: gradient-boosted trees of the mixture, one model for each target."""

import dataclasses
import importlib.metadata
import importlib.util

import numpy as np

from bimixjax.comparison import Comparison
from experiments.prediction.cases import Case
from experiments.prediction.config import TREES

# RegMix's settings, without the early stopping on the very runs that are judged; its 512 runs allow larger leaves.
SETTINGS = {"learning_rate": 0.01, "verbosity": -1, "seed": 42, "num_threads": 1}
ROUNDS = 1000
SMALLEST_LEAF, LEAVES_OF = 20, 12


def available() -> bool:
    return importlib.util.find_spec("lightgbm") is not None


def version() -> str:
    """The version of LightGBM, or nothing where it is not installed."""
    return importlib.metadata.version("lightgbm") if available() else ""


def predicted(case: Case, found: Comparison, fitted: tuple[tuple[str, ...], ...]) -> Comparison:
    """The rows of `found` as trees predict them, fold by fold."""
    import lightgbm

    table, losses = case.table, np.full((1, *found.measured.shape), np.nan)
    place = {run: row for row, run in enumerate(table.run.tolist())}
    for fold, runs in enumerate(fitted):
        train, held = [place[run] for run in runs], found.fold == fold
        judged = [place[run] for run in found.run[held].tolist()]
        leaf = max(2, min(SMALLEST_LEAF, len(train) // LEAVES_OF))
        for column, target in enumerate(found.targets):
            known = lightgbm.Dataset(table.proportions[train], table.losses[train, table.targets.index(target)])
            model = lightgbm.train({**SETTINGS, "min_data_in_leaf": leaf}, known, ROUNDS)
            losses[0, held, column] = np.asarray(model.predict(table.proportions[judged]))
    unknown = np.full((1, len(found.group)), np.nan)
    nothing = np.full_like(losses, np.nan)
    return dataclasses.replace(
        found,
        laws=(TREES,),
        level=None,
        predicted=losses,
        lower=nothing,
        upper=nothing,
        at_bound=unknown,
        unconverged=unknown,
    )
