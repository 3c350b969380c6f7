"""Small models or large ones: what to spend on runs, where mixtures are judged at 410M parameters."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from bimixjax.planning.improvement import Improvement
from bimixjax.planning.process import MeanLoss
from experiments.planning.choices import at_random
from experiments.planning.config import COSTS, DRAWS, GROUPS
from experiments.planning.constants import read_constants
from experiments.planning.losses import Runs, read

OFFERED = {"410M only": GROUPS[-1:], "70M to 410M": GROUPS}


def rows(folder: Path) -> Iterator[list[str]]:
    """Return the regret of the mixture of least expected loss, by what is offered, cost in runs of 410M, and draw."""
    sized = {table.model_size: read(folder, table) for table in GROUPS}
    for name, tables in OFFERED.items():
        sizes = [table.model_size for table in tables]
        for draw in DRAWS:
            for cost, regret in spent(sized, sizes, draw):
                yield [GROUPS[-1].name, name, f"{cost:g}", str(draw), f"{regret:.6g}"]


def spent(sized: dict[float, Runs], sizes: list[float], draw: int) -> Iterator[tuple[float, float]]:
    """Begin with two random runs of the smallest size, add what improves most per cost, yield at each of `COSTS`."""
    largest = max(sized)
    judged, constants = sized[largest], read_constants(GROUPS[0].family)
    chosen = [(row, sizes[0]) for row in at_random(judged, 2, draw)]
    weights = np.full(len(judged.own), 1 / len(judged.own))
    left = list(COSTS)
    while left:
        process = MeanLoss.of(
            judged.mixtures[[row for row, _ in chosen]],
            np.array([sized[size].losses[row] for row, size in chosen]),
            judged.own,
            weights,
            constants,
            np.log([size for _, size in chosen]),
            float(np.log(largest)),
        )
        regret = judged.regret([int(process.expected(judged.mixtures).argmin())])
        # The next run, at its cost in runs of the largest size.
        per_cost = [Improvement.of(process, np.log(size)).logs(judged.mixtures) - np.log(size) for size in sizes]
        values = np.stack(per_cost)
        for row, size in chosen:
            values[sizes.index(size), row] = -np.inf
        best, row = np.unravel_index(values.argmax(), values.shape)
        cost = sum(size for _, size in chosen) / largest
        while left and cost + sizes[best] / largest > left[0] + 1e-9:
            yield left.pop(0), regret
        chosen.append((int(row), sizes[best]))
