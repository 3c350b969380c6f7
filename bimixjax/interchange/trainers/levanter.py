"""Levanter and Marin: a component per domain, and `train_weights`, staged or not.

Read in marin-community/marin at commit 071105a, lib/levanter/src/levanter/data/mixture.py (the rule of the blocks), and
at 00643f7, .../data/text/datasets.py (`LmDataConfig`: components, train_weights, mixture_block_size = 2048).
"""

import dataclasses
import itertools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from bimixjax._base.checks import InputError
from bimixjax.interchange.apportionment import largest_remainder
from bimixjax.interchange.recipe import Recipe, Source, Stage, Training
from bimixjax.interchange.trainers import parsing
from bimixjax.interchange.trainers.base import Trainer

# `mixture_block_size` of LmDataConfig; MixtureDataset takes less than 2^16.
BLOCK, _MOST_BLOCK = 2048, 2**16 - 1


class Levanter(Trainer):
    """Levanter fixes how many sequences of each domain a block of 2048 has: it divides the numbers by their sum,
    rounds each share of the block down, and gives all that is left to the domain that has most.

    Example:
        >>> import numpy as np
        >>> (Levanter().drawn(np.array([0.5, 0.3, 0.2]), None) * 2048).tolist()
        [1025.0, 614.0, 409.0]
    """

    kind, title, suffixes = "levanter", "Levanter", (".yaml", ".yml")
    phased = True
    usage = "part of the configuration of train_lm; `data` of another file is replaced by it"

    def recognizes(self, found: Any) -> bool:
        """See `train_weights` in the file, or in its `data`."""
        data = parsing.inner(found, "data")
        return isinstance(data, dict) and ("train_weights" in data or "components" in data)

    def read(self, found: Any, names: Mapping[str, str], where: str) -> Recipe:
        """Read `data`, or what stands in it."""
        del names
        data = parsing.mapping(parsing.inner(found, "data"), f"{where}: data")
        key = "configs" if "configs" in data else "components"  # `configs` until 2025
        components = parsing.mapping(data[key], f"{where}: {key}") if data.get(key) else {}
        paths = {name: _paths(component, f"{where}: {key}.{name}") for name, component in components.items()}
        notes = [] if components else ["the file has no components, so that paths cannot be checked"]
        if (given := data.get("train_weights")) is None:
            if not components:
                raise InputError(f"{where} has no train_weights; allowed: numbers by component, or a list of stages")
            given = dict.fromkeys(components, 1.0)
            notes.append("there are no train_weights: Levanter draws from each component alike")
        staged = given if isinstance(given, list) else [[0, given]]
        stages = []
        for i, stage in enumerate(parsing.listed(staged, f"{where}: train_weights")):
            spot = f"{where}: train_weights[{i}]" if isinstance(given, list) else f"{where}: train_weights"
            if not isinstance(stage, list) or len(stage) != 2:
                raise InputError(f"{spot} is {parsing.shown(stage)}; allowed: [step, numbers by component]")
            written = parsing.numbers(stage[1], spot)
            sources = tuple(Source(domain=d, written=w, paths=paths.get(d, ())) for d, w in written.items())
            stages.append(Stage(sources=sources, start=parsing.whole(stage[0], f"{spot}: step")))
        block = parsing.whole(data.get("mixture_block_size", BLOCK), f"{where}: mixture_block_size", 1, _MOST_BLOCK)
        read = Recipe(stages=tuple(stages), block=block)
        unknown = [name for name in read.domains if components and name not in components]
        idle = [name for name in components if name not in read.domains]
        refused = [f"train_weights names {name}, which is no component: Levanter refuses the file" for name in unknown]
        notes += [f"{name} has no number in train_weights: it is never drawn from" for name in idle]
        return dataclasses.replace(read, problems=tuple(refused), notes=tuple(notes))

    def write(self, recipe: Recipe) -> str:
        """Write `data` with components and train_weights."""
        paths = {source.domain: source.paths for stage in recipe.stages for source in stage.sources}
        stages = [[stage.start, {s.domain: s.written for s in stage.sources}] for stage in recipe.stages]
        data: dict[str, Any] = {
            "components": {d: {"source": {"type": "url", "train_urls": list(p)}} for d, p in paths.items()},
            "train_weights": stages[0][1] if len(stages) == 1 else stages,
        }
        data |= {} if recipe.block in (None, BLOCK) else {"mixture_block_size": recipe.block}
        return parsing.dump({"data": data})

    def rounded(self, shares: Float[np.ndarray, " d"], training: Training, block: int | None) -> np.ndarray:
        """Return whole parts of a block; a power of two keeps them exact in floating point."""
        del training
        size = block or BLOCK
        if not 1 <= size <= _MOST_BLOCK or size & (size - 1):
            raise InputError(f"the block is {size}; allowed: a power of two below 65536")
        return largest_remainder(shares, size) / size

    def drawn(self, written: Float[np.ndarray, " d"], block: int | None) -> Float[np.ndarray, " d"]:
        """Return what a block has, as `_compute_expected_counts_per_block` finds it."""
        size = block or BLOCK
        counts = np.floor(written / sum(written.tolist()) * size)
        counts[np.argmax(counts)] += size - counts.sum()
        return counts / size

    def resolution(self, training: Training, block: int | None) -> float | None:
        """Return one sequence of a block."""
        del training
        return 1 / (block or BLOCK)

    def step_unit(self, training: Training, block: int | None) -> int:
        """Return the steps after which a whole number of blocks has been drawn."""
        if training.batch is None:
            raise InputError("a stage of Levanter begins where a block ends; --batch-size says at which step that is")
        size = block or BLOCK
        return size // math.gcd(size, training.batch)

    def problems(self, recipe: Recipe, training: Training) -> list[str]:
        """Check where stages begin: the first at step 0, each later, and all at the end of a block."""
        starts = [stage.start for stage in recipe.stages]
        found = ["the first stage does not begin at step 0: Levanter refuses that"] if starts[0] else []
        if any(later <= earlier for earlier, later in itertools.pairwise(starts)):
            found.append(f"stages begin at steps {starts}; Levanter wants them in order, each at another step")
        size = recipe.block or BLOCK
        for start in starts if training.batch else []:
            if start * (training.batch or 1) % size:
                at = f"a stage begins at step {start}, sequence {start * (training.batch or 1)}"
                found.append(f"{at}, which is no multiple of the block of {size}: Levanter refuses that")
        return found


def _paths(component: Any, where: str) -> tuple[str, ...]:
    """Return the files of a component, or the name of its dataset."""
    source = parsing.inner(component, "source")
    if not isinstance(source, dict):
        return ()
    if source.get("train_urls"):
        return parsing.texts(source["train_urls"], f"{where}.train_urls")
    return (parsing.text(source["id"], f"{where}.id"),) if "id" in source else ()
