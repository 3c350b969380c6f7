"""The `bimix predict` and `bimix score` commands: losses that nobody has measured, and what became of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

from tyro.conf import Positional, arg

import bimixjax
from bimixjax._base import checks
from bimixjax._base.checks import InputError
from bimixjax.cli.console import JSON, TABLES, Answer, File, FileCommand, Flag, Formats
from bimixjax.cli.options import Number, Numbers, Stock, inventory, numbers

if TYPE_CHECKING:
    import numpy as np

    from bimixjax.reports.predictions import Asked


@dataclass(frozen=True, kw_only=True)
class Predict(FileCommand):
    """Predict the losses of mixtures with a saved fit, and score them where they were measured.

    Example: bimix predict fit.json --mixtures next.csv --volume 1M --freeze frozen.json
    """

    formats: ClassVar[Formats] = {"out": TABLES, "freeze": JSON}

    fit: Annotated[Positional[Path], arg(metavar="FIT")]
    """A file written by `bimix fit --out`."""
    mixture: Numbers = ()
    """A mixture to judge; may be repeated. Domains not named get 0."""
    mixtures: File = None
    """A table of mixtures to judge (.csv, .parquet): run, mixture/<domain>; with its steps or tokens, model_size and
    loss/<target> where there are any."""
    volume: Number = None
    """Training volume, in the unit of the fit; in place of that of the table."""
    model_size: Number = None
    """Model size in parameters, where several were fitted; in place of that of the table."""
    inventory: Stock = ()
    """Unique tokens of the domains, for a law that reads epochs, or a file of them (domain,tokens); in place of those
    of the table. Default: no limit."""
    from_prior: Flag = False
    """Answer also at volumes of which nothing fitted tells, by priors alone; such numbers are marked."""
    freeze: File = None
    """Write the predictions of the runs of --mixtures, none of them measured yet, for `bimix score` (.json)."""
    weight: Numbers = ()
    """For --freeze: weights of targets in the mean; those not named get 0. Default: all the same."""

    def work(self) -> Answer:
        """Predict, mark what is extrapolated, and score what was measured."""
        from bimixjax import estimation
        from bimixjax.observations import cells
        from bimixjax.reports import documents, predictions, tables

        if self.weight and self.freeze is None:
            raise InputError("--weight is of the mean that --freeze writes; give that too")
        fit = estimation.load(self.fit)
        asked = self.asked(fit)
        predicted = predictions.Predictions.judged(fit, asked, intervals=True)
        scored = predictions.Scores.of(predicted)
        if self.out:
            cells.write(self.out, predicted.to_frame())
        screen = [tables.predictions(predicted), *([tables.scores(scored)] if scored else [])]
        screen += tables.notes([self.frozen(fit, asked, self.freeze)] if self.freeze else [])
        if not fit.gives_intervals:
            screen += tables.notes([f"no limits: a fit of {fit.name} alone keeps no errors on runs left out"])
        if self.inventory and not fit.reads_unique:
            screen += tables.notes([f"no law of this fit reads epochs ({fit.name}): --inventory changes no prediction"])
        document = {"predictions": documents.predictions(predicted), "scores": documents.scores(scored)}
        return Answer(document=document, screen=screen)

    def frozen(self, fit: "bimixjax.FitResult | bimixjax.AutoFit", asked: "Asked", path: Path) -> str:
        """Freeze what is predicted, and say by which hash anybody can tell it later."""
        from bimixjax._base.provenance import digest
        from bimixjax.reports.frozen import Frozen

        if self.mixtures is None or self.mixture:
            raise InputError("--freeze takes runs by their ids, those of --mixtures FILE, and no --mixture")
        Frozen.of(fit, asked, numbers("weight", self.weight) or None).save(path)
        return f"frozen in {path}; publish its SHA-256 to prove it later: {digest(path)}"

    def asked(self, fit: "bimixjax.FitResult | bimixjax.AutoFit") -> "Asked":
        """Return the mixtures asked for: those of the table, then those of the command line."""
        from bimixjax.reports.predictions import Asked

        budget = bimixjax.Budget(volume=self.volume, model_size=self.model_size, from_prior=self.from_prior)
        stock = inventory(self.inventory)
        unique = None if stock is None else stock.array(fit.domains)
        parts = [Asked.read(self.mixtures, fit, budget, unique)] if self.mixtures else []
        if self.mixture:
            given = [_in_order(fit.domains, numbers("mixture", [text]), "--mixture") for text in self.mixture]
            parts.append(Asked.of({f"mixture {i}": mixture for i, mixture in enumerate(given, 1)}, budget, unique))
        if not parts:
            raise InputError("no mixture to judge: give --mixture NAME=NUMBER,... or --mixtures FILE")
        return parts[0] if len(parts) == 1 else parts[0].and_then(parts[1])


@dataclass(frozen=True, kw_only=True)
class Score(FileCommand):
    """Judge predictions that were frozen before their runs were measured, by what was measured.

    Example: bimix score frozen.json --on measured.csv
    """

    frozen: Annotated[Positional[Path], arg(metavar="FROZEN")]
    """A file written by `bimix predict --freeze`; one that was altered since is refused."""
    on: Annotated[Path, arg(metavar="TABLE")]
    """Observations of the runs, which are found by their ids: run, step or tokens, mixture/<domain>, loss/<name>."""

    def work(self) -> Answer:
        """Score, and write."""
        from bimixjax._base.records import write_json
        from bimixjax.reports import frozen

        found = frozen.Frozen.load(self.frozen).score(bimixjax.Observations.read(self.on))
        document = frozen.document(found)
        if self.out:
            write_json(self.out, document, hashed=True)
        return Answer(document=document, screen=frozen.screen(found, self.frozen))


def _in_order(domains: tuple[str, ...], given: Mapping[str, float], where: str) -> "np.ndarray":
    """Return numbers in the order of `domains`, 0 where one is not named."""
    import numpy as np

    checks.known("domain", tuple(given), domains, where)
    return np.array([given.get(domain, 0.0) for domain in domains])
