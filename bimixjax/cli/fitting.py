"""The `bimix compare` command, and the options of every command that reads a table of measured losses."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from tyro.conf import Positional, arg

import bimixjax
from bimixjax._base.checks import InputError
from bimixjax.cli.console import FIGURES, TABLES, Answer, File, FileCommand, Flag, Formats, Unit
from bimixjax.cli.options import Counts, Names, Number, Stock, Whole, inventory, names, number, wholes

if TYPE_CHECKING:
    from bimixjax.comparison.schemes import Scheme

# What `compare` compares where no laws are named: BiMix and the richest cheap laws beside the one that combines them.
COMPARED = ("auto", "bimix", "bimix_offset", "bimix_transfer", "additive")


def example_file() -> Path:
    """Return the table that --example stands for."""
    from bimixjax import datasets

    return datasets.path(datasets.EXAMPLE)


def given_table(table: Path | None, *, example: bool) -> Path | None:
    """Return the file to read, that of the example where it is asked for; None where neither is given."""
    if example and table is not None:
        raise InputError(f"got the table {table} and --example; give one of them")
    return example_file() if example else table


@dataclass(frozen=True, kw_only=True)
class TableCommand(FileCommand):
    """A command that reads some rows of a table of measured losses."""

    table: Annotated[Positional[Path | None], arg(metavar="TABLE", help_behavior_hint="")] = None
    """Observations (.csv, .tsv, .csv.gz, .parquet): run, step or tokens, model_size, mixture/<domain>, loss/<name>."""
    example: Flag = False
    """In place of a table: that of a run of `bimix demo`, which every installation carries."""
    targets: Names = ()
    """Losses to fit. Default: all that the law can describe."""
    unit: Unit = None
    """Unit of the training volume. Default: tokens where the table has them."""
    model_size: Number = None
    """Take only the rows of this model size, in parameters."""
    min_volume: Number = None
    """Leave out rows with less training than this, such as an evaluation before the training."""
    max_volume: Number = None
    """Leave out rows with more training than this."""
    exclude_run: Annotated[tuple[str, ...], arg(metavar="NAME")] = ()
    """Leave out all rows of this run; may be repeated."""
    keep: Annotated[Literal["first", "last"] | None, arg(metavar="{first,last}", help_behavior_hint="")] = None
    """Where a run has several rows at one step, as after a restart: which of them to take."""

    def inputs(self) -> Iterable[Path]:
        """Return the files that are read, the example among them."""
        yield from super().inputs()
        if self.example:
            yield example_file()

    def observations(self) -> "bimixjax.Observations":
        """Read the rows asked for."""
        table = given_table(self.table, example=self.example)
        if table is None:
            raise InputError("no table: give the file of one, or --example")
        found = bimixjax.Observations.read(table, min_volume=self.min_volume, unit=self.unit, keep=self.keep)
        volume = None if self.max_volume is None else (None, self.max_volume)
        return found.select(model_size=self.model_size, without_runs=self.exclude_run, volume=volume, unit=self.unit)


@dataclass(frozen=True, kw_only=True)
class Compare(TableCommand):
    """Judge laws on the same held-out runs, later volumes or larger models.

    Example: bimix compare --example --laws bimix,bimix_offset
    """

    at_work = "comparing laws"
    formats: ClassVar[Formats] = {
        "out": TABLES,
        **dict.fromkeys(("figure", "agreement", "calibration", "decisions"), FIGURES),
    }

    laws: Names = ()
    """Laws to compare, by name; `bimix fit --help` lists all. Default: of auto, bimix, bimix_offset, bimix_transfer
    and additive those that can describe every target."""
    folds: Annotated[
        Literal["each-run", "parts", "designs", "later", "larger"] | None,
        arg(metavar="{each-run,parts,designs,later,larger}", help_behavior_hint=""),
    ] = None
    """What is held out: each run in turn, parts of the runs in turn, all runs but some, volumes beyond a cut, or model
    sizes beyond one. Default: each-run, or above 64 mixtures, parts."""
    parts: Whole = 16
    """For parts: how many."""
    runs: Counts = ()
    """For designs: how many runs of each model size to fit. Default: 4,8."""
    draws: Whole = 20
    """For designs: how many of each."""
    seed: Whole = 1000
    """For designs: seed of the draws."""
    cuts: Counts = ()
    """For later: shares of the last volume to fit. Default: 0.5."""
    largest: Number = None
    """For larger: the largest model size to fit, in parameters."""
    at: Annotated[str, arg(metavar="{last,all,NUMBER}")] = "last"
    """Volume at which held-out rows are judged."""
    inventory: Stock = ()
    """Unique tokens of the domains, a file of them (domain,tokens), or a token store: where the natural mixture is.
    Default: those of the table."""
    level: Annotated[float, arg(metavar="SHARE")] = 0.9
    """Share of the losses that intervals should cover; 0 for no intervals."""
    figure: File = None
    """Draw errors and rank correlations (.png, .pdf, .svg)."""
    agreement: File = None
    """Draw predicted against measured losses (.png, .pdf, .svg)."""
    calibration: File = None
    """Draw coverage and width of the intervals (.png, .pdf, .svg)."""
    decisions: File = None
    """Draw what choosing by each law costs, beside choices without one (.png, .pdf, .svg)."""

    def work(self) -> Answer:
        """Compare, write the table, draw."""
        from bimixjax.observations import cells
        from bimixjax.reports import comparisons, figures

        table = self.observations()
        found = bimixjax.compare(
            self.chosen_laws(table),
            table,
            folds=_scheme(self),
            at=self.at if self.at in ("last", "all") else number("at", self.at),
            volume=self.unit,
            targets=names(self.targets) or None,
            level=self.level or None,
            inventory=inventory(self.inventory),
        )
        if self.out:
            cells.write(self.out, found.to_frame())
        paths = self.figure, self.agreement, self.calibration, self.decisions
        drawings = comparisons.errors, comparisons.agreement, comparisons.calibration, comparisons.choices
        for path, draw in zip(paths, drawings, strict=True):
            if path:
                figures.save(draw(found), path)
        screen = [comparisons.summary(found), comparisons.decisions(found), *comparisons.trust(found)]
        return Answer(document=comparisons.document(found), screen=screen)

    def chosen_laws(self, table: "bimixjax.Observations") -> tuple[str, ...]:
        """Return the laws named, else those of `COMPARED` that can describe every target."""
        targets = names(self.targets) or table.own_targets or table.targets
        own_only = set(targets) <= set(table.domains)
        able = (law for law in COMPARED if law == "auto" or own_only or not bimixjax.LAWS[law].own_proportion)
        return names(self.laws) or tuple(able)


def _scheme(options: Compare) -> "Scheme | None":
    """Return the scheme that the options name, if any."""
    from bimixjax import comparison

    if options.folds == "each-run":
        return comparison.LeaveOneRunOut()
    if options.folds == "parts":
        return comparison.RunParts(parts=options.parts)

    if options.folds == "designs":
        counts = wholes("runs", options.runs) or (4, 8)
        return comparison.RunDesigns(runs=counts, draws=options.draws, seed=options.seed)
    if options.folds == "later":
        return comparison.LaterVolumes(cuts=tuple(number("cuts", text) for text in names(options.cuts) or ("0.5",)))
    if options.folds == "larger":
        if options.largest is None:
            raise InputError("--folds larger needs --largest, the largest model size to fit")
        return comparison.LargerSizes(largest=options.largest)
    return None
