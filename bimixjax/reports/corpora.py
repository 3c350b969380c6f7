"""Corpora, their entropies, and mixtures and swarms over their domains: tables, and documents for machines."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike
from rich.console import Group

from bimixjax._base.records import to_plain
from bimixjax._base.summaries import clock
from bimixjax.corpus import TokenStore
from bimixjax.corpus.entropy import Entropies
from bimixjax.observations import Observations
from bimixjax.reports.layout import framed, table

if TYPE_CHECKING:  # they bring JAX, which tables do without
    from bimixjax.proxy.fleet import Part

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


def swarm(observations: Observations, bytes_per_token: Mapping[str, float] | None = None) -> Group:
    """Return one row per run with its last losses, the least mean first; their mean in bits per byte, too, if known."""
    last = _last_rows(observations)
    bits = bits_per_byte(observations, bytes_per_token or {})
    means = observations.losses[list(last.values())].mean(axis=1)
    order = np.argsort(means, kind="stable")[:MOST_RUNS]
    runs, rows = [*last], np.array([*last.values()])
    steps = observations.volumes("steps")
    statuses = observations.metadata["status"].to_numpy()[rows]
    status = ["status"] if (statuses != "ok").any() else []
    shown = table(["", "step", *observations.targets, "mean", *(["bits per byte"] if bits else []), *status])
    for i in order:
        mean = [float(np.mean([*bits[runs[i]].values()]))] if bits else []
        losses = [f"{loss:.4f}" for loss in (*observations.losses[rows[i]], means[i], *mean)]
        shown.add_row(runs[i], f"{steps[rows[i]]:.0f}", *losses, *(str(statuses[i]) for _ in status))
    left = f"{len(runs) - len(order)} more runs are in the table" if len(runs) > len(order) else None
    return framed("Validation loss at the last step measured, nats per token", shown, left)


def bits_per_byte(observations: Observations, bytes_per_token: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """Return the last losses of each run by target, in bits per byte; nothing where a target's bytes are not known.

    A loss of l nats per token, with b bytes per token, is l / (b ln 2) bits per byte.
    """
    if not all(target in bytes_per_token for target in observations.targets):
        return {}
    units = np.log(2) * np.array([bytes_per_token[target] for target in observations.targets])
    return {
        run: dict(zip(observations.targets, (observations.losses[row] / units).tolist(), strict=True))
        for run, row in _last_rows(observations).items()
    }


def _last_rows(observations: Observations) -> dict[str, int]:
    return {run: row for row, run in enumerate(observations.run.tolist())}


def speed(found: Mapping[str, Any]) -> str:
    """Say in one line how fast a swarm was trained.

    Example:
        >>> print(speed({"tokens_per_second": 61234.5, "utilization": 0.412, "compile_seconds": 31.0, "devices": 8,
        ...              "device": "NVIDIA H100", "peak_device_bytes": 2**35, "peak_host_bytes": 2**31}))
        Speed: 61,200 tokens/s on 8 x NVIDIA H100, 41.2 % of the bfloat16 peak, compiled in 0:31, at most 34.4 GB each
    """
    rate = found["tokens_per_second"]
    used = "" if found["utilization"] is None else f", {100 * found['utilization']:.1f} % of the bfloat16 peak"
    on_device = found["peak_device_bytes"]
    memory = f"{(on_device or found['peak_host_bytes']) / 1e9:.3g} GB" + (" each" if on_device else " of memory")
    tokens = "-" if rate is None else f"{round(rate, -2):,.0f}"
    where = f"{found['devices']} x {found['device']}"
    return f"Speed: {tokens} tokens/s on {where}{used}, compiled in {clock(found['compile_seconds'])}, at most {memory}"


def status(folder: str, parts: "Sequence[Part]") -> Group:
    """Return one row per part of a swarm, and the sum of those that run."""
    rows = []
    for part in parts:
        step = "" if part.steps is None else f"{part.step:,} of {part.steps:,}"
        speed = "" if part.tokens_per_second is None else f"{part.tokens_per_second:,.0f}"
        left = "" if part.seconds_left is None else clock(part.seconds_left)
        state = part.state
        if state in ("dead", "stopped") and part.seen is not None:
            state = f"{state} since {time.strftime('%Y-%m-%d %H:%M', time.localtime(part.seen))}"
        rows.append(
            [
                "all runs" if part.name == "." else part.name,
                state,
                "" if part.runs is None else str(part.runs),
                step,
                speed,
                left,
            ]
        )
    counts = Counter(part.state for part in parts)
    running = [part for part in parts if part.state == "running"]
    total = ", ".join(f"{count} {state}" for state, count in counts.items())
    if running:
        speed = sum(part.tokens_per_second or 0 for part in running)
        left = max(part.seconds_left or 0 for part in running)
        total += f"; {speed:,.0f} tokens/s, the last one that runs ends in {clock(left)}"
    return framed(f"Swarm in {folder}", table(["", "state", "runs", "steps", "tokens/s", "left"], rows), total)
