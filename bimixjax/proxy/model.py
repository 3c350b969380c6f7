"""A decoder-only transformer in Flax NNX: rotary positions, RMS norms, squared-ReLU feed-forward, no biases."""

import dataclasses
from functools import lru_cache
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int

from bimixjax._base.checks import InputError, choice

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}
ROTARY_BASE = 10_000.0
EMBEDDING_SCALE = 0.02

# layers, width, heads of models of about that many parameters (a byte vocabulary; 32k tokens add to it). "85m" and
# "800m" are the two sizes of the BiMix paper (arXiv 2405.14908).
PRESETS = {
    "0.1m": (2, 64, 2),
    "1m": (5, 128, 4),
    "10m": (8, 320, 5),
    "60m": (12, 640, 10),
    "85m": (12, 768, 12),
    "150m": (12, 1024, 16),
    "300m": (24, 1024, 16),
    "800m": (16, 2048, 32),
    "1b": (20, 2048, 16),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Sizes of a proxy model; parameters are float32 always.

    Attributes:
        vocab: token ids V.
        layers: blocks.
        width: D, numbers per token between blocks; the feed-forward layer has 4 D.
        heads: attention heads; `width` is an even multiple of it.
        context: L, tokens per training sequence.
        tied: whether the output projection is the transposed embedding.
        dtype: of activations and products, "float32" or "bfloat16"; norms, softmax and losses are float32.
        remat: whether each block is computed again on the way back, which saves memory.

    Raises:
        InputError: where a size is below 1, the heads do not divide the width evenly, or the dtype is another.

    Example:
        >>> ModelConfig().size, ModelConfig.preset("1m").size
        (115008, 1017216)
    """

    vocab: int = 256
    layers: int = 2
    width: int = 64
    heads: int = 2
    context: int = 128
    tied: bool = True
    dtype: str = "float32"
    remat: bool = False

    def __post_init__(self) -> None:
        for name in ("vocab", "layers", "width", "heads", "context"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} of the model is {getattr(self, name)}; allowed: at least 1")
        if self.width % (2 * self.heads):
            raise InputError(f"width {self.width} with {self.heads} heads; allowed: an even multiple of the heads")
        choice("dtype of the model", self.dtype, DTYPES)

    @classmethod
    def preset(cls, name: str, **others: Any) -> Self:
        """Return a named size, see `PRESETS`; the other settings may be given."""
        layers, width, heads = PRESETS[choice("preset", name, PRESETS)]
        return cls(layers=layers, width=width, heads=heads, **others)

    @property
    def size(self) -> int:
        """Number of all trainable parameters, the embedding included; a tied one counts once."""
        return sum(leaf.size for leaf in jax.tree.leaves(_blueprint(self)[1]))


class Block(nnx.Module):
    """Attention, then a feed-forward layer, each added to what came in."""

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs) -> None:
        self.heads = config.heads
        self.norms = nnx.List([_norm(config, rngs) for _ in range(2)])
        self.qkv = _linear(config, config.width, 3 * config.width, 1.0, rngs)
        self.up = _linear(config, config.width, 4 * config.width, 1.0, rngs)
        # The two products that write to the residual stream start smaller, so that its size does not grow with depth.
        residual = (2 * config.layers) ** -0.5
        self.out = _linear(config, config.width, config.width, residual, rngs)
        self.down = _linear(config, 4 * config.width, config.width, residual, rngs)

    def __call__(self, x: Float[Array, "B L D"]) -> Float[Array, "B L D"]:
        """Return x + attention(norm(x)), then the same with the feed-forward layer."""
        x = x + self.out(self.attend(self.qkv(self.norms[0](x))))
        return x + self.down(jnp.square(nnx.relu(self.up(self.norms[1](x)))))

    def attend(self, qkv: Float[Array, "B L 3*D"]) -> Float[Array, "B L D"]:
        """Return softmax(q k' / sqrt(d)) v of each head, where a token sees itself and those before it."""
        batch, length, width = qkv.shape
        q, k, v = jnp.split(qkv.reshape(batch, length, 3 * self.heads, -1), 3, axis=2)
        scores = jnp.einsum("blhd,bmhd->bhlm", rotate(q), rotate(k), preferred_element_type=jnp.float32)
        causal = np.tril(np.ones((length, length), bool))
        shares = jax.nn.softmax(jnp.where(causal, scores * q.shape[-1] ** -0.5, -jnp.inf)).astype(v.dtype)
        return jnp.einsum("bhlm,bmhd->blhd", shares, v).reshape(batch, length, width // 3)


class Decoder(nnx.Module):
    """Token ids to logits of the next token."""

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs) -> None:
        self.config = config
        scale = nnx.initializers.normal(EMBEDDING_SCALE)
        self.embed = nnx.Embed(config.vocab, config.width, embedding_init=scale, dtype=DTYPES[config.dtype], rngs=rngs)
        self.blocks = nnx.List([Block(config, rngs) for _ in range(config.layers)])
        self.norm = _norm(config, rngs)
        self.head = None if config.tied else nnx.Param(scale(rngs.params(), (config.vocab, config.width)))

    def __call__(self, tokens: Int[Array, "B L"]) -> Float[Array, "B L V"]:
        """Return float32 logits of the token after each."""
        x = self.embed(tokens)
        for block in self.blocks:
            x = nnx.remat(Block.__call__)(block, x) if self.config.remat else block(x)
        projection = self.embed.embedding[...] if self.head is None else self.head[...]
        return jnp.einsum("bld,vd->blv", self.norm(x), projection.astype(x.dtype), preferred_element_type=jnp.float32)


def rotate(x: Float[Array, "B L H d"]) -> Float[Array, "B L H d"]:
    """Rotate the pair (x_j, x_{j + d/2}) at position l by the angle l 10000^(-2 j / d) (RoPE, arXiv 2104.09864)."""
    half = x.shape[-1] // 2
    angle = np.arange(x.shape[1])[:, None, None] * ROTARY_BASE ** (-np.arange(half) / half)
    cos, sin = (jnp.asarray(table, x.dtype) for table in (np.cos(angle), np.sin(angle)))
    first, second = jnp.split(x, 2, axis=-1)
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)


def initialize(config: ModelConfig, key: Array) -> dict[str, Any]:
    """Return fresh parameters, a tree of float32 arrays."""
    return nnx.to_pure_dict(nnx.state(Decoder(config, nnx.Rngs(key)), nnx.Param))


def token_losses(config: ModelConfig, params: dict[str, Any], windows: Int[Array, "B L+1"]) -> Float[Array, "B L"]:
    """Return -ln p(token | those before it), nats, of every token of each window but its first."""
    return token_scores(config, params, windows)[0]


def token_scores(
    config: ModelConfig, params: dict[str, Any], windows: Int[Array, "B L+1"]
) -> tuple[Float[Array, "B L"], Float[Array, "B L"]]:
    """Return `token_losses`, and ln Z of each: Z is the sum of exp(logit) over the vocabulary."""
    logits = nnx.merge(_blueprint(config)[0], params)(windows[:, :-1])
    # A masked sum, since gathers and the scatters of their gradients are slow on accelerators.
    hit = windows[:, 1:, None] == jnp.arange(config.vocab)
    log_z = jax.nn.logsumexp(logits, axis=-1)
    return log_z - jnp.sum(jnp.where(hit, logits, 0), axis=-1), log_z


def model_axis(path: Any) -> int | None:
    """Return which axis of a parameter is split over the mesh's model axis, by its path; None for none."""
    names = [str(getattr(entry, "key", getattr(entry, "name", entry))) for entry in path]
    # The embedding by width, since rows looked up in a table split by rows crash the partitioner of jaxlib 0.12.
    split = {"qkv": 1, "up": 1, "out": 0, "down": 0, "embed": 1, "head": 0}
    return next((split[name] for name in reversed(names) if name in split), None)


def _norm(config: ModelConfig, rngs: nnx.Rngs) -> nnx.RMSNorm:
    return nnx.RMSNorm(config.width, dtype=DTYPES[config.dtype], rngs=rngs)


def _linear(config: ModelConfig, inner: int, outer: int, scale: float, rngs: nnx.Rngs) -> nnx.Linear:
    init = nnx.initializers.variance_scaling(scale**2, "fan_in", "normal")
    return nnx.Linear(inner, outer, use_bias=False, kernel_init=init, dtype=DTYPES[config.dtype], rngs=rngs)


@lru_cache
def _blueprint(config: ModelConfig) -> tuple[nnx.GraphDef[Decoder], nnx.State]:
    return nnx.split(nnx.eval_shape(lambda: Decoder(config, nnx.Rngs(0))))
