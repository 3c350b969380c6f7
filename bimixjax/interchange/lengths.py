"""Tokens per document: what turns shares of documents into shares of tokens, and back."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from bimixjax._base import summaries
from bimixjax._base.checks import InputError, positive
from bimixjax.interchange.trainers.base import Trainer


def of_documents(
    trainer: Trainer, tokens_per_document: Mapping[str, float] | float | None, domains: tuple[str, ...]
) -> Float[np.ndarray, " d"]:
    """Return the mean length t of a document of each domain, [d], in tokens; 1 for each where shares count tokens.

    A trainer that draws documents by shares d_i trains on shares of tokens r_i = d_i t_i / sum_j d_j t_j.

    Raises:
        InputError: where a trainer counts documents and a length is missing, or counts tokens and lengths are given.
    """
    if trainer.counts == "tokens" or (trainer.counts == "samples" and tokens_per_document is None):
        if tokens_per_document is not None:
            got = f"{trainer.title} draws sequences of one length, so that its shares are of tokens"
            raise InputError(f"{got}; leave --tokens-per-document out")
        return np.ones(len(domains))
    if tokens_per_document is None:
        raise InputError(
            f"{trainer.title} draws documents, and a mixture is of tokens: a domain of long documents would get too "
            "much. Give --tokens-per-document web=900,code=2400,..., or one number where all records are of one length"
        )
    if not isinstance(tokens_per_document, Mapping):
        return np.full(len(domains), positive("tokens per document", tokens_per_document))
    lacking = [domain for domain in domains if domain not in tokens_per_document]
    if lacking:
        raise InputError(f"tokens per document are missing of {summaries.listed(lacking)}; {trainer.title} needs all")
    return np.array([positive(f"tokens per document of {d}", tokens_per_document[d]) for d in domains])
