"""The whole loop as one call: corpus, entropies, design, swarm, law, checks, better mixture, measured proof."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from bimixjax._base import provenance
from bimixjax._base.checks import InputError, choice
from bimixjax.corpus import TokenStore, local_corpus
from bimixjax.corpus.entropy import Entropies, corpus_entropies
from bimixjax.estimation import Auto, AutoFit, fit
from bimixjax.fitting import FitResult
from bimixjax.fitting.base import Fit
from bimixjax.laws import LAWS
from bimixjax.loop.designs import Mixtures, Spread, make_design, training_free
from bimixjax.loop.evidence import UNIT, Check, extrapolate, generalize
from bimixjax.loop.proof import Proof, prove, trained_as
from bimixjax.loop.proposals import LOG_LINEAR, METHODS, Proposal, Proposals, of_optimum, propose
from bimixjax.loop.settings import settle
from bimixjax.observations import Budget, Observations
from bimixjax.optimization import Limits, OptimalMixture, optimize
from bimixjax.proxy import Design, ModelConfig, Progress, SwarmConfig, TrainConfig, train_swarm
from bimixjax.proxy.storage import held

OPTIMIZED = "optimized"
OBSERVATIONS, DESIGN, FIT, MIXTURE, PROOF = "observations.csv", "design.csv", "fit.json", "mixture.json", "proof.csv"
SETTINGS = "loop.json"


class Watch(Protocol):
    """A function to call when a stage of the loop begins; it may return what a swarm then reports to."""

    def __call__(self, stage: str, /) -> Progress | None:
        """Take note that `stage` begins."""
        ...


def small_swarm(steps: int = 700) -> SwarmConfig:
    """Return the swarm of the demo: models of 0.07M parameters that learn bytes within seconds on a CPU.

    Measured from a quarter of the steps on: before that, all mixtures teach the same, and no law of mixtures holds.

    Example:
        >>> small_swarm(800).measured
        (200, 264, 348, 459, 606, 800)
    """
    model = ModelConfig(layers=2, width=48, heads=2, context=64)
    train = TrainConfig(model=model, batch=16, learning_rate=2e-3, base_width=None)
    measured, every = tuple(max(1, round(steps * 4 ** (i / 5 - 1))) for i in range(6)), max(1, steps // 4)
    return SwarmConfig(train=train, steps=steps, eval_steps=measured, eval_windows=128, checkpoint_every=every)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoopConfig:
    """What the loop does.

    Attributes:
        law: the law to fit, a name; or "auto", or settings of it.
        spread: the mixtures of the design beside natural, uniform and conditional-entropy.
        held_out: how many of them, the last ones, the generalization check leaves out of its fit.
        seed: of every run of the design.
        rivals: methods whose proposals the proof trains beside the law's, see `propose`.
        proof_seeds: of the runs of the proof, each mixture once per seed.
        swarm: how runs are trained and measured; those of the proof at the last step only.
        corpus_cap, validation_fraction: of the local corpus, see `local_corpus`.

    Raises:
        InputError: for an unknown law, a number held out that is not one of the spread mixtures, less than two seeds
            of the proof or one that is the design's, or a swarm that is measured once.

    Example:
        >>> LoopConfig(spread=Spread(count=4)).proof_seeds
        (1, 2, 3)
    """

    law: str | Auto = "auto"
    spread: Spread = dataclasses.field(default_factory=Spread)
    held_out: int = 2
    seed: int = 0
    rivals: tuple[str, ...] = ("bimix", LOG_LINEAR)
    proof_seeds: tuple[int, ...] = (1, 2, 3)
    swarm: SwarmConfig = dataclasses.field(default_factory=small_swarm)
    # More than there is: the natural mixture is then that of the files found.
    corpus_cap: int = 16_000_000
    validation_fraction: float = 0.1

    def __post_init__(self) -> None:
        if isinstance(self.law, str):
            choice("law", self.law, ("auto", *LAWS))
        for rival in self.rivals:
            choice("rival", rival, tuple(dict.fromkeys((*METHODS, *LAWS))))
        if not 1 <= self.held_out <= self.spread.count:
            raise InputError(f"held_out is {self.held_out}; allowed: 1 to {self.spread.count}, the spread mixtures")
        seeds = self.proof_seeds
        if len(set(seeds)) < max(2, len(seeds)) or self.seed in seeds:
            raise InputError(f"proof_seeds are {seeds}; allowed: two or more, all different, without {self.seed}")
        if len(self.swarm.measured) < 2:
            raise InputError("the swarm is measured at one step; allowed: two or more, since the last is held out")


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoopResult:
    """All that the loop found.

    Attributes:
        store, entropies: the corpus, and the entropies of its domains.
        design, observations, fit: the runs, their losses, and the law fitted to all of them.
        extrapolation: the last step held out.
        generalization: some mixtures held out.
        best: the mixture that the law likes best, with its certificate.
        compared: the mixtures of the proof by name; `OPTIMIZED` is `best`.
        proof: what they lost when they were trained.
    """

    store: TokenStore
    entropies: Mapping[str, Entropies]
    design: Design
    observations: Observations
    fit: FitResult | AutoFit
    extrapolation: Check
    generalization: Check
    best: OptimalMixture
    compared: Mixtures
    proof: Proof


def run_loop(
    folder: str | Path, config: LoopConfig | None = None, *, store: TokenStore | None = None, watch: Watch | None = None
) -> LoopResult:
    """Run the whole loop in `folder`: which mixture does a law choose from a small swarm, and is it better?

    The law's mixture is the best at the last step of the swarm, each domain between its least and its greatest share
    in the design, so that nothing is extrapolated. The same call on the same folder goes on where the last one was
    killed, and ends in the same numbers. The folder then holds `design.csv`, `observations.csv`, `fit.json`,
    `mixture.json` and `proof.csv`.

    Args:
        folder: where everything goes.
        config: what to do.
        store: the corpus; by default the local one, harvested into `folder`/corpus.
        watch: called when a stage begins, for example to draw bars.

    Raises:
        InputError: where the folder was begun with other settings, another process is at work in it, or the corpus
            does not fit the model.
        OSError: where the folder cannot be written.
    """
    folder, config, watch = Path(folder), config or LoopConfig(), watch or (lambda stage: None)
    with held(folder):
        settle(folder / SETTINGS, dataclasses.asdict(config))
        if store is None and (folder / "corpus").exists():
            store = TokenStore.open(folder / "corpus")
        elif store is None:
            watch("corpus")
            options = {"cap": config.corpus_cap, "validation_fraction": config.validation_fraction}
            store = local_corpus(folder / "corpus", **options)
        return _loop(folder, config, store, watch)


def _loop(folder: Path, config: LoopConfig, corpus: TokenStore, watch: Watch) -> LoopResult:
    watch("entropies")
    entropies = corpus_entropies(corpus)
    free = training_free(corpus, entropies)
    design = make_design(free | config.spread.draw(free), corpus.domains, [config.seed]).settle(folder / DESIGN)
    table = train_swarm(design, corpus, config.swarm, folder / "swarm", progress=watch(f"swarm of {len(design)} runs"))
    observations = Observations.read(table)
    observations.write(folder / OBSERVATIONS)
    watch("law")
    law = fit(config.law, observations, volume=UNIT)
    with provenance.given(folder / OBSERVATIONS):
        law.save(folder / FIT)
    best = optimize(law, budget=Budget(volume=config.swarm.steps, unit=UNIT), limits=_fitted_range(law))
    with provenance.given(folder / FIT):
        best.save(folder / MIXTURE)
    extrapolation = extrapolate(config.law, observations)
    generalization = generalize(config.law, observations, design.runs[-config.held_out :])
    proposals = _proposals(config, law, best, observations, free)
    at_last = dataclasses.replace(config.swarm, eval_steps=(config.swarm.steps,))
    runs = len(set(trained_as(proposals).values())) * len(config.proof_seeds)
    options: dict[str, Any] = {"progress": watch(f"proof of {runs} runs")}
    proof = prove(folder / "proof", proposals, corpus, at_last, config.proof_seeds, **options)
    Observations.read(folder / "proof" / OBSERVATIONS).write(folder / PROOF)
    return LoopResult(
        store=corpus,
        entropies=entropies,
        design=design,
        observations=observations,
        fit=law,
        extrapolation=extrapolation,
        generalization=generalization,
        best=best,
        compared={one.name: one.proportions for one in proposals.of},
        proof=proof,
    )


def _proposals(config: LoopConfig, law: Fit, best: OptimalMixture, table: Observations, free: Mixtures) -> Proposals:
    """Return what the proof trains: mixtures that need no law, as the law predicts them, its own, and rivals'."""
    limits, steps = _fitted_range(law), float(config.swarm.steps)
    found = propose(table, config.rivals, limits=limits)
    known = [
        Proposal(name=name, proportions=mixture, losses=np.asarray(law.predict(mixture, steps, from_prior=True)))
        for name, mixture in free.items()
    ]
    rivals = (one for one in found.of if one.name in config.rivals)
    return dataclasses.replace(found, of=(*known, *rivals, of_optimum(OPTIMIZED, best)))


def _fitted_range(law: Fit) -> Limits:
    """Keep each domain between its least and its greatest fitted share."""
    low, high = law.proportion_range[:, :, 0].max(axis=0), law.proportion_range[:, :, 1].min(axis=0)
    lower, upper = (dict(zip(law.domains, ends.tolist(), strict=True)) for ends in (low, high))
    return Limits(lower=lower, upper=upper)
