"""Swarms in rounds: plan a few runs, train them, plan the next from what all have lost, and so on."""

import dataclasses
from pathlib import Path
from typing import Any

from bimixjax._base.checks import InputError
from bimixjax.loop.settings import settle
from bimixjax.loop.workflow import OBSERVATIONS, Watch
from bimixjax.observations import Inventory, Observations
from bimixjax.optimization import Limits
from bimixjax.planning import Plan, plan
from bimixjax.planning.measured import Measured
from bimixjax.proxy import Design, SwarmConfig, TokenSource, train_swarm
from bimixjax.proxy.storage import held

SETTINGS = "rounds.json"


@dataclasses.dataclass(frozen=True, kw_only=True)
class RoundsConfig:
    """What each round does.

    Attributes:
        per_round: runs of a round.
        limits: of their mixtures.
        inventory: unique tokens of the domains, for limits of epochs; those of every domain make the natural mixture
            the last run of the first round.
        seed: of the runs, and of the random mixtures that plans look at.
        swarm: how runs are trained and measured.

    Raises:
        InputError: where a number is out of range.
    """

    per_round: int = 4
    limits: Limits = dataclasses.field(default_factory=Limits)
    inventory: Inventory | None = None
    seed: int = 0
    swarm: SwarmConfig = dataclasses.field(default_factory=SwarmConfig)

    def __post_init__(self) -> None:
        if self.per_round < 1 or not 0 <= self.seed < 2**32:
            got = f"per_round is {self.per_round} and seed {self.seed}"
            raise InputError(f"{got}; allowed: at least 1, and 0 to 2^32 - 1")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rounds:
    """What was trained.

    Attributes:
        plans: of each round.
        least: the least mean loss of a run until the end of each round, NaN where all have diverged.
        observations: of all runs.
        table: where these are written.
    """

    plans: tuple[Plan, ...]
    least: tuple[float, ...]
    observations: Observations
    table: Path


def run_rounds(
    folder: str | Path,
    tokens: TokenSource,
    config: RoundsConfig | None = None,
    *,
    rounds: int = 4,
    first: Design | None = None,
    watch: Watch | None = None,
) -> Rounds:
    """Plan, train and measure runs in rounds: the first from nothing, each other one from all before.

    The same call on the same folder goes on where the last one was killed, and ends in the same numbers; with more
    rounds, it adds those. The folder then holds `observations.csv`, and for each round a folder with its design.

    Args:
        folder: where everything goes.
        tokens: training and validation tokens by domain; the domains are the targets, too.
        config: what each round does.
        rounds: how many.
        first: the runs of the first round, in place of a plan from nothing.
        watch: called when a round begins, for example to draw bars.

    Raises:
        InputError: where the folder was begun with other settings, another process is at work in it, or corpus,
            model and limits do not fit together.
    """
    folder, config, watch = Path(folder), config or RoundsConfig(), watch or (lambda stage: None)
    if rounds < 1:
        raise InputError(f"rounds is {rounds}; allowed: at least 1")
    plans: list[Plan] = []
    least: list[float] = []
    with held(folder):
        # Each round's swarm compares its own settings, of which some may change.
        settle(folder / SETTINGS, {**dataclasses.asdict(config), "swarm": None})
        known = None
        for number in range(1, rounds + 1):
            made, design = _next(known, tokens.domains, config, first)
            part = folder / f"round-{number}"
            design = design.settle(part / "design.csv")
            stage = watch(f"round {number} of {rounds}: {len(design)} runs")
            measured = Observations.read(train_swarm(design, tokens, config.swarm, part, progress=stage))
            known = measured if known is None else Observations.concat(known, measured)
            known.write(folder / OBSERVATIONS)
            plans.append(made)
            least.append(float(Measured.of(known, design.domains).losses.mean(axis=1).min()))
        assert known is not None
    return Rounds(plans=tuple(plans), least=tuple(least), observations=known, table=folder / OBSERVATIONS)


def _next(
    known: Observations | None, domains: tuple[str, ...], config: RoundsConfig, first: Design | None
) -> tuple[Plan, Design]:
    """Return the plan of the next round, and its design with the seeds of the runs."""
    options: dict[str, Any] = {"runs": config.per_round, "limits": config.limits, "key": config.seed}
    options["inventory"] = config.inventory
    if known is not None:
        made = plan(known, targets=known.domains, **options)
    elif first is not None:
        return Plan.given(first), first
    else:
        made = plan(None, domains=domains, **options)
    return made, made.design(config.seed)
