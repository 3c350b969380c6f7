"""The `bimix plan` command: which runs to train next."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from tyro.conf import Positional, arg

import bimixjax
from bimixjax._base.checks import InputError, known
from bimixjax.cli.console import TABLES, Answer, File, FileCommand, Flag, Formats
from bimixjax.cli.fitting import example_file, given_table
from bimixjax.cli.limits import Limited
from bimixjax.cli.options import Counts, Names, Number, Numbers, Stock, Whole, inventory, names, number, numbers

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, kw_only=True)
class Plan(Limited, FileCommand):
    """Choose the runs to train next: from nothing, from a table of measured losses, or from a fit of auto.

    Example: bimix plan --example --runs 4 --out next.csv
    """

    at_work = "planning"
    formats: ClassVar[Formats] = {"out": TABLES}

    source: Annotated[Positional[Path | None], arg(metavar="TABLE|FIT", help_behavior_hint="")] = None
    """A table of measured losses, or a fit of auto (.json) that `bimix fit --out` wrote; or none, and --domains."""
    example: Flag = False
    """In place of a table: that of a run of `bimix demo`, which every installation carries."""
    domains: Names = ()
    """From nothing: the names of the domains."""
    targets: Names = ()
    """Whose mean loss counts. Default: the targets that are domains, or all where none is."""
    runs: Annotated[Whole, arg(metavar="NUMBER")] = 4
    """How many runs to plan."""
    candidates: File = None
    """A table of mixtures (run, mixture/<domain>) to choose among, each once. Default: any within the limits."""
    weight: Numbers = ()
    """Weights of targets; those not named get 0. Default: all the same."""
    inventory: Stock = ()
    """Unique tokens of the domains, a file of them (domain,tokens), or a token store. With those of every domain: from
    nothing, the natural mixture is the last run."""
    model_size: Number = None
    """Model size at which mixtures are judged, in parameters. Default: the largest measured."""
    model_sizes: Counts = ()
    """Model sizes that runs may have; then what counts is improvement per cost, size x volume. Default: that above."""
    volume: Number = None
    """Tokens of the training in view, for --max-epochs; for a fit, in its unit, where mixtures are judged."""
    min_volume: Number = None
    """Leave out rows with less training than this, such as an evaluation before the training."""
    exclude_run: Annotated[tuple[str, ...], arg(metavar="NAME")] = ()
    """Leave out all rows of this run; may be repeated."""
    keep: Annotated[Literal["first", "last"] | None, arg(metavar="{first,last}", help_behavior_hint="")] = None
    """Where a run has several rows at one step, as after a restart: which of them to take."""
    seed: Annotated[Whole, arg(metavar="NUMBER")] = 0
    """Seed of the random mixtures and draws."""
    run_seed: Annotated[Whole, arg(metavar="NUMBER")] = 0
    """Seed of the runs, written into the plan."""

    def work(self) -> Answer:
        """Plan, and write the design."""
        from bimixjax import planning
        from bimixjax.reports import plans

        given, stock = self.given(), inventory(self.inventory)
        domains = names(self.domains) or (() if given is None else given.domains)
        unit = "tokens" if given is None and self.volume else None
        budget = bimixjax.Budget(volume=self.volume, unit=unit, model_size=self.model_size)
        options: dict[str, Any] = {"domains": names(self.domains) or None, "targets": names(self.targets) or None}
        options |= {"runs": self.runs, "weights": numbers("weight", self.weight) or None, "key": self.seed}
        options |= {"limits": self.limits(self.baselines(domains, stock)), "inventory": stock, "budget": budget}
        options["model_sizes"] = [number("model-sizes", each) for each in names(self.model_sizes)] or None
        ids = None
        if self.candidates:
            options["candidates"], ids = self.choices(domains)
        made = planning.plan(given, **options)
        made = made if ids is None else made.named(ids)
        if self.out:
            made.write(self.out, seed=self.run_seed)
        return Answer(document=plans.document(made), screen=plans.screen(made))

    def inputs(self) -> Iterable[Path]:
        """Return the files that are read, the example among them."""
        yield from super().inputs()
        if self.example:
            yield example_file()

    def given(self) -> "bimixjax.Observations | bimixjax.AutoFit | bimixjax.FitResult | None":
        """Return the table or fit to plan from."""
        source = given_table(self.source, example=self.example)
        if source is None:
            return None
        if source.suffix == ".json":
            from bimixjax import estimation

            return estimation.load(source)
        table = bimixjax.Observations.read(source, min_volume=self.min_volume, keep=self.keep)
        return table.select(without_runs=self.exclude_run)

    def baselines(self, domains: tuple[str, ...], stock: "bimixjax.Inventory | None") -> "dict[str, np.ndarray]":
        """Return the uniform mixture, and the natural one where the inventory has every domain."""
        found = {"uniform": bimixjax.mixtures.uniform(max(len(domains), 1))}
        if stock is not None and set(domains) <= stock.tokens.keys():
            found["natural"] = stock.natural(domains)
        return found

    def choices(self, domains: tuple[str, ...]) -> "tuple[np.ndarray, tuple[str, ...]]":
        """Return the mixtures of the file of candidates, over the domains in order, and their ids."""
        from bimixjax.proxy import Design

        if not domains:
            raise InputError("--candidates without a table needs --domains as well")
        table = Design.read(str(self.candidates))
        known("domain", table.domains, domains, str(self.candidates))
        missing = [name for name in domains if name not in table.domains]
        if missing:
            raise InputError(
                f"{self.candidates} has no column of {', '.join(missing)}; needed: mixture/<domain> of all"
            )
        return table.proportions[:, [table.domains.index(name) for name in domains]], table.runs
