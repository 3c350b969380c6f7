"""Entropies of tokens and of embeddings, in nats, and the training-free mixtures that follow from them."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Num
from numpy.typing import ArrayLike

from bimixjax._base.checks import InputError
from bimixjax._base.records import record
from bimixjax.corpus.counting import TokenCounts, count_tokens
from bimixjax.corpus.store import TokenStore

_ROWS = 1 << 14


@record
class Entropies:
    """Entropies of one domain in nats; `entropy_mixture` takes any of them (arXiv 2405.14908, section 4).

    Attributes:
        shannon: SE, over all tokens.
        joint: JE, over adjacent pairs.
        conditional: CE, of the second token of a pair given the first (Eq. 12).
        first: entropy of the first tokens of the pairs, so that joint = first + conditional.
        edge: first - shannon, to which only the last token of each sequence contributes.

    Example:
        >>> entropies(count_tokens([0, 0, 0], vocab_size=2)).joint
        0.0
    """

    shannon: float
    joint: float
    conditional: float
    first: float
    edge: float


def entropies(counts: TokenCounts) -> Entropies:
    """Compute Shannon, joint and conditional entropy in nats from exact counts.

    With P the relative frequencies of tokens x and of adjacent pairs (x, x'), without smoothing:

        SE = -sum_x P(x) log P(x)
        JE = -sum_{x, x'} P(x, x') log P(x, x')
        CE = -sum_{x, x'} P(x, x') log P(x' | x),   P(x' | x) = P(x, x') / sum_{x'} P(x, x')

    Args:
        counts: of `count_tokens`, or several merged.

    Returns:
        `Entropies`, with joint = first + conditional up to rounding.

    Raises:
        InputError: the counts hold no pair.

    Example:
        >>> from bimixjax.corpus import count_tokens
        >>> result = entropies(count_tokens([0, 1, 2, 3] * 8, vocab_size=4))
        >>> round(result.shannon, 6), result.conditional
        (1.386294, 0.0)

    Source: arXiv 2405.14908, section 4(c) and Eq. 12.
    """
    if not counts.pairs.size:
        raise InputError("the counts hold no adjacent pair; at least two tokens are needed")
    heads = counts.pairs // counts.vocab_size
    first_counts = np.bincount(heads, weights=counts.pair_counts, minlength=counts.vocab_size)
    share = counts.pair_counts / counts.pair_counts.sum()
    conditional = -np.sum(share * np.log(counts.pair_counts / first_counts[heads]))
    shannon, first = _entropy(counts.unigrams), _entropy(first_counts)
    return Entropies(
        shannon=shannon,
        joint=_entropy(counts.pair_counts),
        conditional=_not_below_zero(conditional),
        first=first,
        edge=first - shannon,
    )


def corpus_entropies(store: TokenStore, *, sequence_length: int = 1024) -> dict[str, Entropies]:
    """Compute the entropies of the training tokens of every domain of a store.

    Args:
        store: the corpus; a separator between documents counts as a token, since a model predicts it too.
        sequence_length: L of the packed sequences.

    Raises:
        InputError: as `count_tokens`.

    Example:
        >>> import tempfile
        >>> store = TokenStore.write(tempfile.mkdtemp() + "/c", {"a": ([0, 1] * 50, [0])}, vocab_size=2)
        >>> round(corpus_entropies(store)["a"].shannon, 6)
        0.693147
    """
    size = store.vocab_size
    return {
        domain: entropies(count_tokens(store.train(domain), vocab_size=size, sequence_length=sequence_length))
        for domain in store.domains
    }


def von_neumann(embeddings: ArrayLike) -> float:
    """Compute the von Neumann entropy of a domain from one embedding per sample, with the cosine kernel, in nats.

        H(rho) = -Tr(rho log rho) = -sum_k lambda_k log lambda_k,   rho = K / N,   K_jk = v_j . v_k / (|v_j| |v_k|)

    lambda are the eigenvalues of rho. Those other than zero are the eigenvalues of the d x d matrix V^T V / N, V the
    normalized rows, so no N x N matrix is made. exp(H) is the Vendi score, between 1 and min(N, d).

    Args:
        embeddings: `[N, d]`, one row per sample; a memory map larger than memory will do.

    Returns:
        H, between 0 and log min(N, d), computed in float64.

    Raises:
        InputError: not `[N, d]`, or a row that is zero or not finite, which has no direction.

    Example:
        >>> round(von_neumann(np.eye(4)), 6)
        1.386294

    Source: arXiv 2405.14908, appendix A; the paper leaves the kernel open, cosine is our choice.
    """
    rows = np.asanyarray(embeddings)  # keeps a memory map
    if rows.ndim != 2 or 0 in rows.shape:
        raise InputError(f"embeddings have shape {list(rows.shape)}; allowed: [samples, dimensions], neither 0")
    with jax.enable_x64(True):
        gram = jnp.zeros((rows.shape[1],) * 2, dtype=jnp.float64)
        for start in range(0, len(rows), _ROWS):
            block = jnp.asarray(_directions(rows[start : start + _ROWS], start))
            gram += block.T @ block
        # The trace is N, so this divides by N; rounding leaves eigenvalues a hair below zero, which count as zero.
        return _entropy(np.asarray(jnp.linalg.eigvalsh(gram)))


def entropy_mixture(entropies: ArrayLike) -> Float[np.ndarray, " d"]:
    """Return the entropy mixture r_i = exp(H_i) / sum_j exp(H_j), for any of the entropies.

    Args:
        entropies: H `[domains]` in nats.

    Returns:
        r, float64 `[domains]`, summing to 1.

    Raises:
        InputError: not a 1-D array of finite numbers, or empty.

    Example:
        >>> entropy_mixture(np.log([1.0, 3.0])).round(12).tolist()
        [0.25, 0.75]

    Source: arXiv 2405.14908, Eq. 13.
    """
    values = np.asarray(entropies, dtype=np.float64)
    if values.ndim != 1 or not values.size or not np.isfinite(values).all():
        raise InputError(f"entropies are {values.tolist()}; allowed: one finite number per domain, at least one domain")
    # Shifted by the largest, so that exp never overflows.
    shares = np.exp(values - values.max())
    return shares / shares.sum()


def _entropy(weights: Num[np.ndarray, " K"]) -> float:
    """Return -sum_k p_k log p_k, p the positive weights over the sum of all."""
    share = weights[weights > 0] / weights.sum()
    return _not_below_zero(-np.sum(share * np.log(share)))


def _not_below_zero(value: float) -> float:
    # Rounding may leave -0.0, or a hair below zero, where the entropy is zero.
    return max(0.0, float(value))


def _directions(rows: np.ndarray, start: int) -> Float[np.ndarray, "n d"]:
    """Return rows divided by their lengths; `start` is the number of the first, for messages."""
    values = np.asarray(rows, dtype=np.float64)
    # Scaled first, so that the squares neither overflow nor vanish.
    scale = np.abs(values).max(axis=1, keepdims=True)
    bad = np.flatnonzero(~(np.isfinite(scale) & (scale > 0)))
    if bad.size:
        raise InputError(f"embedding {start + bad[0]} is zero or not finite ({bad.size} such in its block of rows)")
    values = values / scale
    return values / np.linalg.norm(values, axis=1, keepdims=True)
