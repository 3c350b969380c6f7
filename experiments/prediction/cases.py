"""The parts of the study: which table, which folds, which laws."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np

from bimixjax import Observations
from bimixjax.comparison import ChosenRuns, LargerSizes, LaterVolumes, RunDesigns
from bimixjax.comparison.schemes import Scheme
from bimixjax.estimation import Auto
from bimixjax.fitting import fit
from bimixjax.observations import Unit
from experiments.prediction import config
from experiments.prediction.config import ALONE, AUTO, Table
from experiments.public_observations.protocol import complete

Laws = Mapping[str, str | Auto]


@dataclass(frozen=True, kw_only=True)
class Case:
    """One table, whose folds are computed and kept one scheme at a time, law by law, from at most so many starts."""

    part: str
    name: str
    table: Observations
    schemes: tuple[Scheme, ...]
    laws: Laws
    starts: int | None = None
    unit: Unit = "steps"

    @property
    def title(self) -> str:
        return f"{self.part}: {self.name}"


def laws(*names: str) -> dict[str, str | Auto]:
    """`auto` first, then single laws."""
    return {AUTO: AUTO, **{name: name for name in names}}


def read(folder: Path, table: Table) -> Observations:
    """The rows of a table that every run of a size has, with the domains' own losses."""
    whole = Observations.read(folder / f"{table.name}.csv")
    ends = (table.first, table.last)
    parts = [complete(whole.select(model_size=size, volume=ends, unit="steps")) for size in table.sizes]
    return Observations.concat(*parts).select(targets=whole.own_targets)


def designs(runs: tuple[int, ...], draws: int, first: int = config.FIRST, **options) -> tuple[Scheme, ...]:
    """All numbers of runs at once, so that a law is compiled for one shape."""
    return (RunDesigns(runs=runs, draws=draws, first=first, **options),)


def groups(folder: Path, draws: int) -> Iterator[Case]:
    """K runs of 5 groups, at 4 sizes."""
    table, schemes = read(folder, config.GROUPS), designs(config.RUNS, draws)
    yield Case(part="groups", name="pile_5groups", table=table, schemes=schemes, laws=laws(*config.SINGLE))


def small(folder: Path, draws: int) -> Iterator[Case]:
    """K runs of 3 domains at one volume, and of 2 domains."""
    few, fewer = (designs(runs, draws, first=0) for runs in (config.RUNS, config.RUNS[:2]))
    three, two = read(folder, config.THREE), read(folder, config.TWO)
    yield Case(part="small", name="pile_3domains", table=three, schemes=few, laws=laws(*config.OF_MIXTURE))
    yield Case(part="small", name="pile_2domains", table=two, schemes=fewer, laws=laws(*config.SINGLE))


def domains(folder: Path, draws: int) -> Iterator[Case]:
    """K of 512 runs of 17 domains, judged on 256 others."""
    numbers = range(min(draws, config.DOMAIN_DRAWS))
    yield _of_domains("domains", folder, [(count, numbers) for count in config.DOMAIN_RUNS])


def few(folder: Path, draws: int) -> Iterator[Case]:
    """2 to 16 runs where domains are many: of 17 domains, and of 24 topics, whose losses are those of tasks."""
    draws = min(draws, config.FEW_DRAWS)
    numbers = range(config.FIRST, config.FIRST + draws)
    yield _of_domains("few", folder, [(count, numbers) for count in config.RUNS])
    tasks = Observations.read(folder / "topics_24.csv")
    yield Case(
        part="few",
        name="topics_24",
        table=tasks,
        schemes=designs(config.RUNS, draws),
        laws=laws(*config.OF_TASKS),
        starts=config.DOMAIN_STARTS,
        unit="tokens",
    )


def _of_domains(part: str, folder: Path, designs: list[tuple[int, range]]) -> Case:
    """Choices of so many of 512 runs of 17 domains, by their numbers."""
    parts = [Observations.read(folder / f"pile_17domains_{name}.csv") for name in ("train", "test")]
    table, (train, test) = Observations.concat(*parts), (part.runs for part in parts)
    return Case(
        part=part,
        name="pile_17domains",
        table=table,
        schemes=tuple(_domain_runs(train, test, count, numbers) for count, numbers in designs),
        laws=laws(*config.OF_DOMAINS),
        starts=config.DOMAIN_STARTS,
    )


def _domain_runs(train: tuple[str, ...], test: tuple[str, ...], count: int, draws: range) -> ChosenRuns:
    numbers = np.arange(len(train))
    drawn = [np.random.default_rng(1000 * count + d).choice(numbers, count, replace=False) for d in draws]
    fitted = tuple(tuple(train[i] for i in runs) for runs in (drawn if count < len(train) else [numbers]))
    return ChosenRuns(fitted=fitted, held_out=(test,) * len(fitted), groups=(count,) * len(fitted))


def later(folder: Path, draws: int) -> Iterator[Case]:
    """The last volume from the first 40 to 70 % of it."""
    scheme = (LaterVolumes(cuts=config.CUTS),)
    for table in (config.GROUPS, config.THREE_LONG, config.TWO):
        rows = read(folder, table)
        chosen = scheme if table is not config.TWO else (LaterVolumes(cuts=config.CUTS[1:]),)
        yield Case(part="later", name=table.name, table=rows, schemes=chosen, laws=laws(*config.SINGLE))


def donor(folder: Path, draws: int) -> Iterator[Case]:
    """K runs of each larger size, with the smallest size measured on all mixtures, or on 16 that are not judged."""
    table = read(folder, config.GROUPS)
    rivals = {AUTO: AUTO, ALONE: Auto(donor=False), **{name: name for name in config.DONOR_RIVALS}}
    schemes = designs(config.DONOR_RUNS, draws, donors=config.SIZES[:1])
    yield Case(part="donor", name=config.DONOR_ALL, table=table, schemes=schemes, laws=rivals)
    yield Case(part="donor", name=config.DONOR_APART, table=table, schemes=(_apart(table, draws),), laws=rivals)


def _apart(table: Observations, draws: int) -> ChosenRuns:
    """Draw 16 mixtures for the smallest size, K of them for the others; judge the others on the rest."""
    sizes = [table.select(model_size=size).runs for size in config.SIZES]
    numbers = sorted({run[-3:] for run in sizes[0]} & {run[-3:] for size in sizes[1:] for run in size})
    fitted, held = [], []
    for count, d in product(config.DONOR_RUNS, range(config.FIRST, config.FIRST + draws)):
        lent = np.random.default_rng(16_000 + d).choice(numbers, config.DONOR_MIXTURES, replace=False)
        drawn = np.random.default_rng(1000 * count + d).choice(np.sort(lent), count, replace=False)
        larger = tuple(run for size in sizes[1:] for run in size if run[-3:] in drawn)
        fitted.append(tuple(run for run in sizes[0] if run[-3:] in lent) + larger)
        held.append(tuple(run for size in sizes[1:] for run in size if run[-3:] not in lent))
    groups = tuple(np.repeat(config.DONOR_RUNS, draws).tolist())
    return ChosenRuns(fitted=tuple(fitted), held_out=tuple(held), groups=groups)


def sizes(folder: Path, draws: int) -> Iterator[Case]:
    """305M and 410M from 70M and 160M."""
    table, schemes = read(folder, config.GROUPS), (LargerSizes(largest=160e6),)
    rivals = {**laws(*config.SIZED), AUTO: Auto(beyond=config.BEYOND)}
    yield Case(part="sizes", name="pile_5groups", table=table, schemes=schemes, laws=rivals)


def simulation(folder: Path, draws: int) -> Iterator[Case]:
    """Losses drawn from each law in turn, at the mixtures and volumes of pile_5groups at 160M."""
    base = read(folder, replace(config.GROUPS, sizes=(160e6,)))
    schemes = designs(config.SIMULATED_RUNS, min(draws, config.SIMULATED_DRAWS))
    for number, name in enumerate(config.SIMULATED):
        fitted = fit(name, base, volume="steps", solver=config.solver(name))
        losses = np.asarray(fitted.predict(base.proportions, base.volumes("steps"), model_size=160e6))
        noise = np.random.default_rng(number).standard_normal(losses.shape)
        drawn = replace(base, losses=losses * np.exp(config.NOISE * noise), source=f"drawn from {name}")
        yield Case(part="simulation", name=name, table=drawn, schemes=schemes, laws=laws(name))


PARTS: dict[str, Callable[[Path, int], Iterator[Case]]] = {
    "groups": groups,
    "small": small,
    "later": later,
    "donor": donor,
    "sizes": sizes,
    "simulation": simulation,
    "domains": domains,
    "few": few,
}
