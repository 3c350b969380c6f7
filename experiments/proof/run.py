"""Every method's proposal, trained: `python -m experiments.proof.run --corpus DIR --folder DIR`."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import tyro
from jaxtyping import Float

from bimixjax import Inventory, Limits, Observations, plan
from bimixjax.corpus import TokenStore
from bimixjax.loop.proof import Proof, prove
from bimixjax.loop.proposals import Proposal, Proposals, propose
from bimixjax.loop.texts import COUNTED, VON_NEUMANN, Text
from bimixjax.observations import Budget
from bimixjax.proxy import Design, LimitedTokens, doremi, train_swarm
from experiments.proof import config


@dataclass(frozen=True, kw_only=True)
class Options:
    """Train a design, let each method propose, train what they propose; goes on where it was killed."""

    corpus: Path
    """The token store of `python -m experiments.corpus.run`."""
    folder: Path
    """Where runs go."""
    sizes: tuple[str, ...] = tuple(config.SIZES)
    """Of `config.SIZES`, the smallest first, whose proposals are trained at the others, too."""
    split: Literal[0, 1] = 0
    """Of the corpus: which of `config.SPLITS` is done."""


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """A store, some of whose domains only may be trained on."""

    store: TokenStore
    split: config.Split = config.SPLITS[0]
    only: tuple[str, ...] | None = None

    @property
    def domains(self) -> tuple[str, ...]:
        return self.only or self.store.domains

    @property
    def unique(self) -> dict[str, int]:
        return {domain: len(self.store.train(domain)) for domain in self.domains}

    @property
    def tokens(self) -> LimitedTokens:
        """All of it, with how much there is of each domain in the tables."""
        return LimitedTokens(source=self.store, unique=self.unique)

    @property
    def inventory(self) -> Inventory:
        return Inventory(self.unique)

    @property
    def limits(self) -> Limits:
        return Limits(max_epochs=config.MAX_EPOCHS, train_tokens=float(config.STEPS * config.BATCH * config.CONTEXT))


def main(options: Options) -> None:
    corpus = Corpus(store=TokenStore.open(options.corpus), split=config.SPLITS[options.split])
    smallest = options.folder / next(iter(config.SIZES))
    for size in options.sizes:
        place = options.folder / size
        tables = designed(corpus, size, place)
        before = None if place == smallest else smallest / "proposals.json"
        proposals = proposed(corpus, tables, place, before)
        trained = (corpus.tokens, config.swarm(size))
        split = corpus.split
        proof = prove(place / config.PROOF, proposals, *trained, split.seeds, progress=say)
        show(size, proof)
        near = proof.means <= config.CONTENDERS[size] * np.nanmin(proof.means)
        contenders = tuple(one for one, yes in zip(proposals.of, near, strict=True) if yes)
        again = dataclasses.replace(proposals, of=contenders)
        show(size, prove(place / config.AGAIN, again, *trained, split.more, progress=say))
        if split.doremi:
            place_of = smallest / "doremi"
            found = doremi(corpus.store, config.swarm(smallest.name), seeds=split.doremi, folder=place_of)
            further = dataclasses.replace(proposals, of=()).beside({"DoReMi": found.proportions})
            prove(place / config.MORE, further, *trained, (*split.seeds, *split.more), progress=say)


def designed(corpus: Corpus, size: str, place: Path) -> dict[str, Observations]:
    """Train the design in two parts, the second planned from the planned runs of the first; return what methods see."""
    store, swarm = corpus.store, config.swarm(size)
    planning = {"runs": config.PLANNED_FIRST, "inventory": corpus.inventory, "limits": corpus.limits}

    def first() -> Design:
        planned = plan(None, domains=store.domains, **planning).mixtures
        ids = [f"random-{i + 1}" for i in range(config.RANDOM)] + [f"planned-{i + 1}" for i in range(len(planned))]
        mixtures = np.concatenate([random_mixtures(corpus), planned])
        return Design.make(ids, store.domains, mixtures, [corpus.split.design] * len(ids))

    design = kept(place / "design.csv", first)
    begun = Observations.read(train_swarm(design, corpus.tokens, swarm, place / "design", progress=say))

    def second() -> Design:
        known, _ = begun.split([run for run in begun.runs if run.startswith("random")])
        budget = Budget(volume=float(config.STEPS * config.BATCH * config.CONTEXT), unit="tokens")
        own = planning | {"runs": config.PLANNED_NEXT, "budget": budget}
        planned = plan(known, targets=store.domains, **own).mixtures
        ids = [f"planned-{config.PLANNED_FIRST + i + 1}" for i in range(len(planned))]
        return Design.make(ids, store.domains, planned, [corpus.split.design] * len(ids))

    design = kept(place / "design-2.csv", second)
    rest = Observations.read(train_swarm(design, corpus.tokens, swarm, place / "design-2", progress=say))
    whole = Observations.concat(begun, rest)
    whole.write(place / "runs.csv")
    tables = {}
    for name, (random, planned) in config.TABLES.items():
        seen = {f"random-{i + 1}" for i in range(random)} | {f"planned-{i + 1}" for i in range(planned)}
        tables[name], _ = whole.split([run for run in whole.runs if run not in seen])
    return tables


def kept(path: Path, make: Callable[[], Design]) -> Design:
    """The design of the first call: a plan depends on rounding, which another number of threads changes."""
    if not path.exists():
        make().write(path)
    return Design.read(path)


def random_mixtures(corpus: Corpus, runs: int = config.RANDOM) -> Float[np.ndarray, "n d"]:
    """Draw from a flat Dirichlet distribution, passing over what goes through a domain too often."""
    counts = np.array([*corpus.unique.values()])
    most = config.MAX_EPOCHS * counts / (config.STEPS * config.BATCH * config.CONTEXT)
    return drawn(len(counts), runs, corpus.split.mixtures, 0.0, most)


def drawn(
    domains: int, runs: int, seed: int, least: float, most: float | Float[np.ndarray, " d"]
) -> Float[np.ndarray, "runs d"]:
    """Draw from a flat Dirichlet distribution, passing over mixtures with a share outside its limits."""
    found = np.random.default_rng(seed).dirichlet(np.ones(domains), 100 * runs)
    return found[((found >= least) & (found <= most)).all(1)][:runs]


def proposed(
    corpus: Corpus,
    tables: dict[str, Observations],
    place: Path,
    before: Path | None,
) -> Proposals:
    """What each method proposes from each table, and the references once; kept in a file from the first call on."""
    path = place / "proposals.json"
    if path.exists():
        return Proposals.load(path)
    methods, references = corpus.split.methods, corpus.split.references
    found: list[Proposal] = []
    shared: dict[str, Float[np.ndarray, " d"]] = {}
    missing: dict[str, str] = {}
    of_table: Proposals | None = None
    for name, table in tables.items():
        of_table = propose(table, methods, inventory=corpus.inventory, limits=corpus.limits)
        for one in of_table.of:
            if one.name in methods or (one.name == "best run" and references is None):
                found.append(dataclasses.replace(one, name=f"{name}/{one.name}"))
            elif one.name != "best run":
                shared[one.name] = one.proportions
        missing |= {f"{name}/{method}": why for method, why in of_table.missing.items()}
    assert of_table is not None
    if before is not None:
        for one in Proposals.load(before).of:
            if one.name.endswith(f"/{config.TRANSFERRED}"):
                shared[f"smaller:{one.name}"] = one.proportions
    text = Text(tokens=corpus.store)
    shared |= {name.upper(): text.mixture(name, corpus.store.domains) for name in (*COUNTED, VON_NEUMANN)}
    beside = {name: mixture for name, mixture in shared.items() if references is None or name in references}
    joined = dataclasses.replace(of_table, of=tuple(found), missing=missing).beside(beside)
    joined.save(path)
    return joined


def show(size: str, proof: Proof) -> None:
    print(f"{size}: standard error of a difference {proof.standard_error:.5f}")
    for name in proof.ranked:
        i = proof.mixtures.index(name)
        print(f"  {name:32} {proof.means[i]:.4f}  promised {proof.promised[i]:.4f}  {proof.held[i]}")


def say(step: int, steps: int, tokens_per_second: float, seconds_left: float) -> None:
    if step % 50 == 0 or step == steps:
        print(f"  {step} of {steps} steps, {tokens_per_second:,.0f} tokens/s, {seconds_left:.0f} s left", flush=True)


if __name__ == "__main__":
    main(tyro.cli(Options))
