"""How a prediction lies outside what was fitted, in numbers and in words."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float

# A volume this many times below or above all fitted ones is more likely given in another unit: tokens for steps.
_FAR_BELOW, _FAR_ABOVE = 100, 1000

# Numbers that differ by less, in proportion, are the same.
ROUNDING = 1e-9


@dataclass(frozen=True, kw_only=True)
class Extrapolation:
    """One way in which a prediction lies outside what was fitted.

    Attributes:
        kind: of what: the share of a domain, how often its tokens are gone through, the volume or the model size.
        name: the domain; the unit of volume; the law that extrapolates to the model size, if one does.
        asked, fitted: the number asked for, and the nearest one fitted.
        several: whether others were fitted too; of epochs, whether any were repeated.
        targets: whose predictions it concerns.
        from_prior: whether no observation constrains the answer, so that it is that of the priors.
    """

    kind: Literal["share", "epochs", "volume", "model size"]
    name: str
    asked: float
    fitted: float
    several: bool
    targets: tuple[str, ...]
    from_prior: bool

    def __str__(self) -> str:
        """Describe it in words, as `web 0.5 above the 0.4 fitted`."""
        if self.kind == "share":
            # As many digits as the two numbers need to differ, three at least.
            pairs = ((f"{self.asked:.{n}g}", f"{self.fitted:.{n}g}") for n in range(3, 18))
            asked, fitted = next((pair for pair in pairs if pair[0] != pair[1]), (repr(self.asked), repr(self.fitted)))
            if not self.several:
                return f"{self.name} {asked}, where only {fitted} was fitted"
            return f"{self.name} {asked} {'above' if self.asked > self.fitted else 'below'} the {fitted} fitted"
        if self.kind == "epochs":
            fitted = f"above the {self.fitted:.3g} fitted" if self.several else "where nothing fitted was repeated"
            return f"{self.asked:.3g} epochs of {self.name}{' ' if self.several else ', '}{fitted}"
        end = "only one" if not self.several else "largest" if self.asked > self.fitted else "least"
        if self.kind == "volume":
            return f"volume {self.asked / self.fitted:.3g} x the {end} fitted, {self.fitted:g} {self.name}"
        if self.name:
            return f"model size {self.asked:g} was not fitted; carried there from {self.fitted:g} by {self.name}"
        return f"model size {self.asked / self.fitted:.3g} x the {end} fitted, {self.fitted:g}"


def alike(
    outside: Bool[np.ndarray, " L"], nearest: Float[np.ndarray, " L"], flag: Bool[np.ndarray, " L"]
) -> Iterator[tuple[list[int], float, bool]]:
    """Group the lanes that a number lies outside of, by the nearest fitted one and a flag."""
    for end, state in sorted(set(zip(nearest[outside].tolist(), flag[outside].tolist(), strict=True))):
        yield np.flatnonzero(outside & (nearest == end) & (flag == state)).tolist(), end, state


def outside_of(value: Any, low: Any, high: Any) -> Any:
    """Say whether values lie outside ranges, by more than rounding."""
    return (value < low * (1 - ROUNDING)) | (value > high * (1 + ROUNDING))


def far(value: Any, low: Any, high: Any) -> Any:
    """Say whether volumes lie so far from those fitted that they are more likely given in another unit."""
    return (value * _FAR_BELOW < low) | (value > _FAR_ABOVE * high)
