"""The commands `bimix export` and `bimix lint`: a mixture as a trainer's file, and what a trainer makes of a file."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

from rich.text import Text
from tyro.conf import Positional, arg

from bimixjax._base.checks import InputError
from bimixjax._base.quantities import split
from bimixjax.cli.console import Answer, Command, File, FileCommand, Formats
from bimixjax.cli.options import Number, Stock, inventory, number, numbers, whole

if TYPE_CHECKING:
    from bimixjax.interchange import Training

# Of all files that trainers take, and the kinds of these, as text: help answers without loading them.
_SUFFIXES = (".yaml", ".yml", ".json", ".txt", ".py", ".csv")
TRAINERS = (
    "levanter, maxtext, grain, megatron, nemo, gpt-neox, streaming, hf, olmo-core, nanotron, regmix, doremi, json, csv"
)

Counted = Annotated[str | None, arg(metavar="NUMBER", help_behavior_hint="")]
Lengths = Annotated[tuple[str, ...], arg(metavar="NUMBER|NAME=NUMBER,...")]
Places = Annotated[tuple[str, ...], arg(metavar="NAME=PATH,...")]


@dataclass(frozen=True, kw_only=True)
class Export(FileCommand):
    """Write a mixture as a trainer reads it, in numbers that the trainer can draw, and say what it will draw.

    Example: bimix export mixture.json --to levanter --train-tokens 20B --inventory web=8B,code=2B --out data.yaml
    """

    formats: ClassVar[Formats] = {"out": _SUFFIXES}

    mixture: Annotated[Positional[Path], arg(metavar="MIXTURE")]
    """A file written by `bimix optimize --out`, or shares by domain (.json, .csv)."""
    to: Annotated[
        str,
        arg(
            metavar="KIND",
            help=f"The trainer: {TRAINERS}. maxtext and megatron have two forms, by the "
            "suffix of --out: .txt for words of a command line, .json for a file.",
        ),
    ]
    train_tokens: Number = None
    """Tokens of the training: for epochs, and for what is too rare to be drawn."""
    inventory: Stock = ()
    """Unique tokens of the domains, or a file of them (domain,tokens): for epochs."""
    paths: Places = ()
    """Where the data of domains lies, as the trainer names it. Default: a mark to replace."""
    tokens_per_document: Lengths = ()
    """Mean length of the documents of each domain, for trainers that draw documents; one number where all records are
    of one length."""
    sequence_length: Counted = None
    """Tokens per sequence."""
    batch_size: Counted = None
    """Sequences per step."""
    then: File = None
    """A second mixture, for the rest of the training (levanter, nanotron)."""
    switch: Number = None
    """From when on: a step (1 or more), or a part of the training."""
    drop_below: Number = None
    """Leave out shares below this, and raise the others alike."""
    block_size: Counted = None
    """Sequences per block of levanter. Default: its own, 2048."""

    def work(self) -> Answer:
        """Write the file, and show what was asked beside what is realized."""
        from bimixjax.interchange import Data, export_mixture, read_mixture
        from bimixjax.reports import audits

        if (self.then is None) != (self.switch is None):
            raise InputError("--then is the second mixture and --switch says from when on; give both or neither")
        after = None if self.then is None or self.switch is None else (self.switch, read_mixture(self.then))
        found = export_mixture(
            read_mixture(self.mixture),
            self.to,
            training=training(self.train_tokens, self.sequence_length, self.batch_size),
            data=Data(
                paths=places(self.paths),
                inventory=inventory(self.inventory),
                tokens_per_document=lengths(self.tokens_per_document),
            ),
            suffix=None if self.out is None else self.out.suffix,
            block=None if self.block_size is None else whole("block-size", self.block_size),
            drop_below=self.drop_below or 0.0,
            then=after,
        )
        if self.out:
            found.save(self.out)
        shown = [] if self.out else [Text(found.text, no_wrap=True)]
        use = Text(f"For {found.audit.title}: {found.usage}.", "dim")
        document = {"kind": found.kind, "text": found.text, "usage": found.usage, **audits.document(found.audit)}
        screen = [*shown, *audits.screen(found.audit), use]
        return Answer(document=document, screen=screen, failed=bool(found.audit.problems))


@dataclass(frozen=True, kw_only=True)
class Lint(Command):
    """Say what a trainer makes of the mixture in its file, and what it would refuse or do otherwise (exit code 1).

    Example: bimix lint data.yaml --train-tokens 20B --inventory web=8B,code=2B
    """

    file: Annotated[Positional[Path], arg(metavar="FILE")]
    """The file of a trainer (.yaml, .yml, .json, .txt, .py, .csv)."""
    from_: Annotated[
        str | None,
        arg(
            name="from",
            metavar="KIND",
            help_behavior_hint="",
            help=f"Whose file it is: {TRAINERS}. Default: as its content tells.",
        ),
    ] = None
    train_tokens: Number = None
    """Tokens of the training: for epochs, and for what is too rare to be drawn."""
    inventory: Stock = ()
    """Unique tokens of the domains, or a file of them (domain,tokens): for epochs."""
    paths: Places = ()
    """What domains are called, by their paths, for files that name paths only. Default: the last part of a path."""
    tokens_per_document: Lengths = ()
    """Mean length of the documents of each domain, for trainers that draw documents; one number where all records are
    of one length."""
    sequence_length: Counted = None
    """Tokens per sequence."""
    batch_size: Counted = None
    """Sequences per step, for files with stages."""

    @property
    def options_file(self) -> None:
        """None is written."""

    def work(self) -> Answer:
        """Audit the file."""
        from bimixjax.interchange import lint
        from bimixjax.reports import audits

        found = lint(
            self.file,
            kind=self.from_,
            training=training(self.train_tokens, self.sequence_length, self.batch_size),
            inventory=inventory(self.inventory),
            tokens_per_document=lengths(self.tokens_per_document),
            names={path: domain for domain, path in places(self.paths).items()},
        )
        end = [] if found.problems else [Text("No problem found.")]
        shown = [*audits.screen(found, asked=False), *end]
        return Answer(document=audits.document(found), screen=shown, failed=bool(found.problems))


def training(tokens: float | None, sequence_length: str | None, batch_size: str | None) -> "Training":
    """Return what is known of a training, each number above 0.

    Example:
        >>> training(16e9, "2k", None)
        Training(tokens=16000000000.0, sequence_length=2000, batch=None)
    """
    from bimixjax.interchange import Training

    counts = {}
    for option, text in (("sequence-length", sequence_length), ("batch-size", batch_size)):
        counts[option] = None if text is None else whole(option, text)
        if text is not None and (counts[option] or 0) < 1:
            raise InputError(f"--{option} is {text!r}; allowed: a whole number above 0")
    if tokens is not None and not 0 < tokens < math.inf:
        raise InputError(f"--train-tokens is {tokens:g}; allowed: a number above 0")
    return Training(tokens=tokens, sequence_length=counts["sequence-length"], batch=counts["batch-size"])


def places(given: Iterable[str]) -> dict[str, str]:
    """Turn `web=gs://b/web/*,code=/data/code` into paths by domain; a path may hold an equals sign, a name may not.

    Raises:
        InputError: for a part that is not NAME=PATH, or a name twice.

    Example:
        >>> places(["web=gs://b/lang=en/*,code=/data/code"])
        {'web': 'gs://b/lang=en/*', 'code': '/data/code'}
    """
    found: dict[str, str] = {}
    for part in (part for text in given for part in split(text)):
        name, equals, path = part.partition("=")
        if not (equals and name.strip() and path.strip()):
            raise InputError(f"--paths has {part!r}; allowed: NAME=PATH, with commas between")
        if name.strip() in found:
            raise InputError(f"--paths names {name.strip()!r} twice")
        found[name.strip()] = path.strip()
    return found


def lengths(given: Iterable[str]) -> dict[str, float] | float | None:
    """Turn `900` into one number for all domains, `web=900,code=2.4k` into numbers by domain; None for nothing.

    Example:
        >>> lengths(["web=900,code=2.4k"]), lengths(["2048"]), lengths([])
        ({'web': 900.0, 'code': 2400.0}, 2048.0, None)
    """
    parts = list(given)
    if any("=" in part for part in parts):
        return numbers("tokens-per-document", parts)
    return number("tokens-per-document", parts[-1]) if parts else None
