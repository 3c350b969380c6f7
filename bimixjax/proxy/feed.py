"""Training tokens on their way to the devices: those that fit lie there, others are read one block ahead."""

from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
from jaxtyping import Int

from bimixjax.proxy.batches import Resident, Sampler, Streamed
from bimixjax.proxy.mesh import on_members, place, replicated

# Windows of each member, of a block of steps, and the step of the first, once for each member.
Own = tuple[jax.Array, jax.Array] | None
# Windows of the members between two slots.
Read = dict[tuple[int, int], Int[np.ndarray, "m S B L+1"]]


class ResidentFeed:
    """What each call of the training program reads of tokens that lie on every device.

    Attributes:
        shared: what all members read.
    """

    def __init__(self, reader: Resident, mesh: Mesh, steps: int) -> None:
        """Put the tokens on the devices, for a number of steps."""
        self._steps = steps
        self.shared: Any = jax.tree.map(lambda array: place(array, replicated(mesh)), reader.shared)

    def block(self, step: int) -> tuple[Own, int]:
        """Return None, since members read nothing for themselves, and the number of steps."""
        return None, self._steps

    def close(self) -> None:
        """Do nothing."""


class StreamedFeed:
    """What each call of the training program reads of tokens that the hosts read, in blocks of steps.

    While the devices train on one block, a thread reads the next one. Each process reads the windows of its own
    members only, and each device holds those of its part of the batch.

    Attributes:
        shared: None.
    """

    shared = None

    def __init__(self, reader: Streamed, samplers: Sampler, mesh: Mesh, steps: int) -> None:
        """Begin to feed members with the (stacked) samplers, on the host, up to a number of steps."""
        self._reader, self._mesh, self._steps, self._slots = reader, mesh, steps, len(samplers.key)
        self._pool = ThreadPoolExecutor(1, "tokens")
        self._next: tuple[int, Future[Read]] | None = None
        self._current: tuple[int, Own] = (-1, None)
        indices = on_members(mesh).addressable_devices_indices_map((self._slots,)).values()
        members = {index[0].indices(self._slots)[:2] for index in indices if index is not None}
        self._samplers = {
            (first, last): jax.tree.map(lambda leaf, first=first, last=last: leaf[first:last], samplers)
            for first, last in sorted(members)
        }

    def block(self, step: int) -> tuple[Own, int]:
        """Return what members read for themselves at `step`, and the first step for which that holds no more."""
        longest = self._reader.longest
        number = step // longest
        if self._current[0] != number:
            if self._next is None or self._next[0] != number:
                self._next = number, self._begin(number)
            self._current = number, self._placed(number * longest, self._next[1].result())
            self._next = (number + 1, self._begin(number + 1)) if (number + 1) * longest < self._steps else None
        return self._current[1], (number + 1) * longest

    def _begin(self, number: int) -> "Future[Read]":
        """Draw the windows of a block, and let the thread read them."""
        reader, first = self._reader, number * self._reader.longest
        # Drawn here, not in the thread: a device that trains would draw only when it has done.
        places = {members: reader.places(samplers, first) for members, samplers in self._samplers.items()}
        steps = min(reader.longest, self._steps - first)

        def read() -> Read:
            return {members: reader.windows(*drawn, steps) for members, drawn in places.items()}

        return self._pool.submit(read)

    def _placed(self, first: int, read: Read) -> Own:
        """Put a block on the devices: members over the axis member, sequences over data."""
        shape = (self._slots, *next(iter(read.values())).shape[1:])

        def part(index: Any) -> np.ndarray:
            return read[index[0].indices(self._slots)[:2]][:, index[1], index[2], index[3]]

        windows = jax.make_array_from_callback(shape, NamedSharding(self._mesh, P("member", None, "data")), part)
        return windows, place(np.full(self._slots, first, np.int32), on_members(self._mesh))

    def close(self) -> None:
        """End the thread."""
        self._pool.shutdown(cancel_futures=True)


def make_feed(reader: Resident | Streamed, samplers: Sampler, mesh: Mesh, steps: int) -> ResidentFeed | StreamedFeed:
    """Return what feeds the members of the samplers, on the host, for a number of steps."""
    if isinstance(reader, Resident):
        return ResidentFeed(reader, mesh, steps)
    return StreamedFeed(reader, samplers, mesh, steps)
