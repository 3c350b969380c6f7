"""Save the fit of `auto` at one model size as strict JSON, and read it."""

import dataclasses
from typing import Any

import numpy as np

from bimixjax._base.checks import InputError
from bimixjax._base.schema import Spot, each, maybe, numbers, record, shares, texts
from bimixjax.auto.member import Fitted
from bimixjax.auto.members import DONATED, IN_EPOCHS, MEMBERS, named_members
from bimixjax.auto.one_size import AutoSize, Lent

_NEVER = ("carried", "drawn", "unique")

# Fields of `Fitted`, by what a file calls them.
_KEYS = {"z": "z", "pull": "alpha", "step": "step"}


def saved_size(size: AutoSize) -> dict[str, Any]:
    """Return all that a prediction needs."""
    if size.carried:
        raise InputError("this is a fit carried to a size that was not fitted; save the fit that it is of")
    if size.drawn:
        raise InputError("this is a draw from the posterior of a fit; save the fit itself")
    fields = {f.name: getattr(size, f.name) for f in dataclasses.fields(size) if f.name not in _NEVER}
    fields["fitted"] = [{key: getattr(one, field) for key, field in _KEYS.items()} for one in size.fitted]
    # Absent, not null, where there is none: such a file is one of a release that knew no epochs.
    if size.unique is not None:
        fields["unique"] = size.unique
    if size.lent:
        fields["lent"] = {"size": saved_size(size.lent.size), "center": size.lent.center}
    return fields


def read_size(value: Any, spot: Spot) -> AutoSize:
    """Read and check what `saved_size` gave; `spot` has the lengths "domains" and "targets"."""
    spot = dataclasses.replace(spot, lengths={key: spot.lengths[key] for key in ("domains", "targets")})
    limited = isinstance(value, dict) and "unique" in value
    found = record({**_SIZE, "unique": _UNIQUE} if limited else _SIZE)(value, spot)
    if limited:
        found["unique"] = np.where(np.isnan(found["unique"]), np.inf, found["unique"])
    members, fitted = named_members(found["member_names"]), []
    for i, member in enumerate(members):
        count = sum(c.size(len(found["mixture"])) for c in member.law.ordered())
        own = dataclasses.replace(spot, lengths={**spot.lengths, "coefficients": count})
        one = record(_FITTED)(found["fitted"][i], own.at("fitted").at(i))
        fitted.append(Fitted(**{field: one[key] for key, field in _KEYS.items()}))
    _check_used(found, spot)
    return AutoSize(**{**found, "fitted": tuple(fitted)})


def _check_used(found: dict[str, Any], spot: Spot) -> None:
    """Raise unless a target with rows has all that it needs."""
    used = found["rows"] > 0
    if (found["mask"].sum((0, 1)) != found["rows"]).any():
        raise spot.at("rows").wrong(found["rows"].tolist(), "as many as the mask has for each target")
    for name in ("center", "spread", "left_out_error", "proportion_range", "volume_range"):
        absent = np.isnan(found[name]).reshape(len(used), -1).any(1) & used
        if absent.any():
            raise spot.at(name).at(int(np.argmax(absent))).wrong(None, "a number, since the target has rows")
    off = used & (abs(found["weights"].sum(0) - 1) > 1e-6)
    if off.any():
        raise spot.at("weights").wrong(found["weights"][:, off][:, 0].tolist(), "shares of the members that sum to 1")


# Logarithms of losses, and standardized coefficients, beyond which no loss is finite.
_LOG, _STANDARD = 50.0, 1e4

_FITTED = {
    "z": numbers("coefficients", "targets", low=-_STANDARD, high=_STANDARD),
    "pull": numbers("runs", "targets"),
    "step": numbers("volumes", "targets", low=-_LOG, high=_LOG),
}
# Null is no limit.
_UNIQUE = numbers("domains", "runs", low=1e-300, null=True)
_LENT = {"size": read_size, "center": numbers("targets", low=-_LOG, high=_LOG)}
_SIZE = {
    "member_names": texts("members", of=tuple(member.name for member in (*MEMBERS, *DONATED, *IN_EPOCHS)), names=True),
    "model_size": numbers(low=1e-300),
    "mixture": shares("domains", "runs"),
    "volume": numbers("volumes", low=1e-300, high=1),
    "scale": numbers(low=1e-300),
    "mask": numbers("runs", "volumes", "targets", low=0, high=1),
    "center": numbers("targets", low=-_LOG, high=_LOG, null=True),
    "fitted": each(lambda value, spot: value, "members"),
    "weights": numbers("members", "targets", low=0, high=1),
    "spread": numbers("targets", low=0, null=True),
    "correlation": numbers("targets", low=0, high=1),
    "left_out_error": numbers("targets", low=0, null=True),
    "log_range": numbers(2, "targets", low=-_LOG, high=_LOG),
    "rows": numbers("targets", low=0),
    "proportion_range": numbers("targets", "domains", 2, low=0, high=1 + 1e-6, null=True),
    "volume_range": numbers("targets", 2, low=1e-300, null=True),
    "varies": numbers("targets", low=0, high=1),
    "lent": maybe(lambda value, spot: Lent(**record(_LENT)(value, spot))),
}
