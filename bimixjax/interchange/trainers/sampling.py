"""Trainers that draw at random with any probabilities: HF datasets, RegMix's TinyLlama, and DoReMi.

Read in huggingface/datasets 5.2.0, combine.py (`interleave_datasets`: drawn by NumPy, which wants probabilities that
sum to 1 within 1.5e-8); sail-sg/regmix at commit 0529f0d, model_training/pretrain/tinyllama.py (train and valid by
prefix of files, divided by the sum), and mixture_config/synthesize_mixture.py; sangmichaelxie/doremi at commit 04775e1,
doremi/train.py, and 358f9ba, doremi/dataloader.py (numbers divided by their sum, in the order of names).
"""

import json
from collections.abc import Mapping
from typing import Any

from bimixjax._base.checks import InputError
from bimixjax.interchange.recipe import Recipe, Source, Stage, Training
from bimixjax.interchange.trainers import parsing, snippets
from bimixjax.interchange.trainers.base import Trainer


class HuggingFace(Trainer):
    """A snippet of Python with `datasets.interleave_datasets`: each document is drawn at random from one dataset."""

    kind, title, suffixes = "hf", "HF datasets", (".py",)
    counts = "documents"
    zero = "interleave_datasets does not end well with a probability of 0 (huggingface/datasets#7147, #7157)"
    # The square root of the precision of float64: `Generator.choice` of NumPy raises beyond it.
    sum_within = 1.4e-8
    usage = "Python: `mixed` is a datasets.IterableDataset"

    def recognizes(self, found: Any) -> bool:
        """See a call of `interleave_datasets` with `probabilities`."""
        return snippets.calls(found, "interleave_datasets", "probabilities")

    def read(self, found: Any, names: Mapping[str, str], where: str) -> Recipe:
        """Read that call."""
        return snippets.read(found, "interleave_datasets", "probabilities", names, where)

    def write(self, recipe: Recipe) -> str:
        """Write datasets and their mixture."""
        return snippets.write(recipe, _SNIPPET)


class RegMix(Trainer):
    """The YAML of RegMix's TinyLlama: `train` and `valid`, numbers by the beginning of the names of files."""

    kind, title, suffixes = "regmix", "RegMix (TinyLlama)", (".yaml", ".yml")
    keeps_zeros = True
    usage = "--data_yaml_file of model_training/pretrain/tinyllama.py; add model_name and what else a run needs"

    def recognizes(self, found: Any) -> bool:
        """See numbers under `train`."""
        train = found.get("train") if isinstance(found, dict) else None
        return isinstance(train, dict) and "valid" in found

    def read(self, found: Any, names: Mapping[str, str], where: str) -> Recipe:
        """Read `train`; what follows `train_` is the name of a domain."""
        document = parsing.mapping(found, where)
        train = parsing.mapping(document.get("train"), f"{where}: train")
        written = {key: parsing.written_number(value, f"{where}: train.{key}") for key, value in train.items()}
        sources = [
            Source(domain=names.get(key, key.removeprefix("train_") or key), written=value, paths=(key,))
            for key, value in written.items()
        ]
        problems = [] if isinstance(document.get("valid"), dict) else ["there is no valid: RegMix's trainer stops"]
        return Recipe(stages=(Stage(sources=tuple(sources)),), problems=tuple(problems))

    def write(self, recipe: Recipe) -> str:
        """Write `train` and `valid`."""
        sources = recipe.stages[0].sources
        train = {source.paths[0]: source.written for source in sources}
        return parsing.dump({"train": train, "valid": {f"valid_{path.removeprefix('train_')}": 1.0 for path in train}})

    def problems(self, recipe: Recipe, training: Training) -> list[str]:
        """Find names that begin with another: the files of the longer one belong to both."""
        del training
        paths = sorted(path for source in recipe.stages[0].sources for path in source.paths)
        pairs = [(a, b) for a in paths for b in paths if a != b and b.startswith(a)]
        return [
            f"the files of {b} belong to {a} too: RegMix finds files by the beginning of their names" for a, b in pairs
        ]

    def default_path(self, domain: str) -> str:
        """Return the beginning of the names of a domain's files."""
        return f"train_{domain}"

    def allowed_path(self, path: str) -> str:
        """Return a path that `valid` can be made of."""
        if not path.startswith("train_"):
            raise InputError(f"the path {path!r} does not begin with train_, as the files of RegMix do")
        return super().allowed_path(path)


class DoReMi(Trainer):
    """The JSON of DoReMi: numbers by domain for training and evaluation, each divided by their sum."""

    kind, title, suffixes = "doremi", "DoReMi", (".json",)
    usage = "--domain_config_path of doremi/train.py"

    def recognizes(self, found: Any) -> bool:
        """See `train_domain_weights`."""
        return isinstance(found, dict) and "train_domain_weights" in found

    def read(self, found: Any, names: Mapping[str, str], where: str) -> Recipe:
        """Read the numbers for training."""
        del names
        document = parsing.mapping(found, where)
        written = parsing.numbers(document.get("train_domain_weights"), f"{where}: train_domain_weights")
        problems = [] if document.get("eval_domain_weights") else ["no eval_domain_weights: DoReMi's trainer stops"]
        sources = tuple(Source(domain=domain, written=number) for domain, number in written.items())
        return Recipe(stages=(Stage(sources=sources),), problems=tuple(problems))

    def write(self, recipe: Recipe) -> str:
        """Write the numbers for training, and uniform ones for evaluation."""
        sources = recipe.stages[0].sources
        train = {source.domain: source.written for source in sources}
        document = {"train_domain_weights": train, "eval_domain_weights": dict.fromkeys(train, 1 / len(train))}
        return json.dumps(document, indent=2) + "\n"

    def default_path(self, domain: str) -> None:
        """Return none: folders are named like domains."""


_SNIPPET = '''"""A mixture for HF datasets. The numbers are shares of documents."""

import datasets

{tables}


def documents(path):
    kind = "parquet" if path.endswith(".parquet") else "json"
    return datasets.load_dataset(kind, data_files=path, split="train", streaming=True).repeat(None)


mixed = datasets.interleave_datasets(
    [documents(PATHS[name]) for name in SHARES], probabilities=list(SHARES.values()), seed=42
)
'''
