"""Megatron-LM, NeMo Automodel and GPT-NeoX: numbers and prefixes of tokenized corpora, drawn as evenly as can be.

Read in NVIDIA/Megatron-LM at commit 00caa53, megatron/core/datasets/utils.py (`get_blend_from_list`, `normalize`), and
019eddb, megatron/training/utils/common_utils.py (`get_blend_and_blend_per_split`); NVIDIA-NeMo/Automodel at 0ab1c40,
nemo_automodel/components/datasets/llm/megatron_dataset.py; EleutherAI/gpt-neox at 007d6d0, megatron/data/data_utils.py.
Each sequence comes from the domain that is furthest behind its share, so that counts are within about one of it.
"""

import json
from collections.abc import Mapping
from typing import Any

from bimixjax._base.checks import InputError
from bimixjax.interchange.recipe import Recipe, Source, Stage, Training, named
from bimixjax.interchange.trainers import parsing
from bimixjax.interchange.trainers.base import Trainer

_DATASET = "nemo_automodel.components.datasets.llm.megatron_dataset.MegatronPretraining"
_SPLITS = ("train", "valid", "test")
# GPT-NeoX numbers datasets in 8 bits and leaves one value out: `assert num_datasets < 255`.
_MOST_OF_NEOX = 254


class Blend(Trainer):
    """What all have in common."""

    zero = "a domain of share 0 has no sequence to build an index of (NVIDIA/Megatron-LM#705)"

    def resolution(self, training: Training, block: int | None) -> float | None:
        """Return one sequence of the training."""
        del block
        return None if training.sequences is None else 1 / training.sequences


class MegatronArguments(Blend):
    """The words of `--data-path`, in a file for `--data-args-path`: a number before each prefix.

    Example:
        >>> found = MegatronArguments().read("0.3 a/web_text_document 0.7 a/code_text_document", {}, "blend.txt")
        >>> [(source.domain, source.written) for source in found.stages[0].sources]
        [('web', 0.3), ('code', 0.7)]
    """

    kind, title, suffixes = "megatron", "Megatron-LM (arguments)", (".txt",)
    usage = "--data-args-path FILE, or its words behind --data-path"

    def recognizes(self, found: Any) -> bool:
        """Take what is text and has no marks of another kind."""
        return isinstance(found, str) and ";" not in found and "=" not in found and len(found.split()) > 1

    def read(self, found: Any, names: Mapping[str, str], where: str) -> Recipe:
        """Read words; those before `--data-path` and from the next option on are left out."""
        words = str(found).split()
        if "--data-path" in words:
            words = words[words.index("--data-path") + 1 :]
            after = [i for i, word in enumerate(words) if word.startswith("--")]
            words = words[: after[0]] if after else words
        return Recipe(stages=(_blend(words, names, where),))

    def write(self, recipe: Recipe) -> str:
        """Write a line per domain; Megatron splits at any white space."""
        return "".join(f"{_plain(s.written)} {s.paths[0]}\n" for s in recipe.stages[0].sources)

    def allowed_path(self, path: str) -> str:
        """Return a path without white space."""
        if path.split() != [path]:
            raise InputError(f"the path {path!r} has white space, at which Megatron splits its arguments")
        return super().allowed_path(path)


class MegatronSplits(Blend):
    """The JSON of `--per-split-data-args-path`: such words under train, valid and test; all three must be there."""

    kind, title, suffixes = "megatron", "Megatron-LM (per split)", (".json",)
    usage = "--per-split-data-args-path FILE; fill in valid and test"

    def recognizes(self, found: Any) -> bool:
        """See train beside valid or test."""
        return isinstance(found, dict) and "train" in found and bool({"valid", "test"} & set(found))

    def read(self, found: Any, names: Mapping[str, str], where: str) -> Recipe:
        """Read the words of train."""
        document = parsing.mapping(found, where)
        lacking = [split for split in _SPLITS if split not in document]
        problems = [f"there is no {' and no '.join(lacking)}: Megatron stops with a KeyError"] if lacking else []
        train = document.get("train")
        words = train.split() if isinstance(train, str) else list(parsing.texts(train, f"{where}: train"))
        return Recipe(stages=(_blend(words, names, f"{where}: train"),), problems=tuple(problems))

    def write(self, recipe: Recipe) -> str:
        """Write train; valid and test are null, which Megatron takes for none."""
        words = [word for s in recipe.stages[0].sources for word in (_plain(s.written), s.paths[0])]
        return json.dumps({"train": words, "valid": None, "test": None}, indent=2) + "\n"


class NeMo(Blend):
    """The `paths` of NeMo Automodel's `MegatronPretraining`: the same words in a list."""

    kind, title, suffixes = "nemo", "NeMo Automodel", (".yaml", ".yml")
    usage = "`dataset` of a pretraining recipe; its split, 900,50,50 unless given, holds sequences out of each domain"

    def recognizes(self, found: Any) -> bool:
        """See `paths`, in a dataset or alone."""
        dataset = parsing.inner(found, "dataset")
        return isinstance(dataset, dict) and "paths" in dataset

    def read(self, found: Any, names: Mapping[str, str], where: str) -> Recipe:
        """Read a list, or that of train."""
        dataset = parsing.mapping(parsing.inner(found, "dataset"), f"{where}: dataset")
        paths = dataset.get("paths")
        problems = []
        if isinstance(paths, dict):
            lacking = [split for split in ("train", "validation", "test") if split not in paths]
            problems += [f"paths has no {' and no '.join(lacking)}: NeMo stops with a KeyError"] if lacking else []
            paths = paths.get("train")
        items = [paths] if isinstance(paths, str) else parsing.listed(paths, f"{where}: paths")
        words = [str(item) if isinstance(item, int | float) and not isinstance(item, bool) else item for item in items]
        words = list(parsing.texts(words, f"{where}: paths"))
        return Recipe(stages=(_blend(words, names, f"{where}: paths"),), problems=tuple(problems))

    def write(self, recipe: Recipe) -> str:
        """Write a dataset."""
        words = [word for s in recipe.stages[0].sources for word in (_plain(s.written), s.paths[0])]
        return parsing.dump({"dataset": {"_target_": _DATASET, "paths": words}})


class GPTNeoX(Blend):
    """`train-data-paths` and `train-data-weights` of GPT-NeoX."""

    kind, title, suffixes = "gpt-neox", "GPT-NeoX", (".yml", ".yaml", ".json")
    usage = "one of the files after -d; valid-data-paths and test-data-paths, with weights, must stand in another"

    def recognizes(self, found: Any) -> bool:
        """See `train-data-paths`, with dashes or underscores."""
        return isinstance(found, dict) and "train_data_paths" in _underscored(found)

    def read(self, found: Any, names: Mapping[str, str], where: str) -> Recipe:
        """Read paths and numbers of as many."""
        document = _underscored(parsing.mapping(found, where))
        paths = parsing.texts(document.get("train_data_paths"), f"{where}: train-data-paths")
        given = document.get("train_data_weights")
        problems, notes = [], []
        if given is None:
            given = [1.0] * len(paths)
            notes.append("there are no train-data-weights: GPT-NeoX draws from each path alike")
        numbers = parsing.listed(given, f"{where}: train-data-weights")
        if len(numbers) != len(paths):
            raise InputError(f"{where} has {len(paths)} train-data-paths and {len(numbers)} train-data-weights")
        if document.get("weight_by_num_documents"):
            problems.append("weight-by-num-documents is on: GPT-NeoX weighs by documents, and not by these numbers")
        if len(paths) > _MOST_OF_NEOX:
            problems.append(f"{len(paths)} paths: GPT-NeoX takes {_MOST_OF_NEOX}")
        read = [parsing.number(w, f"{where}: train-data-weights[{i}]") for i, w in enumerate(numbers)]
        each = zip(named(paths, names, where), read, paths, strict=True)
        stage = Stage(sources=tuple(Source(domain=d, written=w, paths=(p,)) for d, w, p in each))
        return Recipe(stages=(stage,), problems=tuple(problems), notes=tuple(notes))

    def write(self, recipe: Recipe) -> str:
        """Write paths and numbers; JSON is YAML too."""
        sources = recipe.stages[0].sources
        found = {"train-data-paths": [s.paths[0] for s in sources], "train-data-weights": [s.written for s in sources]}
        return json.dumps(found, indent=2) + "\n"


def _blend(words: list[str], names: Mapping[str, str], where: str) -> Stage:
    """Read numbers and prefixes in turn; Megatron takes an odd number of words for prefixes alone."""
    are_numbers = [_is_number(word) for word in words]
    if not any(are_numbers):
        raise InputError(
            f"{where} has no numbers: {len(words)} prefixes are drawn from by their sizes; nothing to audit"
        )
    if len(words) % 2 or are_numbers != [True, False] * (len(words) // 2):
        got = f"{where} has {len(words)} words, {sum(are_numbers)} of them numbers"
        raise InputError(f"{got}; allowed: a number before each prefix (an odd number of words is read as prefixes)")
    paths = tuple(words[1::2])
    numbers = [
        parsing.written_number(word, f"{where}: number of {path!r}")
        for word, path in zip(words[::2], paths, strict=True)
    ]
    each = zip(named(paths, names, where), numbers, paths, strict=True)
    return Stage(sources=tuple(Source(domain=d, written=w, paths=(p,)) for d, w, p in each))


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _plain(number: float) -> str:
    """Write a number without an exponent, and without zeros at its end."""
    return f"{number:.12f}".rstrip("0").rstrip(".") or "0"


def _underscored(document: Mapping[str, Any]) -> dict[str, Any]:
    return {key.replace("-", "_"): value for key, value in document.items() if isinstance(key, str)}
