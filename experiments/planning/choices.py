"""Choose among the runs of a table, as if they were trained when chosen."""

from collections.abc import Callable

import jax
import numpy as np

from bimixjax import Limits
from bimixjax.optimization.baselines import zero_run_values
from bimixjax.planning import beginning, improvement
from bimixjax.planning.process import Constants, MeanLoss
from bimixjax.planning.space import Space
from experiments.planning.losses import Runs


def space(runs: Runs, rows: np.ndarray) -> Space:
    """Return what is left to choose among."""
    everywhere = Limits().region(runs.observations.domains)
    return Space.of(runs.mixtures[rows], everywhere, runs.observations.domains, 0, jax.random.key(0))


def own_weights(runs: Runs) -> np.ndarray | None:
    """Return the weight of the target that is each domain; None for tasks."""
    if runs.own.max() < 0:
        return None
    return np.bincount(runs.own, minlength=runs.mixtures.shape[1]) / len(runs.own)


def from_nothing(runs: Runs, count: int) -> list[int]:
    """Return the rows of a first plan."""
    return beginning.begin(space(runs, np.arange(len(runs.mixtures))), own_weights(runs), count, None).rows


def onward(runs: Runs, constants: Constants, chosen: list[int], count: int, together: int = 1) -> list[int]:
    """Choose until there are `count` runs, some together, by expected improvement."""
    weights = np.full(len(runs.own), 1 / len(runs.own))
    while len(chosen) < count:
        left = np.setdiff1d(np.arange(len(runs.mixtures)), chosen)
        seen = runs.mixtures[chosen], runs.losses[chosen], runs.own, weights
        assumed = constants.alternatives() if runs.table.tasks else (constants,)
        processes = [MeanLoss.of(*seen, each) for each in assumed]
        found = improvement.batch(space(runs, left), processes, {1.0: 1.0}, min(together, count - len(chosen)))
        chosen = [*chosen, *left[found.rows].tolist()]
    return chosen


def at_random(runs: Runs, count: int, draw: int) -> list[int]:
    """Return rows drawn as all studies of these tables draw them."""
    random = np.random.default_rng(1000 * count + draw)
    return random.choice(len(runs.mixtures), count, replace=False).tolist()


def zero_run(runs: Runs, count: int) -> list[int]:
    """Return the first rows of the zero-run order."""
    weights = own_weights(runs)
    if weights is None:
        raise ValueError(f"{runs.table.name} has no target that is a domain")
    return np.argsort(zero_run_values(runs.mixtures, weights), kind="stable")[:count].tolist()


def d_optimal(runs: Runs, count: int, first: int) -> list[int]:
    """Add to a first run the ones that most enlarge det(1e-3 I + sum r r'), of a law that is linear in the shares."""
    chosen = [first]
    while len(chosen) < count:
        known = runs.mixtures[chosen]
        inverse = np.linalg.inv(1e-3 * np.eye(known.shape[1]) + known.T @ known)
        gain = np.einsum("ij,jk,ik->i", runs.mixtures, inverse, runs.mixtures)
        gain[chosen] = -1.0
        chosen.append(int(gain.argmax()))
    return chosen


Choose = Callable[[Runs, Constants, int, int], list[int]]


def _random_then(together: int) -> Choose:
    return lambda runs, constants, count, draw: onward(runs, constants, at_random(runs, 2, draw), count, together)


def _begun_then(together: int) -> Choose:
    return lambda runs, constants, count, draw: onward(runs, constants, from_nothing(runs, 2), count, together)


METHODS: dict[str, Choose] = {
    "random": lambda runs, constants, count, draw: at_random(runs, count, draw),
    "zero-run order": lambda runs, constants, count, draw: zero_run(runs, count),
    "2 random, then one by one": _random_then(1),
    "2 random, then in twos": _random_then(2),
    "from nothing, all at once": lambda runs, constants, count, draw: from_nothing(runs, count),
    "from nothing 2, then one by one": _begun_then(1),
    "from nothing 2, then in twos": _begun_then(2),
}
# Runs that `auto` then reads.
DESIGNS: dict[str, Choose] = {
    "random": METHODS["random"],
    "D-optimal": lambda runs, constants, count, draw: d_optimal(runs, count, at_random(runs, 1, draw)[0]),
    "planned from nothing": METHODS["from nothing, all at once"],
    "planned from nothing, half of them from losses": lambda runs, constants, count, draw: onward(
        runs, constants, from_nothing(runs, count // 2), count
    ),
    "planned from 2 random": METHODS["2 random, then one by one"],
}


def depends_on_draw(method: str) -> bool:
    """Say whether a method begins with random runs."""
    return "nothing" not in method and method != "zero-run order"
