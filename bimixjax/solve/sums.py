"""Sums over the leading axis, as additions of slices.

On a CPU, XLA computes a reduction that it fuses with what surrounds it one number at a time; slices it adds lanes at
full width.
"""

from jax import Array

_UNROLLED = 8


def over_first(values: Array) -> Array:
    """The sum over axis 0."""
    return _over(values, 0)


def over_second(values: Array) -> Array:
    """The sum over axis 1."""
    return _over(values, 1)


def _over(values: Array, axis: int) -> Array:
    count, lead, rest = values.shape[axis], (slice(None),) * axis, values.shape[axis + 1 :]
    if count <= _UNROLLED:
        return _added([values[*lead, k] for k in range(count)])
    width = next((width for width in range(_UNROLLED, 1, -1) if count % width == 0), None)
    if width is None:
        return values[*lead, 0] + _over(values[*lead, 1:], axis)
    blocks = values.reshape(*values.shape[:axis], count // width, width, *rest)
    return _over(_added([blocks[*lead, :, k] for k in range(width)]), axis)


def _added(parts: list[Array]) -> Array:
    """Pairs, then pairs of pairs: fewer roundings than one after another."""
    while len(parts) > 1:
        odd = parts[-1:] if len(parts) % 2 else []
        parts = [a + b for a, b in zip(parts[::2], parts[1::2], strict=False)] + odd
    return parts[0]
