"""Domains on which the objective does not depend: they share what falls to them in the proportions of a reference."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from bimixjax._base import checks
from bimixjax._base.checks import InputError
from bimixjax.optimization.objectives import Objective
from bimixjax.solve import Region


def reference_shares(given: Mapping[str, float] | ArrayLike | None, domains: tuple[str, ...]) -> np.ndarray:
    """Return the mixture that idle domains follow, in the order of `domains`."""
    if given is None:
        return np.full(len(domains), 1 / len(domains))
    if isinstance(given, Mapping):
        checks.known("domain", tuple(given), domains, "reference")
        given = [float(given.get(domain, 0.0)) for domain in domains]
    shares = np.asarray(given, float)
    if shares.shape != (len(domains),):
        raise InputError(f"reference has shape {shares.shape}; allowed: [{len(domains)}], for {', '.join(domains)}")
    checks.mixtures(shares, domains)
    return shares


def shared_out(r: np.ndarray, flat: np.ndarray, reference: np.ndarray, region: Region) -> np.ndarray:
    """Split what falls to domains without a gradient in the proportions of a reference, within limits."""
    if not flat.any():
        return r
    lower, upper = (np.where(flat, ends, r) for ends in (region.lower, region.upper))
    found = region.within_box(lower, upper).in_proportion(reference if region.ball is None else region.ball.reference)
    return np.where(flat, found, r)


def idle_domains(goal: Objective, flat: np.ndarray) -> np.ndarray:
    """Find the domains on which no weighted target depends, of those without a slope [d]."""
    own = np.isin(np.arange(len(flat)), goal.predictor.own_by_convention)
    return flat if flat.all() else flat & ~own
