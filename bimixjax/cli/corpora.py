"""The subcommands of `bimix` that lead from texts to the design of a swarm."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

from tyro.conf import Positional, arg

from bimixjax._base.checks import InputError
from bimixjax.cli import progress
from bimixjax.cli.console import Answer, File, FileCommand, FolderCommand, Formats
from bimixjax.cli.options import Counts, Names, Stock, Whole, inventory, names, wholes

if TYPE_CHECKING:
    from bimixjax.corpus import Document, Tokenizer
    from bimixjax.loop.designs import Mixtures

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
    models: Names = ()
    """Sizes of the models, such as 0.1m,1m,10m; each run is there once per size. Default: that of `bimix swarm`."""

    def work(self) -> Answer:
        """Plan, and write."""
        from bimixjax.loop import designs
        from bimixjax.reports import corpora, tables

        spread = designs.Spread(count=self.spread, concentration=self.concentration, seed=self.seed)
        domains, chosen = self.training_free()
        chosen |= spread.draw(chosen)
        made = designs.make_design(chosen, domains, wholes("run-seeds", self.run_seeds) or (0,))
        if self.models:
            made = made.of_models(names(self.models))
        if self.out:
            made.write(self.out)
        document = corpora.mixtures_document(domains, chosen)
        screen = [corpora.mixtures(domains, chosen)]
        if len(made) > len(chosen):
            screen += tables.notes([f"{len(made)} runs: each mixture with each seed and model"])
        return Answer(document=document, screen=screen)

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
