"""The `bimix` command: each subcommand is a dataclass of options whose `work` is a thin shell over the package.

Exit codes: 0 done, 1 the work failed or was interrupted (Ctrl-C, SIGTERM), 2 the input is wrong. All that is heavy is
imported inside `work`, so that `--help` answers at once.
"""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from tyro.conf import arg

import bimixjax
from bimixjax._base import checks
from bimixjax._base.checks import InputError
from bimixjax.cli import compiled, console, signals
from bimixjax.cli.console import FIGURES, JSON, Answer, Command, File, Flag, Formats
from bimixjax.cli.corpora import Corpus, Design, Entropy
from bimixjax.cli.exporting import Export, Lint
from bimixjax.cli.fitting import Compare, TableCommand
from bimixjax.cli.importing import Import
from bimixjax.cli.options import Law, Number, Whole, names
from bimixjax.cli.planning import Plan
from bimixjax.cli.predicting import Predict, Score
from bimixjax.cli.proving import Prove
from bimixjax.cli.reporting import Report
from bimixjax.cli.reweighting import Doremi
from bimixjax.cli.searching import Optimize
from bimixjax.cli.training import Demo, Swarm
from bimixjax.cli.verifying import Verify

if TYPE_CHECKING:
    from bimixjax.fitting import Criterion
    from bimixjax.reports.spread import Spread

# Residuals of losses measured well are below this, as shares of the loss.
_HUBER = 0.01


@dataclass(frozen=True, kw_only=True)
class Fit(TableCommand):
    """Fit a law to a table of measured losses.

    Example: bimix fit --example --law bimix --out fit.json
    """

    at_work = "fitting"
    formats: ClassVar[Formats] = {"out": JSON, "figure": FIGURES, "residuals": FIGURES}

    law: Law = "auto"
    priors: Flag = True
    """Plain least squares, without the weak priors; for a single law."""
    criterion: Annotated[
        Literal["squares", "absolute", "huber", "huber-absolute"] | None,
        arg(metavar="{squares,absolute,huber,huber-absolute}", help_behavior_hint=""),
    ] = None
    """What is minimized: squares of relative or of absolute residuals, or Huber's criterion of either, where a large
    residual counts by its size; for a single law. Default: squares."""
    huber: Number = None
    """Residual, as a share of the loss, from which Huber's criterion counts by size. Default: 0.01."""
    beyond: Annotated[str | None, arg(metavar="LAW", help_behavior_hint="")] = None
    """For auto on two or more model sizes: a law with model size, such as additive_sized, that carries predictions to
    sizes that were not fitted."""
    figure: File = None
    """Draw measured and fitted losses (.png, .pdf, .svg)."""
    residuals: File = None
    """Draw the residuals (.png, .pdf, .svg)."""
    draws: Annotated[Whole, arg(metavar="NUMBER")] = 0
    """For the spread of predictions: draws from the posterior of auto, or resamples of the runs for a single law."""
    seed: Annotated[Whole, arg(metavar="NUMBER")] = 0
    """Seed of the draws."""

    def work(self) -> Answer:
        """Fit, save, draw."""
        from bimixjax.reports import documents, tables

        table = self.observations()
        result, spread = self.fitted(table)
        if self.out:
            result.save(self.out)
        if self.figure or self.residuals:
            from bimixjax.reports import figures, lanes

            figures.save_fit(lanes.FittedLosses.of(result, table), curves=self.figure, residual=self.residuals)
        screen, document = tables.fitted(result), documents.fitted(result)
        if spread:
            screen.append(tables.spread(spread))
            document["spread"] = documents.spread(spread)
        screen += tables.notes(result.notes)
        return Answer(document=document, screen=screen, failed=not result.converged.any())

    def fitted(self, table: "bimixjax.Observations") -> "tuple[bimixjax.FitResult | bimixjax.AutoFit, Spread | None]":
        """Return the fit, and its spread where draws are asked for."""
        if not self.draws:
            return bimixjax.fit(self.averaged() or self.law, table, **self.options()), None
        from bimixjax.reports.spread import Spread

        of_draws = {"key": self.seed, "count": checks.resamples(self.draws)}
        if averaged := self.averaged():
            found = bimixjax.sample(bimixjax.fit(averaged, table, **self.options()), **of_draws)
        else:
            found = bimixjax.bootstrap(self.law, table, **of_draws, **self.options())
        return found.fit, Spread.of(found, table)

    def averaged(self) -> "bimixjax.Auto | None":
        """Return the settings of auto, where no single law is named."""
        if self.law == "auto":
            return bimixjax.Auto(beyond=self.beyond)
        if self.beyond is not None:
            got = f"--beyond {self.beyond} carries fits of auto, and --law is {self.law}"
            raise InputError(f"{got}; leave one of them out")
        return None

    def options(self) -> dict[str, Any]:
        """Return the keywords of `bimixjax.fit`."""
        found: dict[str, Any] = {"volume": self.unit, "targets": names(self.targets) or None, "priors": self.priors}
        criterion = self.minimized()
        return found | ({} if criterion is None else {"criterion": criterion})

    def minimized(self) -> "Criterion | None":
        """Return the criterion, where one is named."""
        huber = self.criterion is not None and self.criterion.startswith("huber")
        if self.huber is not None and not huber:
            raise InputError("--huber is the threshold of --criterion huber or huber-absolute; name one of these too")
        if self.criterion is None:
            return None
        if self.law == "auto":
            got = f"--criterion {self.criterion} is for a single law, and --law is auto"
            raise InputError(f"{got}; name a law, such as --law bimix_transfer")
        from bimixjax.fitting import Criterion

        threshold = (_HUBER if self.huber is None else self.huber) if huber else None
        return Criterion(residual="absolute" if "absolute" in self.criterion else "relative", huber=threshold)


_KINDS: tuple[type[Command], ...] = (
    *(Demo, Corpus, Entropy, Design, Plan, Swarm, Doremi, Prove),
    *(Import, Fit, Compare, Predict, Score, Optimize, Report, Export, Lint, Verify),
)
COMMANDS = {kind.__name__.lower(): kind for kind in _KINDS}


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code."""
    return console.run(COMMANDS, arguments)


def main() -> None:
    """Run the command line of this process."""
    signaled = signals.end_at_signals(console.FAILED)
    os.environ.update(compiled.variables(os.environ))
    code = run(sys.argv[1:])
    if signaled.is_set():
        signals.end(code)
    sys.exit(code)
