"""Designs of the open questions, trained and kept."""

from collections.abc import Callable
from pathlib import Path

from bimixjax import Observations
from bimixjax.proxy import Design, TokenSource, train_swarm
from experiments.open_questions import config
from experiments.proof.run import kept, say


def trained(make: Callable[[], Design], tokens: TokenSource, folder: Path) -> Observations:
    """Train the runs of a design, or read what was trained; the design itself is kept beside the folder."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    design = kept(folder.with_suffix(".csv"), make)
    return Observations.read(train_swarm(design, tokens, config.swarm(), folder, progress=say))
