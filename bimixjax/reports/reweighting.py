"""What DoReMi found, as a table for a terminal and a document for machines."""

from typing import Any

import numpy as np
from rich.console import Group

from bimixjax.proxy.reweighting import DoremiResult
from bimixjax.reports.layout import decimal, framed, table

# The name of the mixture, where it stands among others.
NAME = "doremi"


def screen(found: DoremiResult) -> Group:
    """Return one row per domain: its share and that of the reference, and how far the proxy models are behind."""
    columns = {
        "share": found.proportions,
        "standard error": found.standard_error,
        "reference": found.reference,
        "reference loss": found.reference_losses.mean(0),
        "proxy loss": found.proxy_losses.mean(0),
    }
    rows = ([domain, *(decimal(values[i]) for values in columns.values())] for i, domain in enumerate(found.domains))
    count = len(found.seeds)
    pairs = (
        f"mean of {count} pairs of models" if count > 1 else "one pair of models; more seeds tell its standard error"
    )
    caption = f"Losses are those on validation text after the last step, nats per token; {pairs}"
    return framed("DoReMi", table(["", *columns], rows), caption)


def document(found: DoremiResult) -> dict[str, Any]:
    """Return all but the course of the weights; `domains` and `proportions` are what `bimix export` reads."""
    return {
        "domains": found.domains,
        "proportions": found.proportions,
        "standard_error": found.standard_error,
        "seeds": found.seeds,
        "by_seed": found.by_seed,
        "last_weights": found.weights[:, -1],
        "reference": found.reference,
        "reference_losses": found.reference_losses,
        "proxy_losses": found.proxy_losses,
        "mixtures": {NAME: dict(zip(found.domains, np.asarray(found.proportions).tolist(), strict=True))},
    }
