"""Shares of tokens from what was given: percent, weights that do not sum to one, shares of documents."""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np
import pandas as pd
from jaxtyping import Float

from bimixjax._base.checks import InputError, every, known
from bimixjax._base.summaries import listed
from bimixjax.interchange.parts import PERCENT
from bimixjax.observations.columns import SUM_TOLERANCE

WeightedBy = Literal["tokens", "documents"]
Shares = Float[np.ndarray, "n d"]


def of_tokens(
    given: pd.DataFrame,
    place: Callable[[str], str],
    *,
    normalize: bool,
    tokens_per_document: Mapping[str, float] | None,
    documents: bool,
) -> tuple[Shares, list[str]]:
    """Turn what each run was given into shares of its tokens.

    A share w_i of documents of m_i tokens on average is a share w_i m_i / sum_j w_j m_j of the tokens.

    Args:
        given: one row per run, its index, one column per domain; NaN where blank.
        place: says where the shares of a run stand.
        normalize: divide weights by their sum, whatever it is.
        tokens_per_document: mean tokens m_i of a document, by domain.
        documents: whether the shares are of documents.

    Returns:
        Shares of tokens [n, d], and notes on what was done.

    Raises:
        InputError: where shares sum to neither 1 nor 100, a blank one is not evidently 0, or shares of documents cannot
            be converted.

    Example:
        >>> given, documents = pd.DataFrame({"web": [0.5], "code": [0.5]}, index=["a"]), {"web": 3000, "code": 1000}
        >>> of_tokens(given, str, normalize=False, tokens_per_document=documents, documents=True)[0]
        array([[0.75, 0.25]])
    """
    notes: list[str] = []
    names = np.array([str(name) for name in given], object)
    shares = given.to_numpy(np.float64)
    blank = np.isnan(shares)
    shares = np.where(blank, 0.0, shares)
    sums = shares.sum(axis=1)
    in_percent = np.abs(sums / PERCENT - 1) <= SUM_TOLERANCE
    if normalize:
        every(sums > 0, lambda i: f"{place(str(given.index[i]))}: all shares are 0 or blank; allowed: one above 0")
        shares = shares / sums[:, None]
        notes.append("shares are divided by their sums, as asked")
    elif in_percent.any():
        other = given.index[int(np.argmax(in_percent))]
        every(in_percent, lambda i: f"{_sum(given, place, sums, i)}; those of run {other!r} are percent")
        shares = shares / PERCENT
        notes.append("shares are percent there, and are divided by 100")
    else:
        every(np.abs(sums - 1) <= SUM_TOLERANCE, lambda i: _sum(given, place, sums, i))
    if blank.any():
        few = listed(names[np.flatnonzero(blank.any(axis=0))])
        notes.append(f"{blank.sum()} blank shares are taken as 0, since the others sum to all: {few}")
    if not documents:
        return shares, notes
    tokens = _tokens(tokens_per_document, list(names))
    notes.append("shares of documents are converted to shares of tokens by the tokens per document that are given")
    weighted = shares * tokens
    return weighted / weighted.sum(axis=1, keepdims=True), notes


def _sum(given: pd.DataFrame, place: Callable[[str], str], sums: np.ndarray, i: int) -> str:
    names = listed(map(repr, given), most=4)
    return (
        f"{place(str(given.index[i]))}: the {given.shape[1]} shares of the run ({names}) sum to {sums[i]:.6g}; "
        f"allowed: 1 or 100 within {SUM_TOLERANCE:.0%}; --normalize divides by the sum where they are weights"
    )


def _tokens(given: Mapping[str, float] | None, domains: Sequence[str]) -> np.ndarray:
    if given is None:
        raise InputError(
            "the shares are of documents, as that trainer draws them, and what counts here is tokens; give the mean "
            "tokens of a document, as in --tokens-per-document web=1200,code=800, or say --weighted-by tokens where "
            "documents were packed before they were mixed"
        )
    known("domain", list(given), domains, "tokens per document")
    missing = [name for name in domains if name not in given]
    if missing:
        raise InputError(f"tokens per document lack {listed(map(repr, missing))}; needed: every domain")
    found = np.array([given[name] for name in domains], float)
    what = "tokens per document of"
    every(np.isfinite(found) & (found > 0), lambda i: f"{what} {domains[i]!r} is {found[i]}; allowed: above 0")
    return found
