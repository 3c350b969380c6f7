"""Which mixtures a swarm trains: a corpus's baselines, its entropy mixtures, and mixtures spread over the simplex."""

import dataclasses
from collections.abc import Mapping, Sequence

import jax
import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from bimixjax import mixtures
from bimixjax._base.checks import InputError, choice, positive
from bimixjax.corpus import TokenStore
from bimixjax.corpus.entropy import Entropies, entropy_mixture
from bimixjax.proxy import Design

CANDIDATES = 512
MEASURES = ("conditional", "joint", "shannon")
Mixtures = dict[str, Float[np.ndarray, " d"]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spread:
    """Mixtures of a symmetric Dirichlet distribution that lie far from each other.

    Of `CANDIDATES` draws, each mixture is the one whose least Hellinger distance to those already chosen is greatest:
    independent draws would lie near each other by chance, and leave the effects of domains entangled.

    Attributes:
        count: how many; 0 for none.
        concentration: of each domain; 1 is uniform on the simplex, larger is nearer to the uniform mixture.
        seed: of the draws.

    Raises:
        InputError: where a number is out of range.

    Example:
        >>> Spread(count=3).draw({"uniform": [0.5, 0.5]}).keys()
        dict_keys(['spread-1', 'spread-2', 'spread-3'])

    Source: the greedy maximin design of Kennard and Stone (1969).
    """

    count: int = 9
    concentration: float = 6.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.count <= CANDIDATES or self.seed < 0:
            got = f"count {self.count} and seed {self.seed} of spread mixtures"
            raise InputError(f"{got}; allowed: 0 to {CANDIDATES}, and 0 or more")
        positive("concentration", self.concentration)

    def draw(self, beside: Mapping[str, ArrayLike]) -> Mixtures:
        """Return mixtures that are far from each other and from those given, as `spread-1` and so on."""
        chosen = [np.asarray(mixture, np.float64) for mixture in beside.values()]
        strength = np.full(len(chosen[0]), self.concentration)
        candidates = mixtures.dirichlet(jax.random.key(self.seed), strength, CANDIDATES)
        for _ in range(self.count):
            # 1 - sum sqrt(p q) is the square of the Hellinger distance.
            nearest = 1 - (np.sqrt(candidates) @ np.sqrt(chosen).T).max(axis=1)
            chosen.append(candidates[nearest.argmax()])
        return {f"spread-{number}": mixture for number, mixture in enumerate(chosen[len(beside) :], 1)}


def of_counts(tokens: ArrayLike) -> Mixtures:
    """Return the natural and the uniform mixture of domains with so many tokens each.

    Raises:
        InputError: as `mixtures.natural`.

    Example:
        >>> {name: mixture.tolist() for name, mixture in of_counts([3e9, 1e9]).items()}
        {'natural': [0.75, 0.25], 'uniform': [0.5, 0.5]}
    """
    return {"natural": mixtures.natural(tokens), "uniform": mixtures.uniform(np.size(tokens))}


def training_free(
    store: TokenStore, entropies: Mapping[str, Entropies], measures: Sequence[str] = ("conditional",)
) -> Mixtures:
    """Return the natural and the uniform mixture of a corpus, and one entropy mixture per measure.

    Args:
        store: the corpus; its training tokens make the natural mixture.
        entropies: of its domains, as `corpus_entropies` gives them.
        measures: of "conditional", "joint", "shannon"; see `Entropies`.

    Raises:
        InputError: for another measure.

    Example:
        >>> import tempfile
        >>> from bimixjax.corpus.entropy import corpus_entropies
        >>> tokens = {"a": ([0, 0, 0, 0] * 20, [0]), "b": ([0, 1, 1, 0] * 20, [1])}
        >>> store = TokenStore.write(tempfile.mkdtemp() + "/c", tokens, vocab_size=2)
        >>> found = training_free(store, corpus_entropies(store))
        >>> {name: mixture.round(2).tolist() for name, mixture in found.items()}
        {'natural': [0.5, 0.5], 'uniform': [0.5, 0.5], 'conditional-entropy': [0.33, 0.67]}

    Source: arXiv 2405.14908, section 4 and Eq. 13.
    """
    for measure in measures:
        choice("entropy", measure, MEASURES)
    found = of_counts(store.tokens)
    for measure in measures:
        values = [getattr(entropies[domain], measure) for domain in store.domains]
        found[f"{measure}-entropy"] = entropy_mixture(values)
    return found


def make_design(chosen: Mapping[str, ArrayLike], domains: Sequence[str], seeds: Sequence[int] = (0,)) -> Design:
    """Return the design that trains each mixture once per seed.

    A run bears its mixture's name; where there are several seeds, `run_id` adds the seed.

    Args:
        chosen: proportions over `domains` by name.
        domains: their names.
        seeds: of the parameters and of the batches.

    Raises:
        InputError: where `Design.make` finds something wrong.

    Example:
        >>> make_design({"even": [0.5, 0.5]}, ["a", "b"], seeds=[1, 2]).runs
        ('even/seed-1', 'even/seed-2')
    """
    if not seeds:
        raise InputError("seeds are empty; allowed: at least one")
    ids = [run_id(name, seed) if len(seeds) > 1 else name for name in chosen for seed in seeds]
    proportions = [np.asarray(mixture, np.float64) for mixture in chosen.values() for _ in seeds]
    return Design.make(ids, domains, np.array(proportions), [*seeds] * len(chosen))


def run_id(name: str, seed: int) -> str:
    """Return the id of a mixture's run with one of several seeds."""
    return f"{name}/seed-{seed}"
