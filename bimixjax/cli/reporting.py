"""The `bimix report` command: one page of HTML that a team decides by, from one table."""

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from tyro.conf import arg

import bimixjax
from bimixjax._base.checks import InputError, known, resamples
from bimixjax.cli.console import Answer, Command, File, Flag, Formats
from bimixjax.cli.fitting import Compare, TableCommand
from bimixjax.cli.limits import LimitedByRuns
from bimixjax.cli.options import Law, Names, Number, Numbers, Stock, Whole, inventory, names, numbers

if TYPE_CHECKING:
    import numpy as np

HTML = (".html",)


@dataclass(frozen=True, kw_only=True)
class Report(TableCommand, LimitedByRuns):
    """Write one HTML page to decide by: fit, compare laws, find the best mixture, and see what it hangs on.

    Example: bimix report --example --law bimix --out report.html
    """

    at_work = "reporting"
    formats: ClassVar[Formats] = {"out": HTML}

    out: Annotated[Path, arg(metavar="FILE")] = Path("report.html")
    """The page; the options used are written beside it, as <name>.config.yaml."""
    law: Law = "auto"
    fit: File = None
    """A fit of the same table that `bimix fit --out` wrote, in place of --law."""
    volume: Number = None
    """Training volume at which mixtures are judged, in the unit of the fit. Default: the largest that was fitted."""
    weight: Numbers = ()
    """Weights of targets; those not named get 0. Default: all the same."""
    inventory: Stock = ()
    """Unique tokens of the domains, a file of them (domain,tokens), or a token store: for the natural mixture and
    epochs."""
    train_tokens: Number = None
    """Length of the real training in tokens, for epochs. Default: --volume, where it is in tokens."""
    beside: File = None
    """Mixtures to show beside the one found, such as entropy mixtures: what `bimix entropy --out` wrote (.json), or a
    table (run, mixture/<domain>)."""
    laws: Names = ()
    """Laws to compare, as in `bimix compare`."""
    compare: Flag = True
    """Leave the comparison of laws out, which takes longest."""
    draws: Annotated[Whole, arg(metavar="NUMBER")] = 100
    """How sure it is: draws from the posterior of auto, or resamples of the runs for a single law; 0 for none."""
    left_out: Annotated[Whole, arg(metavar="NUMBER")] = 8
    """For auto: how many runs, those nearest to the mixture first, are left out in turn, with a fit for each."""
    plan: Annotated[Whole, arg(metavar="NUMBER")] = 4
    """How many runs to plan; 0 for none."""
    seed: Annotated[Whole, arg(metavar="NUMBER")] = 0
    """Seed of the draws and the plan."""

    def work(self) -> Answer:
        """Decide, and write the page."""
        from rich.text import Text

        from bimixjax import estimation
        from bimixjax.loop.decision import Question, decide
        from bimixjax.reports import documents, tables, worth
        from bimixjax.reports.html import decision, lead

        table, stock = self.observations(), inventory(self.inventory)
        chosen: Any = self.law if self.fit is None else estimation.load(self.fit)
        question = Question(
            budget=bimixjax.Budget(volume=self.volume),
            weights=numbers("weight", self.weight) or None,
            limits=replace(self.limits(named_mixtures(table.domains, stock)), train_tokens=self.train_tokens),
            inventory=stock,
            train_tokens=self.train_tokens,
            laws=self.compared(table),
            draws=self.draws and resamples(self.draws),
            left_out=self.left_out,
            runs=self.plan,
            others={} if self.beside is None else mixtures_of(self.beside, table.domains),
            seed=self.seed,
        )
        targets = names(self.targets) or (None if self.fit is None else chosen.targets)
        found = decide(chosen, table, question, volume=self.unit, targets=targets)
        decision.write(
            found, self.out, title=f"Data-mixture report: {Path(table.source).name}", settings=settings(self)
        )
        beside = decision.predictions(found)
        document = {"report": str(self.out), "decision": lead.plain(found)}
        document |= {
            "optimum": documents.optimum(found.best, beside, found.draws),
            "worth": worth.document(found.worth),
        }
        screen = [
            Text(lead.plain(found)),
            "",
            tables.proportions(found.best, beside, found.draws),
            f"Report: {self.out}",
        ]
        return Answer(document=document, screen=screen, failed=not found.best.converged)

    def compared(self, table: "bimixjax.Observations") -> tuple[str, ...]:
        """Return the laws to compare; that of the report is among them."""
        if not self.compare:
            return ()
        targets = names(self.targets)
        laws = Compare(table=self.table, laws=self.laws, targets=targets).chosen_laws(table)
        return tuple(dict.fromkeys([*([] if self.fit else [self.law]), *laws]))


def settings(command: Command) -> dict[str, str]:
    """Return the options of a command that are set, as text, by name."""
    values = {field.name: getattr(command, field.name) for field in fields(command)}
    hidden = ("config", "json", *command.formats)
    return {
        name.replace("_", "-"): ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
        for name, value in values.items()
        if name not in hidden and value not in (None, (), False)
    }


def named_mixtures(domains: tuple[str, ...], stock: "bimixjax.Inventory | None") -> "dict[str, np.ndarray]":
    """Return the uniform mixture, and the natural one where the inventory has every domain."""
    found = {"uniform": bimixjax.mixtures.uniform(len(domains))}
    if stock is not None and set(domains) <= stock.tokens.keys():
        found["natural"] = stock.natural(domains)
    return found


def mixtures_of(path: Path, domains: tuple[str, ...]) -> "dict[str, np.ndarray]":
    """Read mixtures by name: what `bimix entropy --out` wrote (.json), or a table.

    Raises:
        InputError: for a file that holds none, or a domain that is none of those given.
    """
    import numpy as np

    from bimixjax._base.records import read_json

    if path.suffix == ".json":
        found = read_json(path)
        given = found.get("mixtures") if isinstance(found, dict) else None
        if not isinstance(given, dict) or not all(isinstance(shares, dict) for shares in given.values()):
            raise InputError(
                f"{path} has no mixtures; allowed: what `bimix entropy --out` wrote, or a table of mixtures"
            )
        by_name = {str(name): shares for name, shares in given.items()}
    else:
        table = bimixjax.Observations.of_mixtures(path)
        by_name = {
            run: dict(zip(table.domains, mixture.tolist(), strict=True))
            for run, mixture in zip(table.run.tolist(), table.proportions, strict=True)
        }
    for name, shares in by_name.items():
        known("domain", tuple(shares), domains, f"{path}: mixture {name!r}")
    return {name: np.array([shares.get(domain, 0.0) for domain in domains]) for name, shares in by_name.items()}
