"""Whole programs that JAX compiles: with which choices of XLA."""

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Any, TypeVar

import jax

R = TypeVar("R")

# XLA's newer way of writing loops for a CPU. Without it, first fits of a law wait half as long or less, other first
# calls .7 to .8 as long, and later calls take .8 to 1.1 of the time: chosen by benchmarks/compilation.py.
_CHOICES: dict[str, str | bool] = {"xla_cpu_use_fusion_emitters": False}

# With these, a GPU gives the same numbers each time: no sum is in the order in which threads arrive, and no product is
# chosen by timing it, without which Triton's would all have one size of tile (openxla.org/xla/determinism).
DETERMINISTIC: dict[str, str | bool] = {"xla_gpu_deterministic_ops": True, "xla_gpu_enable_triton_gemm": False}


@lru_cache(maxsize=1)
def choices() -> dict[str, str | bool]:
    """Return the compiler options of a program on this process's platform, for `jax.jit` or `Lowered.compile`."""
    if jax.default_backend() != "cpu":
        return {}
    try:
        jax.jit(lambda: 0, compiler_options=_CHOICES).lower().compile()
    except jax.errors.JaxRuntimeError:
        # A release of XLA that no longer knows the choice has one way only.
        return {}
    return _CHOICES


def program(*, static: tuple[str, ...] = ()) -> Callable[[Callable[..., R]], Callable[..., R]]:
    """Compile a function as `jax.jit` does, with `choices`, which JAX takes of outermost programs only.

    It cannot be traced by another function, as under `jax.jit` or `jax.grad`.

    Args:
        static: names of arguments that are part of the program.
    """

    def decorate(function: Callable[..., R]) -> Callable[..., R]:
        # The platform is not known yet when a module is imported.
        @lru_cache(maxsize=1)
        def jitted() -> Any:
            return jax.jit(function, static_argnames=static, compiler_options=choices())

        @wraps(function)
        def call(*args: Any, **kwargs: Any) -> R:
            return jitted()(*args, **kwargs)

        return call

    return decorate
