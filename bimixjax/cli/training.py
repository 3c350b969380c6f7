"""The subcommands of `bimix` that lead from corpora to observations, and the one that does it all."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from tyro.conf import Positional, arg

from bimixjax._base.checks import InputError
from bimixjax.cli import progress
from bimixjax.cli.console import Answer, File, FileCommand, FolderCommand, Formats
from bimixjax.cli.options import Counts, Names, Number, Numbers, Stock, Whole, inventory, names, numbers, wholes

if TYPE_CHECKING:
    from bimixjax.corpus import Document, Tokenizer, TokenStore
    from bimixjax.loop.designs import Mixtures
    from bimixjax.proxy import LimitedTokens, SwarmConfig

# In place of the file of a design.
PLANNED = Path("plan")
Store = Annotated[Positional[Path], arg(metavar="STORE")]


@dataclass(frozen=True, kw_only=True)
class Corpus(FolderCommand):
    """Tokenize texts into a token store.

    Example: bimix corpus corpus --cap 1M
    """

    folder: Annotated[Positional[Path], arg(metavar="FOLDER")]
    """The folder to make; a token store that is there is replaced."""
    domain: Annotated[tuple[str, ...], arg(metavar="NAME=PATH")] = ()
    """A domain and the file or folder of its texts (.txt, .jsonl, .parquet, .gz, .zst); may be repeated. Default: the
    local corpus, five domains from what this Python installation carries."""
    tokenizer: File = None
    """A `tokenizers` JSON file. Default: bytes."""
    separator: Annotated[str, arg(metavar="TOKEN")] = "<|endoftext|>"
    """The special token of the tokenizer file that ends documents."""
    text_field: Annotated[str, arg(metavar="NAME")] = "text"
    """The field or column with the text."""
    id_field: Annotated[str | None, arg(metavar="NAME", help_behavior_hint="")] = None
    """The field or column that names a document's source; documents of one source fall into one split."""
    validation_fraction: Annotated[float, arg(metavar="NUMBER")] = 0.1
    """Expected share of the sources that become validation."""
    cap: Annotated[Whole, arg(metavar="BYTES")] = 4_000_000
    """About the most bytes per domain of the local corpus."""

    def inputs(self) -> Iterable[Path]:
        """Return the texts and the tokenizer."""
        return [*super().inputs(), *filter(Path.exists, self.paths().values())]

    def work(self) -> Answer:
        """Tokenize."""
        from bimixjax import corpus
        from bimixjax.reports import corpora, tables

        given, tokenizer = self.given_documents(), self.chosen_tokenizer()
        with progress.shown() as watch:
            watch("corpus")
            documents = given or corpus.local_documents(cap=self.cap)
            fraction = self.validation_fraction
            store = corpus.tokenize(self.folder, documents, tokenizer=tokenizer, validation_fraction=fraction)
        screen = [corpora.corpus(store), *tables.notes(store.notes)]
        return Answer(document=corpora.corpus_document(store), screen=screen)

    def given_documents(self) -> Mapping[str, Iterable["Document"]]:
        """Return the documents of each domain of the command line, read when they are needed."""
        from bimixjax import corpus

        read = partial(corpus.read_documents, text_field=self.text_field, id_field=self.id_field)
        return {name: read(path) for name, path in self.paths().items()}

    def paths(self) -> dict[str, Path]:
        """Return the file or folder of each domain of the command line."""
        found: dict[str, Path] = {}
        for given in self.domain:
            name, _, path = given.partition("=")
            if not (name.strip() and path):
                raise InputError(f"--domain has {given!r}; allowed: NAME=PATH")
            found[name.strip()] = Path(path)
        if len(found) < len(self.domain):
            raise InputError("--domain names a domain twice; put its files into one folder")
        return found

    def chosen_tokenizer(self) -> "Tokenizer":
        """Return the tokenizer of the file, or that of bytes."""
        from bimixjax import corpus

        if self.tokenizer is None:
            return corpus.ByteTokenizer()
        return corpus.FileTokenizer.load(self.tokenizer, separator=self.separator)


@dataclass(frozen=True, kw_only=True)
class Entropy(FileCommand):
    """Measure the entropies of a corpus, and the mixtures that follow from them.

    Example: bimix entropy corpus
    """

    store: Store
    """A token store, as `bimix corpus` makes one."""
    sequence_length: Annotated[Whole, arg(metavar="TOKENS")] = 1024
    """Length of the packed sequences; pairs of tokens do not cross their ends."""

    def work(self) -> Answer:
        """Count, and write."""
        from bimixjax import corpus
        from bimixjax._base import records
        from bimixjax.corpus import entropy
        from bimixjax.loop import designs
        from bimixjax.reports import corpora

        store = corpus.TokenStore.open(self.store)
        found = entropy.corpus_entropies(store, sequence_length=self.sequence_length)
        chosen = designs.training_free(store, found, designs.MEASURES)
        document = {"entropies": found, "mixtures": corpora.mixtures_document(store.domains, chosen)}
        if self.out:
            records.write_json(self.out, document, hashed=True)
        screen = [corpora.entropies(store, found), corpora.mixtures(store.domains, chosen)]
        return Answer(document=document, screen=screen)


@dataclass(frozen=True, kw_only=True)
class Design(FileCommand):
    """Plan a swarm: natural, uniform, entropy and spread mixtures of a corpus.

    Example: bimix design corpus --spread 6 --out design.csv
    """

    formats: ClassVar[Formats] = {"out": (".csv",)}

    store: Annotated[Positional[Path | None], arg(metavar="STORE", help_behavior_hint="")] = None
    """A token store, as `bimix corpus` makes one; or none, and --inventory."""
    inventory: Stock = ()
    """Without a token store: the tokens of every domain, for the natural mixture, or a file of them (domain,tokens)."""
    entropy: Names = ()
    """Entropies to make mixtures of: conditional, joint, shannon. Default: conditional, from a token store."""
    spread: Annotated[Whole, arg(metavar="NUMBER")] = 9
    """How many mixtures to spread over the simplex."""
    concentration: Annotated[float, arg(metavar="NUMBER")] = 6.0
    """Of the Dirichlet distribution from which they are drawn; the larger, the nearer to uniform."""
    seed: Annotated[Whole, arg(metavar="NUMBER")] = 0
    """Seed of the draw."""
    run_seeds: Counts = ()
    """Seeds of the runs; each mixture is there once per seed. Default: 0."""

    def work(self) -> Answer:
        """Plan, and write."""
        from bimixjax.loop import designs
        from bimixjax.reports import corpora

        spread = designs.Spread(count=self.spread, concentration=self.concentration, seed=self.seed)
        domains, chosen = self.training_free()
        chosen |= spread.draw(chosen)
        made = designs.make_design(chosen, domains, wholes("run-seeds", self.run_seeds) or (0,))
        if self.out:
            made.write(self.out)
        document = corpora.mixtures_document(domains, chosen)
        return Answer(document=document, screen=[corpora.mixtures(domains, chosen)])

    def training_free(self) -> "tuple[tuple[str, ...], Mixtures]":
        """Return the domains, and their mixtures by name: of the token store, or of the tokens given."""
        from bimixjax import corpus
        from bimixjax.corpus.entropy import corpus_entropies
        from bimixjax.loop import designs

        stock = inventory(self.inventory)
        if self.store is not None and stock is None:
            store = corpus.TokenStore.open(self.store)
            measures = names(self.entropy) or ("conditional",)
            return store.domains, designs.training_free(store, corpus_entropies(store), measures)
        if self.store is not None or stock is None:
            raise InputError("bimix design takes either a token store or --inventory NAME=NUMBER,... of every domain")
        if self.entropy:
            raise InputError("--entropy needs a token store; numbers of tokens do not tell entropies")
        domains = tuple(stock.tokens)
        return domains, designs.of_counts(stock.natural(domains))


@dataclass(frozen=True, kw_only=True)
class Swarm(FolderCommand):
    """Train a small model on each mixture of a design, or in rounds; the same command goes on where it was killed.

    Example: bimix swarm design.csv corpus proxies --steps 500
    """

    design: Annotated[Positional[Path], arg(metavar="DESIGN|plan")]
    """A table of runs (.csv): run, seed, mixture/<domain>; as `bimix design` or `bimix plan` makes one. The word plan
    with --rounds: the first round is planned from nothing."""
    store: Store
    """A token store, as `bimix corpus` makes one."""
    folder: Annotated[Positional[Path], arg(metavar="FOLDER")]
    """Where observations.csv and the checkpoints go."""
    model: Annotated[Literal["0.1m", "1m", "10m", "60m", "150m", "300m", "1b"], arg(metavar="SIZE")] = "0.1m"
    """Parameters of the model: 0.1m, 1m, 10m, 60m, 150m, 300m, 1b."""
    context: Annotated[Whole, arg(metavar="TOKENS")] = 128
    """Length of the training sequences."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of activations and products."""
    batch: Annotated[Whole, arg(metavar="NUMBER")] = 16
    """Sequences per step."""
    steps: Annotated[Whole, arg(metavar="NUMBER")] = 500
    """Optimizer steps of each run."""
    learning_rate: Annotated[float, arg(metavar="NUMBER")] = 3e-3
    """Learning rate after the warm-up."""
    warmup: Annotated[Whole, arg(metavar="STEPS")] = 20
    """Steps of the warm-up."""
    eval_steps: Counts = ()
    """Steps at which losses are measured. Default: eight, from a sixteenth of the steps on."""
    eval_windows: Annotated[Whole, arg(metavar="NUMBER")] = 64
    """Most validation sequences per domain."""
    checkpoint_every: Annotated[Whole, arg(metavar="STEPS")] = 500
    """Steps between checkpoints."""
    simulate_epochs: Number = None
    """Repeat each domain as often as a real run of so many tokens will: it is drawn from its first tokens, as many as
    its unique tokens in --inventory times the tokens of a run here over those."""
    inventory: Stock = ()
    """For --simulate-epochs: unique tokens of the domains in the real run, or a file of them (domain,tokens)."""
    shard: Annotated[str | None, arg(metavar="I/N", help_behavior_hint="")] = None
    """Train every N-th run from the I-th on (I from 0); the shard that ends last puts the tables together."""
    rounds: Annotated[Whole, arg(metavar="NUMBER")] = 0
    """Train in so many rounds: the design, then runs that are planned from what all before have lost."""
    per_round: Annotated[Whole, arg(metavar="NUMBER")] = 4
    """For --rounds: runs of a planned round. Planned from nothing, its last run has the natural mixture."""
    lower: Numbers = ()
    """For --rounds: least shares of domains."""
    upper: Numbers = ()
    """For --rounds: greatest shares of domains."""

    def work(self) -> Answer:
        """Train, and show the last losses."""
        from bimixjax import corpus, proxy
        from bimixjax.observations import Observations
        from bimixjax.reports import corpora

        if self.rounds:
            return self.in_rounds()
        if self.lower or self.upper or self.design == PLANNED:
            raise InputError("--lower, --upper and the word plan in place of a design go with --rounds NUMBER")
        store, design = corpus.TokenStore.open(self.store), proxy.Design.read(self.design)
        config, shard = self.swarm_config(store.vocab_size), _shard(self.shard)
        tokens = self.tokens(store, config)
        with progress.shown() as watch:
            stage = watch(f"swarm of {len(design)} runs")
            table = proxy.train_swarm(design, tokens, config, self.folder, shard=shard, progress=stage)
        observations = Observations.read(table)
        document = {"observations": str(table), "runs": observations.runs, "steps": self.steps}
        diverged = observations.metadata["status"].ne("ok").sum() == len(observations.runs)
        return Answer(document=document, screen=[corpora.swarm(observations), f"Table: {table}"], failed=bool(diverged))

    def tokens(self, store: "TokenStore", config: "SwarmConfig") -> "TokenStore | LimitedTokens":
        """Return the tokens to train on: all of the store, or as few as make the epochs of the real run."""
        from bimixjax.proxy import simulate_epochs

        stock = inventory(self.inventory)
        if (stock is None) != (self.simulate_epochs is None):
            raise InputError("--simulate-epochs TOKENS and --inventory go together: epochs follow from both")
        if stock is None or self.simulate_epochs is None:
            return store
        own = config.steps * config.train.tokens_per_step
        window = config.train.model.context + 1
        return simulate_epochs(store, stock, train_tokens=self.simulate_epochs, proxy_tokens=own, window=window)

    def in_rounds(self) -> Answer:
        """Plan and train by turns, and show what each round brought and the last losses."""
        from bimixjax import corpus, proxy
        from bimixjax.loop.rounds import RoundsConfig, run_rounds
        from bimixjax.observations import Inventory
        from bimixjax.optimization import Limits
        from bimixjax.reports import corpora, plans

        if self.shard:
            raise InputError("--rounds trains the runs of a round together; leave --shard out")
        store = corpus.TokenStore.open(self.store)
        first = None if self.design == PLANNED else proxy.Design.read(self.design)
        limits = Limits(lower=numbers("lower", self.lower), upper=numbers("upper", self.upper))
        swarm, stock = self.swarm_config(store.vocab_size), inventory(self.inventory)
        stock = stock or Inventory(dict(zip(store.domains, store.tokens.tolist(), strict=True)))
        config = RoundsConfig(per_round=self.per_round, limits=limits, inventory=stock, swarm=swarm)
        tokens = self.tokens(store, swarm)
        with progress.shown() as watch:
            found = run_rounds(self.folder, tokens, config, rounds=self.rounds, first=first, watch=watch)
        screen = [*plans.rounds(found), corpora.swarm(found.observations), f"Table: {found.table}"]
        return Answer(document=plans.rounds_document(found), screen=screen)

    def swarm_config(self, vocab_size: int) -> "SwarmConfig":
        """Return what each run does."""
        from bimixjax.proxy import ModelConfig, SwarmConfig, TrainConfig

        model = ModelConfig.preset(self.model, vocab=vocab_size, context=self.context, dtype=self.dtype)
        train = TrainConfig(model=model, batch=self.batch, learning_rate=self.learning_rate, warmup=self.warmup)
        same: dict[str, Any] = {name: getattr(self, name) for name in ("steps", "eval_windows", "checkpoint_every")}
        return SwarmConfig(train=train, eval_steps=wholes("eval-steps", self.eval_steps), **same)


@dataclass(frozen=True, kw_only=True)
class Demo(FolderCommand):
    """Do it all on a small scale: from a corpus to a law, to a better mixture, to a measured proof.

    Example: bimix demo my-demo
    """

    folder: Annotated[Positional[Path], arg(metavar="FOLDER")] = Path("bimix-demo")
    """Where everything goes; the same command goes on where it was killed."""
    steps: Annotated[Whole, arg(metavar="NUMBER")] = 700
    """Optimizer steps of each run."""
    law: Annotated[str, arg(metavar="NAME")] = "auto"
    """The law to fit, or auto: an average of several. `bimix fit --help` lists all."""

    def work(self) -> Answer:
        """Run the loop, and write the report."""
        from bimixjax.loop import workflow
        from bimixjax.reports import loop, page

        config = workflow.LoopConfig(law=self.law, swarm=workflow.small_swarm(self.steps))
        with progress.shown() as watch:
            result = workflow.run_loop(self.folder, config, watch=watch)
            watch("report")
            report = page.write(result, self.folder)
        screen = [*loop.screen(result), "", f"Report: {report}"]
        return Answer(document=loop.document(result), screen=screen, failed=not result.best.converged)


def _shard(given: str | None) -> tuple[int, int] | None:
    if given is None:
        return None
    numbers_of = re.fullmatch("([0-9]+)/([0-9]+)", given)
    if numbers_of is None:
        raise InputError(f"--shard is {given!r}; allowed: I/N, such as 0/4")
    return int(numbers_of[1]), int(numbers_of[2])
