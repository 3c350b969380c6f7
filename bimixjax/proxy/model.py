"""A decoder-only transformer in Flax NNX: rotary positions, RMS norms, squared-ReLU feed-forward, no biases."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Self

import jax
import jax.numpy as jnp
from flax import nnx
from jax.ad_checkpoint import checkpoint_name
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float, Int

from bimixjax._base.checks import InputError, choice
from bimixjax.proxy.operators import attend, cut, look_up, project, rotate

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}
EMBEDDING_SCALE = 0.02
# What is not kept for the way back; see `Passes.sharded`.
GATHERED = "gathered"

Axes = int | tuple[int, ...]

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
        return sum(leaf.size for leaf in jax.tree.leaves(self.shapes))

    @property
    def shapes(self) -> dict[str, Any]:
        """Shapes of all trainable parameters, a tree."""
        return nnx.to_pure_dict(_blueprint(self)[1])


@dataclasses.dataclass(frozen=True, kw_only=True)
class Passes:
    """How the network is computed, which changes losses by rounding only.

    Attributes:
        remat: whether each block is computed again on the way back, which saves memory.
        positions: of each window, for how many logits are made at a time, or a divisor that the context shares with
            it; None: all.
        fused: whether attention is cuDNN's, on a GPU in bfloat16.
        unrolled: whether the program has every block, not a loop over one: a CPU computes a model of .1M parameters
            about 1.3 times as fast then.
        sharded: whether parameters are split over the mesh's data axis, and those of a block gathered when it is its
            turn, both ways (FSDP, arXiv 2304.11277).
        deterministic: whether a GPU gives the same numbers each time: gradients of the embedding are then products with
            one-hot tokens, since those that a GPU scatters are summed in any order.
    """

    remat: bool = False
    positions: int | None = None
    fused: bool = False
    unrolled: bool = False
    sharded: bool = False
    deterministic: bool = False


WHOLE = Passes()


class Block(nnx.Module):
    """Attention, then a feed-forward layer, each added to what came in."""

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs) -> None:
        width, heads = config.width, (config.heads, config.width // config.heads)
        self.norms = nnx.List([_norm(config, rngs) for _ in range(2)])
        self.qkv = _linear(config, width, (3, *heads), 1.0, rngs)
        self.up = _linear(config, width, 4 * width, 1.0, rngs)
        # The two products that write to the residual stream start smaller, so that its size does not grow with depth.
        residual = (2 * config.layers) ** -0.5
        self.out = _linear(config, heads, width, residual, rngs)
        self.down = _linear(config, 4 * width, width, residual, rngs)

    def __call__(self, x: Float[Array, "B L D"], fused: bool) -> Float[Array, "B L D"]:
        """Return x + attention(norm(x)), then the same with the feed-forward layer; `fused`: attention by cuDNN."""
        q, k, v = jnp.unstack(self.qkv(self.norms[0](x)), axis=2)
        x = x + self.out(attend(rotate(q), rotate(k), v, fused=fused))
        return x + self.down(jnp.square(nnx.relu(self.up(self.norms[1](x)))))


class Decoder(nnx.Module):
    """Token ids to what the output projection, a row per token of the vocabulary, makes logits of."""

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs) -> None:
        scale = nnx.initializers.normal(EMBEDDING_SCALE)
        self.embed = nnx.Embed(config.vocab, config.width, embedding_init=scale, dtype=DTYPES[config.dtype], rngs=rngs)
        (graph, *_), layers = zip(*(nnx.split(Block(config, rngs)) for _ in range(config.layers)), strict=True)
        # One block whose parameters have an axis of layers first: they are scanned, so that only one is compiled.
        self.blocks = nnx.merge(graph, jax.tree.map(lambda *leaves: jnp.stack(leaves), *layers))
        self.norm = _norm(config, rngs)
        self.head = None if config.tied else nnx.Param(scale(rngs.params(), (config.vocab, config.width)))

    def __call__(self, tokens: Int[Array, "B L"], passes: "Passes") -> Float[Array, "B L D"]:
        """Return the numbers of each token after the last norm."""
        graph, layers = nnx.split(self.blocks)

        def apply(x: Float[Array, "B L D"], layer: nnx.State) -> tuple[Float[Array, "B L D"], None]:
            layer = gather(layer, self.embed.dtype) if passes.sharded else layer
            return split_rows(nnx.merge(graph, layer)(x, passes.fused), passes), None

        if passes.remat:
            apply = jax.checkpoint(apply)
        elif passes.sharded:
            # What was gathered for all blocks would be as large as parameters that are not split.
            apply = jax.checkpoint(apply, policy=jax.checkpoint_policies.save_anything_except_these_names(GATHERED))
        own = self.embed.embedding[...], tokens, self.embed.dtype, passes.positions
        x: Array = look_up(*own) if passes.deterministic else self.embed(tokens)
        x, _ = jax.lax.scan(apply, split_rows(x, passes), layers, unroll=passes.unrolled)
        return self.norm(x)

    @property
    def projection(self) -> Float[Array, "V D"]:
        """The output projection."""
        return self.embed.embedding[...] if self.head is None else self.head[...]


def initialize(config: ModelConfig, key: Array) -> dict[str, Any]:
    """Return fresh parameters, a tree of float32 arrays."""
    return nnx.to_pure_dict(nnx.state(Decoder(config, nnx.Rngs(key)), nnx.Param))


def token_losses(
    config: ModelConfig, params: dict[str, Any], windows: Int[Array, "B L+1"], passes: Passes = WHOLE
) -> Float[Array, "B L"]:
    """Return -ln p(token | those before it), nats, of every token of each window but its first."""
    return token_scores(config, params, windows, passes)[0]


def token_scores(
    config: ModelConfig, params: dict[str, Any], windows: Int[Array, "B L+1"], passes: Passes = WHOLE
) -> tuple[Float[Array, "B L"], Float[Array, "B L"]]:
    """Return `token_losses`, and ln Z of each: Z is the sum of exp(logit) over the vocabulary.

    Logits are by far the largest array of a small model with a large vocabulary. Where `passes` says so, they are made
    for some positions at a time, and again on the way back.
    """
    if passes.sharded:
        others = {name: part for name, part in params.items() if name != "blocks"}
        params = params | gather(others, DTYPES[config.dtype])
    model = nnx.merge(_blueprint(config)[0], params)
    hidden = model(windows[:, :-1], passes)

    def scores(part: tuple[Float[Array, "B l D"], Int[Array, "B l"]]) -> tuple[Array, Array]:
        logits = project(split_rows(part[0], passes), model.projection)
        # A masked sum, since gathers and the scatters of their gradients are slow on accelerators.
        hit = part[1][..., None] == jnp.arange(config.vocab)
        log_z = jax.nn.logsumexp(logits, axis=-1)
        return log_z - jnp.sum(jnp.where(hit, logits, 0), axis=-1), log_z

    length = math.gcd(config.context, passes.positions or config.context)
    if length == config.context:
        return scores((hidden, windows[:, 1:]))

    found = jax.lax.map(jax.checkpoint(scores), (cut(hidden, length), cut(windows[:, 1:], length)))
    losses, log_z = (jnp.moveaxis(x, 0, 1).reshape(len(windows), -1) for x in found)
    return losses, log_z


# Axes of one layer's parameters that are split over the mesh's model axis, and over its data axis where a proxy
# outgrows a device. The embedding by width only: rows looked up in a table split by rows crash the partitioner of
# jaxlib 0.12.
SPLIT = {"qkv": (2, 0), "out": (0, 2), "up": (1, 0), "down": (0, 1), "embed": (1, 1), "head": (0, 1)}


def split_axes(path: Any) -> tuple[int, int] | None:
    """Return which axes of a parameter are split over the mesh's axes model and data, by its path; None for none.

    Axes are counted without that of layers.
    """
    names = [str(getattr(entry, "key", getattr(entry, "name", entry))) for entry in path]
    found = next((SPLIT[name] for name in names if name in SPLIT), None)
    layers = "blocks" in names
    return None if found is None else (found[0] + layers, found[1] + layers)


def partition(path: Any, shape: Sequence[int], mesh: Mapping[str, int], *, sharded: bool) -> tuple[Any, ...]:
    """Return the names of the mesh's axes over which each axis of a parameter is split, where it divides."""
    names: list[list[str]] = [[] for _ in shape]
    for name, axis in zip(("model", "data") if sharded else ("model",), split_axes(path) or (), strict=False):
        if shape[axis] % math.prod(mesh[other] for other in [*names[axis], name]) == 0:
            names[axis].append(name)
    return tuple(tuple(axes) or None for axes in names)


def gather(params: Any, dtype: Any) -> Any:
    """Return parameters that are split over the data axis as whole ones in `dtype`, for which less is sent.

    Left to itself, the compiler gathers activations in their place, and each device computes on the whole batch. The
    two constraints also hold on the way back: gradients are added up over the devices, and each keeps its part.
    """
    mesh = jax.sharding.get_abstract_mesh().shape

    def whole(path: Any, leaf: Array) -> Array:
        if split_axes(path) is None:
            return leaf
        leaf = leaf.astype(dtype)
        for sharded in (True, False):
            leaf = jax.lax.with_sharding_constraint(leaf, P(*partition(path, leaf.shape, mesh, sharded=sharded)))
        return checkpoint_name(leaf, GATHERED)

    return jax.tree_util.tree_map_with_path(whole, params)


def split_rows(x: Float[Array, "B L D"], passes: Passes) -> Float[Array, "B L D"]:
    """Return numbers of tokens whose windows are split over the data axis as their batch is, where parameters are."""
    free = P.UNCONSTRAINED
    return jax.lax.with_sharding_constraint(x, P("data", free, free)) if passes.sharded else x


def is_decayed(params: dict[str, Any]) -> dict[str, Any]:
    """Return for each parameter whether weights decay: all but the scales of norms."""
    return jax.tree_util.tree_map_with_path(lambda path, _: split_axes(path) is not None, params)


def _norm(config: ModelConfig, rngs: nnx.Rngs) -> nnx.RMSNorm:
    return nnx.RMSNorm(config.width, dtype=DTYPES[config.dtype], rngs=rngs)


def _linear(config: ModelConfig, inner: Axes, outer: Axes, scale: float, rngs: nnx.Rngs) -> nnx.LinearGeneral:
    axis = tuple(range(-len(inner), 0)) if isinstance(inner, tuple) else -1
    settings: Any = {
        "kernel_init": nnx.initializers.variance_scaling(scale**2, "fan_in", "normal"),
        "dtype": DTYPES[config.dtype],
        "use_bias": False,
    }
    return nnx.LinearGeneral(inner, outer, axis=axis, rngs=rngs, **settings)


@lru_cache
def _blueprint(config: ModelConfig) -> tuple[nnx.GraphDef[Decoder], nnx.State]:
    return nnx.split(nnx.eval_shape(lambda: Decoder(config, nnx.Rngs(0))))
