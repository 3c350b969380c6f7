"""MosaicML streaming, as LLM Foundry configures it: a stream per domain with its proportion.

Read in mosaicml/streaming at commit 004a43a, streaming/base/stream.py (proportion, never beside repeat or choose), and
its streaming/base/dataset.py (proportions are divided by their sum; counts per epoch are rounded down, and what is left
goes to streams at random); mosaicml/llm-foundry at 00ef82a, llmfoundry/data/text_data.py (`streams` by name).
"""

from collections.abc import Mapping
from typing import Any

from bimixjax._base.checks import InputError
from bimixjax.interchange.recipe import Recipe, Source, Stage, Training
from bimixjax.interchange.trainers import parsing
from bimixjax.interchange.trainers.base import Trainer

_COUNTED = ("repeat", "choose", "samples")


class Streaming(Trainer):
    """`streams` of a dataset. A share is of samples: of tokens where samples were made with --concat_tokens."""

    kind, title, suffixes = "streaming", "MosaicML streaming", (".yaml", ".yml")
    counts = "samples"
    zero = "a Stream's proportion must be positive"
    usage = "`dataset` of a train_loader of LLM Foundry"

    def recognizes(self, found: Any) -> bool:
        """See streams."""
        return isinstance(_streams(found), dict)

    def read(self, found: Any, names: Mapping[str, str], where: str) -> Recipe:
        """Read the streams."""
        del names
        sources = []
        for domain, stream in parsing.mapping(_streams(found), f"{where}: streams").items():
            spot = f"{where}: streams.{domain}"
            stream = parsing.mapping(stream, spot)
            if counted := [key for key in _COUNTED if stream.get(key) is not None]:
                beside = "beside a proportion, which is refused" if "proportion" in stream else "and no proportion"
                raise InputError(f"{spot} has {counted[0]}, a count of samples, {beside}; allowed: proportion")
            places = [stream[key] for key in ("remote", "local") if stream.get(key) is not None]
            if not places:
                raise InputError(f"{spot} has neither remote nor local; allowed: at least one of them")
            written = parsing.number(stream.get("proportion"), f"{spot}.proportion")
            path = parsing.text(places[0], f"{spot}: its place")
            split = f"#{parsing.text(stream['split'], f'{spot}.split')}" if stream.get("split") else ""
            sources.append(Source(domain=domain, written=written, paths=(path + split,)))
        return Recipe(stages=(Stage(sources=tuple(sources)),))

    def write(self, recipe: Recipe) -> str:
        """Write the streams; what lies elsewhere is copied to a local folder first."""
        streams: dict[str, Any] = {}
        for source in recipe.stages[0].sources:
            path = source.paths[0]
            place = {"remote": path, "local": f"cache/{source.domain}"} if "://" in path else {"local": path}
            streams[source.domain] = {**place, "proportion": source.written}
        return parsing.dump({"dataset": {"streams": streams}})

    def resolution(self, training: Training, block: int | None) -> float | None:
        """Return one sample of the training."""
        del block
        return None if training.sequences is None else 1 / training.sequences


def _streams(found: Any) -> Any:
    """Return the streams of a whole configuration, of a loader, of a dataset, or alone."""
    keys = ("train_loader", "dataset", "streams")
    if not isinstance(found, dict) or not set(keys) & set(found):
        return None
    for key in keys:
        found = parsing.inner(found, key)
    return found
