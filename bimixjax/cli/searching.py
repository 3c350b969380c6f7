"""The `bimix optimize` command: the best mixture, beside those that need no law."""

import dataclasses
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from tyro.conf import Positional, arg

import bimixjax
from bimixjax._base.checks import InputError
from bimixjax._base.records import to_plain
from bimixjax.cli.console import FIGURES, JSON, Answer, File, FileCommand, Flag, Formats
from bimixjax.cli.goals import goal, reference_mixture, swept
from bimixjax.cli.limits import LimitedByRuns
from bimixjax.cli.options import Counts, Number, Numbers, Stock, Whole, inventory, names, number, numbers
from bimixjax.cli.reporting import HTML, settings

if TYPE_CHECKING:
    import numpy as np
    from rich.console import Group

    from bimixjax.loop.influence import Influence
    from bimixjax.optimization.goals import Goal


@dataclass(frozen=True, kw_only=True)
class Optimize(LimitedByRuns, FileCommand):
    """Find the mixture with the least weighted mean of predicted losses.

    Example: bimix optimize fit.json --volume 1M --upper data=0.3 --out mixture.json
    """

    at_work = "searching"
    formats: ClassVar[Formats] = {
        "out": JSON,
        "report": HTML,
        **dict.fromkeys(("figure", "sweep_figure", "pareto_figure"), FIGURES),
    }

    fit: Annotated[Positional[Path], arg(metavar="FIT")]
    """A file written by `bimix fit --out`."""
    volume: Number = None
    """Training volume at which mixtures are judged, in the unit of the fit. Default: --train-tokens, where that unit is
    tokens, else the last of --sweep."""
    model_size: Number = None
    """Model size in parameters, where several were fitted."""
    volumes: Counts = ()
    """In place of --volume, several: the mean of the objective over them counts, and the first is what is shown."""
    model_sizes: Counts = ()
    """In place of --model-size, several likewise; with --volumes, each size at each volume."""
    from_prior: Flag = False
    """Search also where nothing fitted tells volumes or mixtures apart, by priors alone; such numbers are marked."""
    weight: Numbers = ()
    """Weights of targets; those not named get 0. Default: all the same."""
    objective: Annotated[str, arg(metavar="mean|worst|excess|risk:KAPPA|quantile:LEVEL|average:TOLERANCE")] = "mean"
    """What is minimized: the weighted mean of losses; the worst weighted loss; the worst excess over the loss at
    --reference; the mean + KAPPA standard deviations, for a fit of auto; what the mean is below with probability LEVEL,
    as auto states it or in that part of --draws; or take the average of the mixtures within TOLERANCE, a share, of the
    least mean."""
    guard: Numbers = ()
    """Guardrails: by how much the loss of a target may be above that at --reference, in nats per token."""
    reference: Annotated[str | None, arg(metavar="natural|uniform|NAME=NUMBER,...", help_behavior_hint="")] = None
    """What an excess and guardrails are over. Default: natural where the inventory is known, else uniform."""
    inventory: Stock = ()
    """Unique tokens of the domains, a file of them (domain,tokens), or a token store. With those of every domain:
    compare with the natural mixture, which shares without effect follow."""
    train_tokens: Number = None
    """Length of the real training in tokens, for epochs. Default: --volume, where it is in tokens."""
    runs: File = None
    """The table that was fitted, for the best of its runs as it was measured."""
    method: Literal["auto", "dual", "softmax"] = "auto"
    """The exact dual, L-BFGS on a softmax, or the dual where the law allows."""
    figure: File = None
    """Draw the proportions beside the baselines (.png, .pdf, .svg)."""
    sweep: Annotated[str | None, arg(metavar="train-tokens|volume|model-size=LOW..HIGH", help_behavior_hint="")] = None
    """Also find the best mixture at 33 lengths of the training, or model sizes: train-tokens=1e9..1e13."""
    sweep_figure: File = None
    """Draw it (.png, .pdf, .svg)."""
    pareto: Annotated[str | None, arg(metavar="TARGET,TARGET", help_behavior_hint="")] = None
    """Also find the mixtures that are best for two targets together, by what either counts."""
    pareto_figure: File = None
    """Draw these (.png, .pdf, .svg)."""
    draws: Annotated[Whole, arg(metavar="NUMBER")] = 0
    """How sure the mixture is: draws from the posterior of a fit of auto, each with its own best mixture."""
    seed: Annotated[Whole, arg(metavar="NUMBER")] = 0
    """Seed of the draws."""
    influence: Annotated[Whole, arg(metavar="NUMBER")] = 0
    """Which of --runs the mixture hangs on: with a fit of auto, so many that are nearest to it are left out in turn,
    with a fit for each; a single law says it of all runs by its slopes."""
    report: File = None
    """Also write an HTML page of it to decide by; `bimix report` makes one that compares laws and runs too."""

    def work(self) -> Answer:
        """Search, and put the baselines and the spread over draws beside the mixture found."""
        from bimixjax import estimation
        from bimixjax.reports import documents, tables, worth
        from bimixjax.reports.predictions import Predictions

        fit = estimation.load(self.fit)
        budgets = self.budgets(fit)
        budget = budgets[0]
        runs = None if self.runs is None else bimixjax.Observations.read(self.runs)
        of_goal: dict[str, Any] = {"budget": budget, "weights": numbers("weight", self.weight) or None}
        stock = inventory(self.inventory)
        found = bimixjax.Baselines.of(fit, inventory=stock, observations=runs, **of_goal)
        limits = dataclasses.replace(self.limits(found.mixtures), train_tokens=self.train_tokens)
        of_goal |= {"limits": limits, "inventory": stock}
        aim = goal(self.objective, self.guard, reference_mixture(self.reference, found.mixtures))
        search = {**of_goal, "budget": budgets if len(budgets) > 1 else budget}
        rows = self.rows_to_leave_out(fit, runs)
        best, draws, sampled = self.searched(fit, search, found.mixtures.get("natural"), aim)
        hangs_on = None if rows is None else self.hangs_on(fit, best, found, rows, stock)
        # The search has refused losses that follow from priors alone, but for targets without weight.
        baselines = Predictions.of(fit, found.mixtures, budget, stock, refuse=False).beside(best, fit, stock)
        if self.out:
            best.save(self.out)
        if self.figure:
            from bimixjax.reports import figures

            figures.save(figures.optimum(best, baselines, draws), self.figure)
        screen = [tables.proportions(best, baselines, draws), tables.losses(best, baselines), tables.certificate(best)]
        of_worth = {"inventory": stock, "train_tokens": self.train_tokens, "draws": sampled}
        value = best.worth(fit, baselines=found, **of_worth)
        screen += [*worth.goal(best), *([tables.regret(draws, fit)] if draws else []), "", *worth.worth(value)]
        said = [f"losses and gains are those at the first of {len(budgets)} budgets"] if len(budgets) > 1 else []
        if value.epochs is not None and value.epochs.max() > 1 and not fit.reads_unique:
            said.append(f"no law of this fit reads epochs ({fit.name}): what repetition costs is not in these losses")
        screen += tables.notes([*said, *found.notes])
        screen += [] if hangs_on is None else [tables.influence(hangs_on)]
        if self.report:
            known = {"draws": draws, "inventory": stock, "observations": runs, "influence": hangs_on}
            self.write_report(fit, best, found, value, **known)
        document = documents.optimum(best, baselines, draws) | {"notes": found.notes, "worth": worth.document(value)}
        document |= {"budgets": to_plain(budgets)} if len(budgets) > 1 else {}
        document |= {} if hangs_on is None else {"influence": to_plain(hangs_on)}
        for name, (shown, described) in self.swept(fit, of_goal).items():
            screen.append(shown)
            document[name] = described
        return Answer(document=document, screen=screen, failed=not best.converged)

    def budgets(self, fit: "bimixjax.FitResult | bimixjax.AutoFit") -> "tuple[bimixjax.Budget, ...]":
        """Return where mixtures are judged: at each model size asked for, at each volume."""
        places: list[tuple[float | None, ...]] = []
        for one, several in (("volume", "volumes"), ("model-size", "model-sizes")):
            alone, given = (getattr(self, name.replace("-", "_")) for name in (one, several))
            if given and alone is not None:
                raise InputError(f"got --{one} and --{several}; give one of them")
            if given and (self.sweep or self.pareto or self.draws):
                raise InputError(f"--sweep, --pareto and --draws are of one budget, and --{several} names several")
            found = tuple(number(several, text) for text in names(given))
            places.append(found or (self.asked_volume(fit) if one == "volume" else alone,))
        pairs = product(*places)
        return tuple(bimixjax.Budget(volume=v, model_size=m, from_prior=self.from_prior) for v, m in pairs)

    def rows_to_leave_out(
        self, fit: "bimixjax.FitResult | bimixjax.AutoFit", runs: "bimixjax.Observations | None"
    ) -> "bimixjax.Observations | None":
        """Return the table for --influence; None where that is not asked for."""
        from bimixjax.loop.decision import require_same

        if not self.influence:
            return None
        if self.objective != "mean" or self.guard or self.volumes or self.model_sizes:
            raise InputError("--influence is of the weighted mean at one budget; leave it or other objectives out")
        if runs is None or (rows := _fitted_rows(fit, runs)) is None:
            raise InputError("--influence leaves runs out: give the table that was fitted as --runs TABLE")
        if isinstance(fit, bimixjax.FitResult):
            require_same(fit, rows)
        return rows

    def hangs_on(
        self,
        fit: "bimixjax.FitResult | bimixjax.AutoFit",
        best: "bimixjax.OptimalMixture",
        found: "bimixjax.Baselines",
        rows: "bimixjax.Observations",
        stock: "bimixjax.Inventory | None",
    ) -> "Influence | None":
        """Return which runs the mixture hangs on, where one was found."""
        from bimixjax.loop.influence import influence_of_runs
        from bimixjax.optimization.baselines import NATURAL, UNIFORM

        if not best.converged:
            return None
        name = NATURAL if NATURAL in found.mixtures else UNIFORM
        return influence_of_runs(fit, best, rows, (name, found.mixtures[name]), self.influence, stock)

    def write_report(
        self,
        fit: "bimixjax.FitResult | bimixjax.AutoFit",
        best: "bimixjax.OptimalMixture",
        found: "bimixjax.Baselines",
        value: "bimixjax.Worth",
        **known: Any,
    ) -> None:
        """Write the page of what the command has: without the runs, what hangs on them is not there."""
        from bimixjax.loop.decision import Decision
        from bimixjax.loop.influence import moves
        from bimixjax.reports.html import decision

        known["observations"] = _fitted_rows(fit, known["observations"])
        moved = moves(fit, best, known["inventory"]) if best.converged else None
        missing = {"influence": "`bimix report`, and --influence with --runs, leave runs out"}
        whole = Decision(
            fit=fit,
            best=best,
            baselines=found,
            worth=value,
            moves=moved,
            missing=missing,
            train_tokens=self.train_tokens,
            **known,
        )
        decision.write(whole, str(self.report), title=f"{decision.TITLE}: {self.fit.name}", settings=settings(self))

    def asked_volume(self, fit: "bimixjax.FitResult | bimixjax.AutoFit") -> float | None:
        """Return the volume at which mixtures are judged, if any is asked for."""
        if self.volume is None and self.train_tokens is not None and fit.volume_unit == "tokens":
            return self.train_tokens
        if self.volume is None and self.sweep is not None and fit.volume_unit is not None:
            kind, values = swept(self.sweep)
            return None if kind == "model-size" else values[-1]
        return self.volume

    def swept(
        self, fit: "bimixjax.FitResult | bimixjax.AutoFit", of_goal: dict[str, Any]
    ) -> "dict[str, tuple[Group, list[dict[str, Any]]]]":
        """Return the sweep and the front that are asked for, as a table and a document each, and draw them."""
        from bimixjax.reports import figures, sweeps

        self.check_swept(fit)
        found: dict[str, bimixjax.Sweep] = {}
        if self.sweep is not None:
            kind, values = swept(self.sweep)
            over = {"model_size" if kind == "model-size" else "volume": values}
            # Over lengths of the training, limits of epochs follow these.
            limits = of_goal["limits"]
            limits = limits if kind == "model-size" else dataclasses.replace(limits, train_tokens=None)
            found["sweep"] = bimixjax.sweep(fit, **over, **{**of_goal, "limits": limits})
            if self.sweep_figure:
                figures.save(sweeps.sweep_figure(found["sweep"]), self.sweep_figure)
        if self.pareto is not None:
            first, second = names([self.pareto])
            others = {name: value for name, value in of_goal.items() if name != "weights"}
            found["pareto"] = bimixjax.pareto(fit, first, second, **others)
            if self.pareto_figure:
                figures.save(sweeps.front_figure(found["pareto"]), self.pareto_figure)
        return {name: (sweeps.swept(one), sweeps.document(one)) for name, one in found.items()}

    def check_swept(self, fit: "bimixjax.FitResult | bimixjax.AutoFit") -> None:
        """Raise an `InputError` where what is swept is not what the fit has, or a figure has nothing to show."""
        for option in ("sweep", "pareto"):
            if getattr(self, f"{option}_figure") and getattr(self, option) is None:
                raise InputError(f"--{option}-figure draws what --{option} finds; give that too")
        if self.sweep is not None and swept(self.sweep)[0] == "train-tokens" and fit.volume_unit != "tokens":
            raise InputError(
                f"--sweep train-tokens: the fit's volume is in {fit.volume_unit or 'no unit'}; sweep volume"
            )
        if self.pareto is not None and len(names([self.pareto])) != 2:
            raise InputError(f"--pareto is {self.pareto!r}; allowed: two targets with a comma between")

    def searched(
        self,
        fit: "bimixjax.FitResult | bimixjax.AutoFit",
        of_goal: dict[str, Any],
        natural: "np.ndarray | None",
        aim: "Goal",
    ) -> "tuple[bimixjax.OptimalMixture, bimixjax.OptimalResamples | None, bimixjax.AutoResampled | None]":
        """Return the best mixture, those of draws, and the draws, where they are asked for.

        Of an objective other than the weighted mean, each draw has no best mixture of its own.
        """
        from bimixjax.optimization import RiskAverse

        options = {**of_goal, "method": self.method, "reference": natural}
        composed = self.objective != "mean" or bool(self.guard)
        if not self.draws:
            return bimixjax.optimize(fit, **options, objective=aim), None, None
        if not isinstance(fit, bimixjax.AutoFit):
            got = f"{self.fit} has the law {fit.law.name}, and not the runs to resample"
            instead = "use bimixjax.bootstrap and bimixjax.optimize_resamples in Python"
            raise InputError(f"--draws takes a fit of auto; {got}: {instead}")
        drawn = bimixjax.sample(fit, key=self.seed, count=self.draws)
        if composed:
            if isinstance(aim, RiskAverse) and aim.quantile is not None:
                aim = dataclasses.replace(aim, draws=drawn)
            return bimixjax.optimize(fit, **options, objective=aim), None, drawn
        found = bimixjax.optimize_resamples(drawn, **options)
        return found.best, found, drawn


def _fitted_rows(
    fit: "bimixjax.FitResult | bimixjax.AutoFit", runs: "bimixjax.Observations | None"
) -> "bimixjax.Observations | None":
    """Return the rows of a table that have the fit's domains, targets and model sizes; None where some lack."""
    if runs is None or runs.domains != fit.domains or not set(fit.targets) <= set(runs.targets):
        return None
    if not fit.model_sizes or not runs.model_sizes:
        return runs
    if not set(fit.model_sizes) <= set(runs.model_sizes):
        return None
    sizes = [runs.select(model_size=size) for size in fit.model_sizes]
    return bimixjax.Observations.concat(*sizes) if len(sizes) > 1 else sizes[0]
