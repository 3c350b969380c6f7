"""Fits that iterate in float32: what the compiled call then reads, and the float64 call that follows it."""

from dataclasses import replace
from typing import Any

import jax
import numpy as np

from bimixjax.fitting.batch import Plan, Scaled, Work, scaled
from bimixjax.fitting.chunks import lanes_at_once
from bimixjax.solve import Precision, Projection

# Platforms without float64 of their own.
_SINGLE_ONLY = ("tpu",)

_NARROWED = {np.dtype(np.float64): np.float32, np.dtype(np.int64): np.int32}


def precision_of(plan: Plan) -> Precision:
    """In which numbers a plan iterates: those it asks for, or those of the devices."""
    wanted = None if isinstance(plan.solver, Projection) else plan.solver.precision
    return wanted or ("float32" if jax.default_backend() in _SINGLE_ONLY else "float64")


def float64_devices() -> list[Any]:
    """Where float64 is solved: the devices, or, where they have none of their own, the host."""
    if jax.default_backend() in _SINGLE_ONLY:
        return jax.local_devices(backend="cpu")[:1]
    return jax.devices()


def narrowed(work: Work, plan: Plan) -> tuple[Work, Plan]:
    """The call that iterates in float32, and keeps where each lane ended."""
    resamples = work.resamples and replace(work.resamples, dtype="float32")
    return jax.tree.map(_narrowed, replace(work, resamples=resamples)), replace(plan, view=scaled)


def following(work: Work, plan: Plan, ends: Scaled) -> tuple[Work, Plan]:
    """The float64 call that starts at those ends, and stays there unless they are to be refined."""
    unknowns = sum(c.size(work.lanes.mixture.shape[0]) for c in plan.law.part(linear=False))
    starts = ends.values[:, ends.values.shape[1] - unknowns :].T[None]
    resamples = work.resamples and replace(work.resamples, dtype="float32")
    solver = replace(plan.solver, precision="float64") if precision_of(plan) == "refined" else Projection()
    return (
        replace(work, starts=starts.astype(np.float64), resamples=resamples),
        replace(plan, solver=solver, chunk=_chunk(work, plan)),
    )


def with_course(kept: Any, ends: Scaled) -> Any:
    """What was kept of lanes that stayed at their ends, with the steps and statuses that led there."""

    def course(path: tuple[Any, ...], leaf: np.ndarray) -> np.ndarray:
        name = path[-1].name
        return getattr(ends, name) if name in ("steps", "status") else leaf

    return jax.tree.map_with_path(course, kept)


def _narrowed(leaf: Any) -> Any:
    """The numbers in half of their bits; keys of random numbers are left as they are."""
    return np.asarray(leaf, _NARROWED[leaf.dtype]) if leaf.dtype in _NARROWED else leaf


def _chunk(work: Work, plan: Plan) -> int:
    """As many lanes at once as suit the float64 devices."""
    if jax.default_backend() not in _SINGLE_ONLY:
        return plan.chunk
    return lanes_at_once(plan.law, work.lanes, "cpu")
