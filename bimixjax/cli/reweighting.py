"""The `bimix doremi` command: a mixture from how far a small model is behind another one, domain by domain."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from tyro.conf import Positional, arg

from bimixjax._base.checks import known
from bimixjax.cli import progress
from bimixjax.cli.console import Answer, File, FolderCommand, Formats
from bimixjax.cli.goals import reference_mixture
from bimixjax.cli.models import Trained
from bimixjax.cli.options import Counts, wholes

# In the folder.
MIXTURE = "mixture.json"


@dataclass(frozen=True, kw_only=True)
class Doremi(FolderCommand, Trained):
    """Find a mixture by DoReMi: train a reference model, and a proxy model by how far it is behind in each domain.

    The same command goes on where it was killed.

    Example: bimix doremi corpus doremi --seeds 0,1,2,3 --steps 500
    """

    formats: ClassVar[Formats] = {"out": (".json", ".csv")}

    store: Annotated[Positional[Path], arg(metavar="STORE")]
    """A token store, as `bimix corpus` makes one."""
    folder: Annotated[Positional[Path], arg(metavar="FOLDER")]
    """Where the models go, and mixture.json, which `bimix export`, and `bimix prove --beside`, read."""
    seeds: Counts = ()
    """Of the pairs of models; the mixture is the mean over them. Default: 0."""
    reference: Annotated[str | None, arg(metavar="natural|uniform|NAME=NUMBER,...", help_behavior_hint="")] = None
    """Mixture of the reference model. Default: natural."""
    step_size: Annotated[float, arg(metavar="NUMBER")] = 1.0
    """How fast weights of domains follow the excess losses."""
    smoothing: Annotated[float, arg(metavar="NUMBER")] = 1e-3
    """Part of the weights that all domains share alike."""
    out: File = None
    """Also write the shares here, as `bimix export --to json` or `--to csv` does."""

    def work(self) -> Answer:
        """Train both kinds of models, and write the mixture."""
        import numpy as np

        from bimixjax import corpus, proxy
        from bimixjax._base import records
        from bimixjax.interchange import export_mixture
        from bimixjax.loop.designs import of_counts
        from bimixjax.reports import reweighting

        store = corpus.TokenStore.open(self.store)
        config = self.settings(store.vocab_size, eval_steps=(self.steps,))
        shares = reference_mixture(self.reference, of_counts(store.tokens))
        if isinstance(shares, Mapping):
            known("domain", tuple(shares), store.domains, "--reference")
            shares = np.array([shares.get(domain, 0.0) for domain in store.domains])
        how = {"seeds": wholes("seeds", self.seeds) or (0,), "step_size": self.step_size, "smoothing": self.smoothing}
        with progress.shown() as watch:
            found = proxy.doremi(store, config, reference=shares, **how, folder=self.folder, watch=watch)
        document, place = reweighting.document(found), self.folder / MIXTURE
        records.write_json(place, document, hashed=True)
        if self.out:
            mixture = dict(zip(found.domains, found.proportions.tolist(), strict=True))
            export_mixture(mixture, self.out.suffix.removeprefix(".")).save(self.out)
        return Answer(document=document, screen=[reweighting.screen(found), f"Mixture: {place}"])
