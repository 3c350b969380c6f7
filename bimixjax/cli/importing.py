"""The `bimix import` command."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from tyro.conf import Positional, arg

import bimixjax
from bimixjax.cli.console import TABLES, Answer, FileCommand, Flag, Formats
from bimixjax.cli.options import Numbers, numbers

# As `bimixjax.interchange.KINDS`, which help must not import.
Kind = Literal[
    "olmix",
    "regmix",
    "wide",
    "long",
    "mlflow",
    "wandb",
    "maxtext",
    "levanter",
    "tensorboard",
    "trackio",
    "lm-eval",
]


@dataclass(frozen=True, kw_only=True)
class Import(FileCommand):
    """Import runs from the files of a trainer, a tracker or another tool, joined by the id of the run.

    Example: bimix import ratios.csv metrics.csv --out runs.csv
    """

    formats: ClassVar[Formats] = {"out": TABLES}

    files: Annotated[Positional[tuple[Path, ...]], arg(metavar="FILE", help_behavior_hint="")]
    """Files and folders: tables (.csv, .tsv, .csv.gz, .parquet), lines of JSON (.jsonl, .log), configurations by run
    (.json), projects of Trackio (.db), event files, and folders of these or of results of lm-eval. Losses and mixtures
    may be in different ones."""
    from_: Annotated[Kind | None, arg(name="from", metavar="KIND", help_behavior_hint="")] = None
    """What the files are: olmix, regmix, wide or long (tables), mlflow, wandb, maxtext, levanter, tensorboard, trackio,
    lm-eval. Default: each is recognized, and the answer says as what."""
    map: Annotated[tuple[str, ...], arg(metavar="NAME=ROLE")] = ()
    """What a column is, as in 'eval/*/loss=loss/*'; may be repeated. Roles: run, step, tokens, seed, model_size,
    mixture/*, loss/*, accuracy/* (higher is better), unique/*, meta/* (kept beside); for long tables target and value,
    or domain and share; nothing leaves the column out."""
    ids: Annotated[str | None, arg(metavar="TEMPLATE", help_behavior_hint="")] = None
    """How the ids of runs are written where they are not as in the other files: '*ckpt__{run}__step-{step}'."""
    weighted_by: Annotated[
        Literal["tokens", "documents"] | None, arg(metavar="{tokens,documents}", help_behavior_hint="")
    ] = None
    """What the shares are of. Default: documents for maxtext and with --tokens-per-document, else tokens."""
    tokens_per_document: Numbers = ()
    """Mean tokens of a document of each domain, to make shares of tokens of shares of documents."""
    normalize: Flag = False
    """Divide the shares of each run by their sum: they are weights."""

    def work(self) -> Answer:
        """Import, and write."""
        from bimixjax.interchange import naming
        from bimixjax.reports import runs, tables

        found = bimixjax.import_runs(
            self.files,
            kind=self.from_,
            names=naming.parse(self.map),
            ids=self.ids,
            weighted_by=self.weighted_by,
            tokens_per_document=numbers("tokens-per-document", self.tokens_per_document) or None,
            normalize=self.normalize,
        )
        if self.out:
            found.observations.write(self.out)
        return Answer(document=runs.document(found), screen=[*runs.imported(found), *tables.notes(found.notes)])
