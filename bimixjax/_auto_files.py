"""What `auto` fitted at one model size, as strict JSON holds it."""

import dataclasses
from typing import Any

import numpy as np

from bimixjax._auto_fit import noise_of
from bimixjax._auto_kernel import Fitted
from bimixjax._auto_size import AutoSize, Lent
from bimixjax._checks import InputError
from bimixjax._members import named_members
from bimixjax._noise import factored

_NEVER = ("carried", "drawn")
_APART = ("member_names", "fitted", "lent", *_NEVER)
_KEPT = tuple(field.name for field in dataclasses.fields(Fitted) if field.name != "known")


def saved_size(size: AutoSize) -> dict[str, Any]:
    """All but what `known` holds: that is most of the numbers, and follows from the mixtures."""
    if size.carried:
        raise InputError("this is a fit carried to a size that was not fitted; save the fit that it is of")
    if size.drawn:
        raise InputError("this is a draw of what a fit leaves open; save the fit that it is of")
    fields = {f.name: getattr(size, f.name) for f in dataclasses.fields(size) if f.name not in _NEVER}
    fields["fitted"] = [{f: getattr(one, f) for f in _KEPT} for one in size.fitted]
    if size.lent:
        fields["lent"] = {"size": saved_size(size.lent.size), "center": size.lent.center}
    return fields


def loaded_size(found: dict[str, Any]) -> AutoSize:
    """What `saved_size` gave, with `known` made anew."""
    names, mask = tuple(found["member_names"]), np.array(found["mask"], float)
    mixture = np.repeat(np.array(found["mixture"], float)[None], mask.shape[2], axis=0)
    fitted = []
    for member, one in zip(named_members(names), found["fitted"], strict=True):
        known = factored(noise_of(member), mixture, np.moveaxis(mask, -1, 0)).known
        fitted.append(Fitted(known=np.moveaxis(known, 0, -1), **{k: np.array(one[k], float) for k in _KEPT}))
    kept = [f.name for f in dataclasses.fields(AutoSize) if f.name not in _APART]
    arrays: dict[str, Any] = {name: np.array(found[name], float) for name in kept}
    return AutoSize(member_names=names, fitted=tuple(fitted), lent=_loaded_lent(found["lent"]), **arrays)


def _loaded_lent(found: dict[str, Any] | None) -> Lent | None:
    if found is None:
        return None
    return Lent(size=loaded_size(found["size"]), center=np.array(found["center"], float))
