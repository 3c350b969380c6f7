"""The `bimix prove` command: methods choose mixtures from the same runs, and what they chose is trained."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

from tyro.conf import Positional, arg

import bimixjax
from bimixjax._base.checks import InputError
from bimixjax.cli import progress
from bimixjax.cli.console import FIGURES, Answer, File, FolderCommand, Formats
from bimixjax.cli.limits import LimitedByRuns
from bimixjax.cli.options import Counts, Names, Number, Numbers, Stock, inventory, names, numbers, wholes
from bimixjax.cli.reporting import mixtures_of, named_mixtures

if TYPE_CHECKING:
    from bimixjax.corpus import TokenStore
    from bimixjax.proxy import LimitedTokens

# What the folder was begun with.
BEGUN = "prove.json"

# A difference of two means then has .7 times the noise of a run.
SEEDS = (1, 2, 3, 4)


@dataclass(frozen=True, kw_only=True)
class Prove(FolderCommand, LimitedByRuns):
    """Let methods choose mixtures from the same runs, train what they choose, and compare it with what they promised.

    Runs are trained as those of the swarm were, with other seeds; the same command goes on where it was killed.

    Example: bimix prove proxies corpus proof --methods auto,bimix --seeds 1,2,3,4
    """

    formats: ClassVar[Formats] = {"figure": FIGURES}

    swarm: Annotated[Positional[Path], arg(metavar="SWARM")]
    """The folder of a swarm, as `bimix swarm` leaves it; its observations.csv is what methods see."""
    store: Annotated[Positional[Path], arg(metavar="STORE")]
    """The token store that it was trained on."""
    folder: Annotated[Positional[Path], arg(metavar="FOLDER")]
    """Where proposals.json, written before anything is trained, observations.csv and checkpoints go."""
    methods: Names = ()
    """Names of laws, and: auto, auto-near-optimal (the average of what is within .1 %), log-linear-kl (as olmix),
    lightgbm (as RegMix); se, ce, je, vne (entropy mixtures of the training text), doremi (which trains a pair of models
    for each seed). Default: the first four of these, bimix, bimix_transfer, additive, joint and exponential."""
    seeds: Counts = ()
    """Of the runs; each mixture is trained once with each. Default: 1,2,3,4."""
    beside: File = None
    """Further mixtures to train (.csv, .parquet, or what `bimix entropy --out` wrote)."""
    model_size: Number = None
    """Parameters, where the swarm has several sizes."""
    weight: Numbers = ()
    """Weights of targets in the mean; those not named get 0. Default: all the same."""
    inventory: Stock = ()
    """Unique tokens of the domains, for --max-epochs and laws that read epochs, or a file of them (domain,tokens).
    Default: the training tokens of the store, for the natural mixture and for --max-epochs."""
    train_tokens: Number = None
    """For --max-epochs: tokens of the training that repeats. Default: those of a run."""
    figure: File = None
    """Draw the losses of all runs (.png, .pdf, .svg)."""

    def work(self) -> Answer:
        """Propose, train, judge."""
        from bimixjax import corpus
        from bimixjax._base.provenance import digest
        from bimixjax.loop.proof import PROPOSALS, prove, require_fresh
        from bimixjax.loop.proposals import METHODS, Proposals, propose
        from bimixjax.loop.settings import settle
        from bimixjax.loop.texts import DOREMI, Text
        from bimixjax.proxy import SwarmConfig, layout
        from bimixjax.reports import figures, proofs

        table = bimixjax.Observations.read(self.swarm / layout.OBSERVATIONS)
        table = table if self.model_size is None else table.select(model_size=self.model_size)
        store = corpus.TokenStore.open(self.store)
        config = SwarmConfig.read(self.swarm, table.model_sizes[0] if len(table.model_sizes) == 1 else None)
        tokens = tokens_of(store, table)
        stock = inventory(self.inventory) or bimixjax.Inventory(
            {domain: float(len(tokens.train(domain))) for domain in store.domains}
        )
        limits = replace(self.limits(named_mixtures(table.domains, stock)), train_tokens=self.train_tokens)
        others = {} if self.beside is None else mixtures_of(self.beside, table.domains)
        seeds = wholes("seeds", self.seeds) or SEEDS
        require_fresh(seeds, [] if table.seed is None else sorted(set(table.seed.tolist())))
        methods, weights = names(self.methods) or METHODS, numbers("weight", self.weight) or None
        options = {"weights": weights, "limits": limits, "inventory": stock}
        asked = {"observations": digest(self.swarm / layout.OBSERVATIONS), "model_size": self.model_size}
        asked |= {"methods": methods, "seeds": seeds, "weights": weights, "beside": others}
        settle(self.folder / BEGUN, asked | {"limits": asdict(limits), "inventory": stock.tokens})
        with progress.shown() as watch:
            # Proposals are frozen: those of another number of threads would differ by rounding.
            frozen = self.folder / PROPOSALS
            if frozen.exists():
                found = Proposals.load(frozen)
            else:
                watch("proposals")
                # As many pairs of DoReMi's models as there are seeds, which the proof keeps to itself.
                pairs = [seed for seed in range(2 * len(seeds)) if seed not in seeds][: len(seeds)]
                text = Text(tokens=tokens, config=config, seeds=tuple(pairs), folder=self.folder / DOREMI, watch=watch)
                found = propose(table, methods, **options, text=text).beside(others)
            stage = watch("training what was proposed")
            proof = prove(self.folder, found, tokens, config, seeds, progress=stage)
        if self.figure:
            figures.save(figures.proof(proof), self.figure)
        return Answer(document=proofs.document(proof, found), screen=proofs.screen(proof, found))


def tokens_of(store: "TokenStore", table: "bimixjax.Observations") -> "TokenStore | LimitedTokens":
    """Return the tokens that the runs of a table were trained on: as few of each domain as the table says.

    Raises:
        InputError: where runs differ in that.
    """
    import numpy as np

    from bimixjax.proxy import LimitedTokens

    if table.unique is None:
        return store
    if not (table.unique == table.unique[0]).all():
        raise InputError(f"{table.source}: runs had different numbers of unique tokens; allowed: the same for all")
    counts = zip(table.domains, table.unique[0].tolist(), strict=True)
    return LimitedTokens(source=store, unique={domain: int(count) for domain, count in counts if np.isfinite(count)})
