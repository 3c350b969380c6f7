"""Corpora, their entropies, and mixtures and swarms over their domains: tables, and documents for machines."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from rich.console import Group

from bimixjax._base.records import to_plain
from bimixjax.corpus import TokenStore
from bimixjax.corpus.entropy import Entropies
from bimixjax.observations import Observations
from bimixjax.reports.layout import framed, table

MOST_RUNS = 40


def corpus(store: TokenStore) -> Group:
    """Return one row per domain: training and validation tokens and documents."""
    rows = []
    for domain, splits in store.shards.items():
        train, validation = splits["train"], splits["validation"]
        counts = train.tokens, train.documents, validation.tokens, validation.documents
        rows.append([domain, *(f"{count:,}" for count in counts)])
    columns = ["", "training tokens", "documents", "validation tokens", "documents"]
    return framed(f"Corpus, tokenizer {store.tokenizer}", table(columns, rows))


def corpus_document(store: TokenStore) -> dict[str, Any]:
    """Return what the sidecar says, and the digest."""
    domains = {domain: to_plain(dict(splits)) for domain, splits in store.shards.items()}
    return {
        "path": str(store.path),
        "digest": store.digest,
        "tokenizer": store.tokenizer,
        "vocab_size": store.vocab_size,
        "domains": domains,
        "notes": store.notes,
    }


def entropies(store: TokenStore, found: Mapping[str, Entropies]) -> Group:
    """Return one row per domain: tokens and entropies."""
    shown = table(["", "tokens", "validation", "Shannon", "joint", "conditional", "edge"])
    counts = zip(store.domains, store.tokens, store.validation_tokens, strict=True)
    for domain, train, validation in counts:
        one = found[domain]
        values = [f"{value:.4f}" for value in (one.shannon, one.joint, one.conditional)]
        shown.add_row(domain, f"{train:,}", f"{validation:,}", *values, f"{one.edge:.1e}")
    gloss = "Of the training tokens and their adjacent pairs; edge = joint - conditional - Shannon"
    return framed("Entropies, nats", shown, gloss)


def mixtures(domains: tuple[str, ...], chosen: Mapping[str, ArrayLike]) -> Group:
    """Return one row per mixture, one column per domain."""
    rows = [[name, *(f"{share:.4f}" for share in np.asarray(mixture))] for name, mixture in chosen.items()]
    return framed("Mixtures", table(["", *domains], rows))


def mixtures_document(domains: tuple[str, ...], chosen: Mapping[str, ArrayLike]) -> dict[str, dict[str, float]]:
    """Return proportions by mixture and domain."""
    return {name: dict(zip(domains, np.asarray(r).tolist(), strict=True)) for name, r in chosen.items()}


def swarm(observations: Observations) -> Group:
    """Return one row per run with its last losses, the least mean first."""
    last = {run: row for row, run in enumerate(observations.run.tolist())}
    means = observations.losses[list(last.values())].mean(axis=1)
    order = np.argsort(means, kind="stable")[:MOST_RUNS]
    runs, rows = [*last], np.array([*last.values()])
    steps = observations.volumes("steps")
    statuses = observations.metadata["status"].to_numpy()[rows]
    status = ["status"] if (statuses != "ok").any() else []
    shown = table(["", "step", *observations.targets, "mean", *status])
    for i in order:
        losses = [f"{loss:.4f}" for loss in (*observations.losses[rows[i]], means[i])]
        shown.add_row(runs[i], f"{steps[rows[i]]:.0f}", *losses, *(str(statuses[i]) for _ in status))
    left = f"{len(runs) - len(order)} more runs are in the table" if len(runs) > len(order) else None
    return framed("Validation loss at the last step measured, nats per token", shown, left)
