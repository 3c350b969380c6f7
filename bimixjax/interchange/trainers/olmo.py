"""OLMo-core: a source mixture, whose ratios are of tokens.

Read in allenai/OLMo-core at commit 004bb46, src/olmo_core/data/source_mixture.py: ratios must sum to 1 (`np.allclose`),
each source is read at most max_source_fraction x max_repetition_ratio times, and instances are given out by Hamilton's
method.
"""

import math
from collections.abc import Mapping
from typing import Any

from bimixjax._base.checks import InputError, distinct
from bimixjax.interchange.recipe import Recipe, Source, Stage, Training
from bimixjax.interchange.trainers import parsing
from bimixjax.interchange.trainers.base import Trainer


class OLMoCore(Trainer):
    """A list of sources for `SourceMixtureList`."""

    kind, title, suffixes = "olmo-core", "OLMo-core", (".yaml", ".yml")
    zero = "what is left over by rounding goes to any source of OLMo-core's list, one of ratio 0 too"
    # np.allclose(sum, 1.0): 1e-8 + 1e-5.
    sum_within = 1.0e-5
    usage = "a SourceMixtureList, for the source_list of SourceMixtureDatasetConfig"

    def recognizes(self, found: Any) -> bool:
        """See sources with a ratio."""
        sources = parsing.inner(parsing.inner(found, "source_list"), "sources")
        return isinstance(sources, list) and any(isinstance(s, dict) and "target_ratio" in s for s in sources)

    def read(self, found: Any, names: Mapping[str, str], where: str) -> Recipe:
        """Read the list."""
        del names
        sources = []
        listed = parsing.listed(parsing.inner(parsing.inner(found, "source_list"), "sources"), f"{where}: sources")
        for i, one in enumerate(listed):
            spot = f"{where}: sources[{i}]"
            one = parsing.mapping(one, spot)
            repeated = parsing.number(one.get("max_repetition_ratio", 1.0), f"{spot}.max_repetition_ratio")
            fraction = parsing.number(one.get("max_source_fraction", 1.0), f"{spot}.max_source_fraction")
            if repeated < 1 or not 0 < fraction <= 1:
                got = f"{spot} has max_repetition_ratio {repeated:g} and max_source_fraction {fraction:g}"
                raise InputError(f"{got}; allowed: at least 1, and above 0 up to 1")
            sources.append(
                Source(
                    domain=parsing.text(one.get("source_name"), f"{spot}.source_name"),
                    written=parsing.number(one.get("target_ratio"), f"{spot}.target_ratio"),
                    paths=parsing.texts(one.get("paths"), f"{spot}.paths"),
                    most_epochs=repeated * fraction,
                )
            )
        distinct("source_name", [source.domain for source in sources], where)
        return Recipe(stages=(Stage(sources=tuple(sources)),))

    def write(self, recipe: Recipe) -> str:
        """Write the list; repetition is asked for where it is needed."""
        sources = []
        for source in recipe.stages[0].sources:
            one: dict[str, Any] = {"source_name": source.domain, "target_ratio": source.written}
            one["paths"] = list(source.paths)
            if math.isfinite(source.most_epochs) and source.most_epochs > 1:
                one["max_repetition_ratio"] = source.most_epochs
            sources.append(one)
        return parsing.dump({"sources": sources})

    def resolution(self, training: Training, block: int | None) -> float | None:
        """Return one sequence of the training."""
        del block
        return None if training.sequences is None else 1 / training.sequences
