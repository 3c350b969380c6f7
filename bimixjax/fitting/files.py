"""What the file of a fitted law must hold."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bimixjax._base.checks import InputError
from bimixjax._base.schema import Kind, Spot, maybe, numbers, record, text, texts
from bimixjax.laws import Coefficient, Law, Units as LawUnits
from bimixjax.observations import UNITS
from bimixjax.solve import Status

# Solvers keep to the bounds of a law but for rounding, and a linear coefficient is at most this.
_SLACK = 1e-2
_LARGEST = 1e100

# Names, which settle the lengths of the arrays; a fit of `auto` has them too.
NAMES: dict[str, Kind] = {
    "domains": texts("domains", names=True),
    "targets": texts("targets", names=True),
    "own": numbers("targets", of=int, low=-1),
    "volume_unit": maybe(text(tuple(UNITS))),
    "model_sizes": numbers("sizes", low=1e-300),
    "notes": texts(),
}
_LANES: dict[str, Kind] = {
    "sentences": texts("lanes"),
    "status": numbers("lanes", of=int, low=min(Status), high=max(Status)),
    **{name: numbers("lanes", of=int, low=0) for name in ("steps", "rows", "missing", "zero", "volumes")},
    "companion": numbers("lanes", "domains", of=int, low=0),
    "varies": numbers("lanes", of=bool),
    **{name: numbers("lanes", low=0, null=True) for name in ("cost", "residual_scale", "condition", "error")},
    "r2": numbers("lanes", high=1, null=True),
    **{name: numbers("lanes", "coefficients", of=bool) for name in ("identified", "at_bound", "at_prior")},
    "values": numbers("lanes", "coefficients", null=True),
    "covariance": numbers("lanes", "coefficients", "coefficients", null=True),
    "proportion_range": numbers("lanes", "domains", 2, low=0, high=1 + 1e-6, null=True),
    "volume_range": numbers("lanes", 2, low=1e-300, null=True),
}


def checked(found: Any, law: Law, path: str | Path) -> dict[str, Any]:
    """Check a file of a `FitResult` of `law`, and return the fields of the result but the law."""
    spot = Spot(file=str(path))
    names = names_of({key: found[key] for key in NAMES if key in found}, spot)
    sizes = 1 if law.sized else max(1, len(names["model_sizes"]))
    spot.lengths.update(lanes=sizes * len(names["targets"]), coefficients=len(law.names(names["domains"])))
    # Names are read already; the law and resamples are read elsewhere.
    whole: dict[str, Kind] = dict.fromkeys([*NAMES, "law", "law_version"], lambda value, spot: value)
    whole |= {**_LANES, "mixtures": numbers("mixtures", "domains", low=0, high=1 + 1e-6)}
    # Laws that read no epochs, and older files, have none.
    whole["epochs"] = numbers("lanes", "domains", low=0, null=True) if found.get("epochs") else texts()
    if "resampled" in found:
        whole["resampled"] = whole["law"]
    read = record(whole)({**_coverage_before(found, spot), "epochs": [], **found}, spot)
    lanes = {name: read[name] for name in _LANES}
    if lanes["companion"].max(initial=0) >= len(names["domains"]):
        raise spot.at("companion").wrong(int(lanes["companion"].max()), f"places among {len(names['domains'])} domains")
    _check_measured(lanes, spot)
    check_bounds(law, np.tile(names["own"], sizes), lanes, names["model_sizes"], spot)
    return {**names, **lanes, "mixtures": read["mixtures"], "epochs": read["epochs"]}


def _coverage_before(found: Mapping[str, Any], spot: Spot) -> dict[str, Any]:
    """Fill in the fields that files lack from before fits said what their rows cover, as of ordinary rows."""
    if "companion" in found or not {"rows", "volume_range"} <= found.keys():
        return {"mixtures": []}
    lanes = spot.lengths["lanes"]
    rows = numbers("lanes", of=int, low=0)(found["rows"], spot.at("rows"))
    ends = numbers("lanes", 2, null=True)(found["volume_range"], spot.at("volume_range"))
    return {
        "mixtures": [],
        "volumes": np.where(ends[:, 0] < ends[:, 1], rows, np.minimum(rows, 1)).tolist(),
        "companion": [list(range(len(found["domains"])))] * lanes,
        "varies": [True] * lanes,
    }


def names_of(found: dict[str, Any], spot: Spot) -> dict[str, Any]:
    """Read the names of a fit; `own` must follow from them."""
    names = record(NAMES)(found, spot)
    own = [names["domains"].index(name) if name in names["domains"] else -1 for name in names["targets"]]
    if names["own"].tolist() != own:
        raise spot.at("own").wrong(found["own"], f"{own}, the place of each target among the domains")
    if not (names["domains"] and names["targets"]):
        raise spot.at("domains" if names["targets"] else "targets").wrong([], "at least one name")
    return {**names, "own": tuple(own), "model_sizes": tuple(names["model_sizes"].tolist())}


def _check_measured(lanes: Mapping[str, np.ndarray], spot: Spot) -> None:
    """Raise where a lane with rows lacks values or ranges."""
    unfitted, empty = np.isin(lanes["status"], (Status.NOT_FINITE, Status.NO_OBSERVATIONS)), lanes["rows"] == 0
    for name, may_lack in {"values": unfitted, "proportion_range": empty, "volume_range": empty}.items():
        wrong = np.isnan(lanes[name]).reshape(len(empty), -1).any(1) & ~may_lack
        if wrong.any():
            raise spot.at(name).at(int(np.argmax(wrong))).wrong(None, "numbers, since the lane has rows")


def check_bounds(
    law: Law, own: np.ndarray, lanes: Mapping[str, np.ndarray], model_sizes: tuple[float, ...], spot: Spot
) -> None:
    """Raise unless every coefficient is within the bounds of the law, as it is or in the units of its fit."""
    domains, volumes = spot.lengths["domains"], lanes["volume_range"]
    packed: Any = lanes["values"].T
    named: Mapping[str, Any] = law.unpack(packed, law.ordered(), domains)
    if _outside(law, named) is None:
        return
    with jax.enable_x64(True), np.errstate(all="ignore"):
        units = LawUnits(1 / np.nanmax(volumes), 1 / max(model_sizes, default=1.0), own == np.arange(domains)[:, None])
        named = law.with_units({name: jnp.asarray(value) for name, value in named.items()}, units)
    if (wrong := _outside(law, named)) is not None:
        c, value = wrong
        raise InputError(
            f"{spot.file}: values has {c.name} = {value:g} in the units of its fit; "
            f"allowed: {c.lower:g} to {c.upper:g}, the bounds of the law {law.name}"
        )


def _outside(law: Law, named: Mapping[str, Any]) -> tuple[Coefficient, float] | None:
    """Find a coefficient with a value outside its bounds; NaN is of a lane without rows."""
    for c in law.ordered():
        value, high = np.asarray(named[c.name]), min(c.upper, _LARGEST)
        outside = (value < c.lower - _SLACK * (1 + abs(c.lower))) | (value > high * (1 + _SLACK) + _SLACK)
        if outside.any():
            return c, float(value[outside][0])
    return None
