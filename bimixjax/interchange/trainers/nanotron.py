"""nanotron: folders and numbers per stage of the training.

Read in huggingface/nanotron at commit 00708b8, src/nanotron/config/config.py (`NanosetDatasetsArgs`: a list of folders
and a list of numbers; `DatasetStageArgs`: steps from 1, the first stage at 1, each name and step once) and
src/nanotron/data/nanoset.py (numbers are divided by their sum; each sequence from the folder furthest behind).
"""

from collections.abc import Mapping
from typing import Any

from bimixjax._base.checks import InputError
from bimixjax.interchange.recipe import Recipe, Source, Stage, Training, named
from bimixjax.interchange.trainers import parsing
from bimixjax.interchange.trainers.megatron import Blend


class Nanotron(Blend):
    """The `data_stages` of nanotron."""

    kind, title, suffixes = "nanotron", "nanotron", (".yaml", ".yml")
    zero = "nanotron may draw the first sequence from a folder of number 0"
    phased = True
    usage = "part of the configuration: data_stages"

    def recognizes(self, found: Any) -> bool:
        """See `data_stages`."""
        return isinstance(found, dict) and "data_stages" in found

    def read(self, found: Any, names: Mapping[str, str], where: str) -> Recipe:
        """Read the stages."""
        stages, labels, problems = [], [], []
        for i, one in enumerate(parsing.listed(parsing.inner(found, "data_stages"), f"{where}: data_stages")):
            spot = f"{where}: data_stages[{i}]"
            one = parsing.mapping(one, spot)
            labels.append(parsing.text(one.get("name"), f"{spot}.name"))
            step = parsing.whole(one.get("start_training_step"), f"{spot}.start_training_step")
            dataset = parsing.mapping(
                parsing.mapping(one.get("data"), f"{spot}.data").get("dataset"), f"{spot}.data.dataset"
            )
            if isinstance(dataset.get("dataset_folder"), dict):
                problems.append("dataset_folder is an object by folder; nanotron takes a list")
                table = parsing.numbers(dataset["dataset_folder"], f"{spot}.dataset_folder")
                folders, numbers = tuple(table), list(table.values())
            else:
                folders = parsing.texts(dataset.get("dataset_folder"), f"{spot}.dataset_folder")
                given = dataset.get("dataset_weights")
                if given is None and len(folders) > 1:
                    raise InputError(f"{spot} has no dataset_weights: folders are drawn from by their sizes")
                listed = parsing.listed([1.0] if given is None else given, f"{spot}.dataset_weights")
                numbers = [parsing.number(w, f"{spot}.dataset_weights[{j}]") for j, w in enumerate(listed)]
            if len(numbers) != len(folders):
                raise InputError(f"{spot} has {len(folders)} folders and {len(numbers)} dataset_weights")
            each = zip(named(folders, names, spot), numbers, folders, strict=True)
            sources = tuple(Source(domain=d, written=w, paths=(p,)) for d, w, p in each)
            stages.append(Stage(sources=sources, start=step - 1))
        if len(set(labels)) < len(labels):
            problems.append("two stages have one name: nanotron refuses that")
        return Recipe(stages=tuple(sorted(stages, key=lambda stage: stage.start)), problems=tuple(problems))

    def write(self, recipe: Recipe) -> str:
        """Write the stages; nanotron counts steps from 1."""
        stages = []
        for i, stage in enumerate(recipe.stages, 1):
            dataset = {
                "dataset_folder": [source.paths[0] for source in stage.sources],
                "dataset_weights": [source.written for source in stage.sources],
            }
            data = {"dataset": dataset, "seed": 42, "num_loading_workers": 1}
            stages.append({"name": f"stage {i}", "start_training_step": stage.start + 1, "data": data})
        return parsing.dump({"data_stages": stages})

    def problems(self, recipe: Recipe, training: Training) -> list[str]:
        """Check where stages begin."""
        del training
        starts = [stage.start + 1 for stage in recipe.stages]
        found = ["no stage begins at step 1: nanotron refuses that"] if 1 not in starts else []
        return found + (["two stages begin at one step"] if len(set(starts)) < len(starts) else [])
