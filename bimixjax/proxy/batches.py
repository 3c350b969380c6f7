"""Stateless sampling: a batch is a function of the seed, the id of the run and the step, and of nothing else."""

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Integer, UInt32

from bimixjax._base.checks import InputError, known
from bimixjax._base.records import record

# 2^32 divided by the golden ratio: multiples of it, wrapped, are spread most evenly (a Weyl sequence).
GOLDEN = np.uint32(2654435769)
SHARE_BITS = 31
# NumPy on the host, JAX once they are on a device.
Arrays = Array | np.ndarray
Tokens = Integer[np.ndarray, " n"]

FINGERPRINT_PIECES, FINGERPRINT_TOKENS = 16, 4096


class TokenSource(Protocol):
    """Tokens that a swarm trains on, such as `bimixjax.corpus.TokenStore`: flat arrays of token ids by domain."""

    @property
    def domains(self) -> tuple[str, ...]:
        """Names of the domains."""
        ...

    @property
    def vocab_size(self) -> int:
        """Number of token ids."""
        ...

    def train(self, domain: str) -> Tokens:
        """Return the training tokens of `domain`; a memory map will do."""
        ...

    def validation(self, domain: str) -> Tokens:
        """Return the validation tokens of `domain`."""
        ...


@record
class Sampler:
    """Distribution of one run's batches; stacked over runs, each field has one axis more.

    Attributes:
        key: PRNG key data of the run.
        last: with [0, 1) cut into 2^31 equal cells, the last cell of each domain but the final one.
        starts: number of places in each domain where a window may start, divided by `stride`.
    """

    key: UInt32[Arrays, " 2"]
    last: Int[Arrays, " d-1"]
    starts: UInt32[Arrays, " d"]


def make_samplers(
    runs: Sequence[str], seeds: Sequence[int], proportions: Float[np.ndarray, "n d"], starts: UInt32[np.ndarray, " d"]
) -> Sampler:
    """Return the samplers of n runs, stacked; `starts` as in `Sampler`."""
    keys = [run_key(seed, run) for run, seed in zip(runs, seeds, strict=True)]
    ends = np.round(np.cumsum(proportions, axis=1) / proportions.sum(axis=1, keepdims=True) * 2.0**SHARE_BITS)
    return Sampler(
        key=np.stack([np.asarray(jax.random.key_data(key)) for key in keys]),
        last=(ends[:, :-1] - 1).astype(np.int32),
        starts=np.tile(starts.astype(np.uint32), (len(runs), 1)),
    )


def seed_key(seed: int) -> Array:
    """Return the PRNG key of `seed`, of one kind whatever the settings of JAX."""
    return jax.random.key(seed, impl="threefry2x32")


def run_key(seed: int, run: str) -> Array:
    """Return the key of a run: the seed's, with 64 bits of the SHA-256 of the run's id folded in."""
    digest = np.frombuffer(hashlib.sha256(run.encode()).digest()[:8], "<u4")
    return jax.random.fold_in(jax.random.fold_in(seed_key(seed), digest[0]), digest[1])


def draw(sampler: Sampler, step: Int[Array, ""], batch: int) -> tuple[Int[Array, " B"], UInt32[Array, " B"]]:
    """Draw domain and start of each sequence of one run's batch at `step`.

    Sequence n = step B + b of a run, b = 0, ..., B - 1, has the domain i with

        R_{i-1} <= frac(u + n / phi) < R_i,   R_i = r_1 + ... + r_i,   phi the golden ratio,

    where u is drawn once for the run. This is a Weyl sequence: each term is a draw from the proportions r, and counts
    among N of them differ from N r_i by about log N at most, where those of independent draws would differ by
    sqrt(N r_i (1 - r_i)). The start is uniform and independent.
    """
    offsets, places = jax.random.split(jax.random.wrap_key_data(jnp.asarray(sampler.key), impl="threefry2x32"))
    number = jnp.uint32(step) * jnp.uint32(batch) + jnp.arange(batch, dtype=jnp.uint32)
    # Fixed point: uint32 arithmetic wraps modulo 2^32, which takes the fractional part exactly.
    cell = (jax.random.bits(offsets, dtype=jnp.uint32) + number * GOLDEN) >> (32 - SHARE_BITS)
    domain = jnp.sum(cell.astype(jnp.int32)[:, None] > sampler.last, axis=-1, dtype=jnp.int32)
    bits = jax.random.bits(jax.random.fold_in(places, step), (batch,), jnp.uint32)
    return domain, scaled(bits, sampler.starts[domain])


def scaled(bits: UInt32[Array, "*s"], count: UInt32[Array, "*s"]) -> UInt32[Array, "*s"]:
    """Return floor(bits * count / 2^32), exactly: with `bits` uniform, a number uniform in [0, count).

    The product has 64 bits and integers here have 32, so it is summed from products of halves of 16 bits.
    """
    low, high = bits & 0xFFFF, bits >> 16
    count_low, count_high = count & 0xFFFF, count >> 16
    middle = (low * count_low >> 16) + (high * count_low & 0xFFFF) + (low * count_high & 0xFFFF)
    return high * count_high + (high * count_low >> 16) + (low * count_high >> 16) + (middle >> 16)


# Domain and start of each window.
Places = tuple[Int[Array, " B"], UInt32[Array, " B"]]
# From data of one member, data of all, the step, places and L + 1 to the windows of one step of one member. A plain
# function, so that swarms that read alike share their compiled programs.
Read = Callable[[Any, Any, Int[Array, ""], Places, int], Int[Array, "B L+1"]]


def read_resident(
    own: None, shared: tuple[Integer[Array, " N"], Int[Array, " d"]], step: Int[Array, ""], places: Places, length: int
) -> Int[Array, "B L+1"]:
    """Read windows out of the tokens on the device."""
    tokens, first = shared
    starts = first[places[0]] + places[1].astype(jnp.int32)
    return tokens[starts[:, None] + jnp.arange(length)].astype(jnp.int32)


def read_streamed(
    own: tuple[Int[Array, "S B L+1"], Int[Array, ""]], shared: None, step: Int[Array, ""], places: Places, length: int
) -> Int[Array, "B L+1"]:
    """Pick the windows that the host has read for this step."""
    windows, start = own
    return jax.lax.dynamic_index_in_dim(windows, step - start, keepdims=False)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Resident:
    """Training tokens that fit on the device: windows are read inside the program.

    Attributes:
        tokens: those of all domains, one after another.
        first: place of the first token of each domain.
        read: reads a window inside the program.
    """

    tokens: Integer[Arrays, " N"]
    first: Int[Arrays, " d"]
    read = staticmethod(read_resident)

    @property
    def shared(self) -> tuple[Integer[Arrays, " N"], Int[Arrays, " d"]]:
        """Data that every member reads."""
        return self.tokens, self.first

    @property
    def nbytes(self) -> int:
        """Bytes on each device."""
        return self.tokens.nbytes


@dataclasses.dataclass(frozen=True, kw_only=True)
class Streamed:
    """Training tokens larger than the device: the host reads up to `longest` steps of windows before each call.

    A domain of more than 2^32 tokens has windows at every `stride`-th place only.

    Attributes:
        tokens: those of each domain.
        stride: of the places where windows may start, by domain.
        length: L + 1, tokens per window.
        batch: B, windows per step.
        longest: S, steps of a block.
        shared: None, since no data are shared.
        read: reads a window inside the program.
    """

    tokens: tuple[Tokens, ...]
    stride: Int[np.ndarray, " d"]
    length: int
    batch: int
    longest: int = 16
    shared: None = None
    read = staticmethod(read_streamed)

    def places(self, samplers: Sampler, first: int) -> tuple[Int[np.ndarray, "m S B"], UInt32[np.ndarray, "m S B"]]:
        """Draw domain and start of each window of S steps from `first` on, of every member."""
        return jax.device_get(_draw_steps(samplers, np.arange(first, first + self.longest, dtype=np.int32), self.batch))

    def windows(
        self, domains: Int[np.ndarray, "m S B"], starts: UInt32[np.ndarray, "m S B"], steps: int
    ) -> Int[np.ndarray, "m S B L+1"]:
        """Read the windows of the first `steps` steps of every member; the others are 0."""
        windows = np.zeros((*domains.shape, self.length), np.int32)
        wanted = np.arange(self.longest)[:, None] < steps
        for domain, tokens in enumerate(self.tokens):
            here = wanted & (domains == domain)
            begins = starts[here].astype(np.int64) * self.stride[domain]
            windows[here] = tokens[begins[:, None] + np.arange(self.length)]
        return windows

    @property
    def nbytes(self) -> int:
        """Bytes of one member's block on a device."""
        return 4 * self.longest * self.batch * self.length


@jax.jit(static_argnums=2)
def _draw_steps(
    samplers: Sampler, steps: Int[Array, " S"], batch: int
) -> tuple[Int[Array, "m S B"], UInt32[Array, "m S B"]]:
    return jax.vmap(lambda sampler: jax.vmap(lambda step: draw(sampler, step, batch))(steps))(samplers)


def make_reader(
    source: TokenSource, domains: Sequence[str], *, context: int, batch: int, resident_bytes: int
) -> tuple[Resident | Streamed, UInt32[np.ndarray, " d"]]:
    """Return the reader of the training tokens of `domains`, and the number of starts in each.

    Raises:
        InputError: where a domain is unknown or shorter than one window of `context` + 1 tokens.
    """
    known("domain", domains, source.domains, "the design")
    tokens = tuple(source.train(domain) for domain in domains)
    counts = np.array([len(array) for array in tokens], np.int64) - context
    for domain, count in zip(domains, counts, strict=True):
        if count < 1:
            raise InputError(f"domain {domain!r} has {count + context} training tokens; allowed: above {context}")
    total, size = sum(map(len, tokens)), sum(array.nbytes for array in tokens)
    if size <= resident_bytes and total < 2**31:
        first = np.cumsum([0, *map(len, tokens[:-1])]).astype(np.int32)
        return Resident(tokens=np.concatenate(tokens), first=first), counts.astype(np.uint32)
    stride = -(-counts // (2**32 - 1))
    reader = Streamed(tokens=tokens, stride=stride, length=context + 1, batch=batch)
    return reader, (counts // stride).astype(np.uint32)


@record
class Validation:
    """Fixed windows of t targets, on which every member is measured.

    Attributes:
        windows: token ids; a target with fewer than W windows is padded with its first.
        used: whether a window counts: False for padding.
    """

    windows: Int[Arrays, "t W L+1"]
    used: Bool[Arrays, "t W"]


def make_validation(source: TokenSource, targets: Sequence[str], *, context: int, windows: int) -> Validation:
    """Return at most `windows` windows of each target's validation tokens, evenly spread, none overlapping.

    Raises:
        InputError: where a target is unknown or has no two whole windows, which a standard error needs.
    """
    known("target", targets, source.domains, "the swarm's settings")
    picked = [_spread(source.validation(target), target, context + 1, windows) for target in targets]
    most = max(map(len, picked))
    filled = [np.concatenate([rows, np.repeat(rows[:1], most - len(rows), axis=0)]) for rows in picked]
    used = np.arange(most) < np.array([len(rows) for rows in picked])[:, None]
    return Validation(windows=np.stack(filled), used=used)


def _spread(tokens: Tokens, target: str, length: int, windows: int) -> Int[np.ndarray, "W L+1"]:
    """Return up to `windows` windows of `length` tokens, the first at the beginning and the last at the end."""
    count = min(windows, len(tokens) // length)
    if count < 2:
        raise InputError(f"target {target!r} has {len(tokens)} validation tokens; allowed: at least {2 * length}")
    starts = np.arange(count) * (len(tokens) - length) // (count - 1)
    return np.asarray(tokens)[starts[:, None] + np.arange(length)].astype(np.int32)


def fingerprint(source: TokenSource, domains: Sequence[str]) -> dict[str, str]:
    """Return count and hash of each domain's tokens; of a long one, evenly spread pieces are hashed."""

    def hashed(tokens: Tokens) -> str:
        starts = np.linspace(0, max(0, len(tokens) - FINGERPRINT_TOKENS), FINGERPRINT_PIECES).astype(np.int64)
        digest = hashlib.sha256()
        for start in starts:
            digest.update(np.ascontiguousarray(tokens[start : start + FINGERPRINT_TOKENS], dtype="<u4").tobytes())
        return f"{len(tokens)}:{digest.hexdigest()[:16]}"

    return {domain: f"{hashed(source.train(domain))} {hashed(source.validation(domain))}" for domain in domains}
