"""Predicted losses of named mixtures, with what is extrapolated among them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bimixjax.fitting import FitResult
from bimixjax.observations import Budget
from bimixjax.optimization import OptimalMixture
from bimixjax.stacking import AutoFit

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """Losses that a fit predicts for n mixtures at one budget.

    Args:
        domains, mixtures: names; proportions [n, d] by the mixture's name.
        targets, losses: names; nats per token [n, t].
        extrapolated: whether each loss lies outside the fitted proportions or volumes [n, t].
        budget: the volume and the model size.
    """

    domains: tuple[str, ...]
    mixtures: Mapping[str, Floats]
    targets: tuple[str, ...]
    losses: Floats
    extrapolated: NDArray[np.bool_]
    budget: Budget

    @classmethod
    def of(cls, fit: FitResult | AutoFit, mixtures: Mapping[str, Floats], budget: Budget) -> Self:
        """Ask a fit for the losses of mixtures over its domains."""
        r, volume, size = np.stack(list(mixtures.values())), budget.volume, budget.model_size
        return cls(
            domains=fit.domains,
            mixtures=mixtures,
            targets=fit.targets,
            losses=np.asarray(fit.predict(r, volume, model_size=size)),
            extrapolated=np.asarray(fit.extrapolates(r, volume, model_size=size)),
            budget=Budget(volume=volume, unit=fit.volume_unit, model_size=size),
        )

    def beside(self, best: OptimalMixture, fit: FitResult | AutoFit) -> Self:
        """The same, and for each mixture that the limits of a search do not allow the nearest one that they do."""
        outside = {name: r for name, r in self.mixtures.items() if not best.allows(r)}
        allowed = {f"{name}, nearest allowed": best.nearest(r) for name, r in outside.items()}
        return self.of(fit, {**self.mixtures, **allowed}, self.budget) if allowed else self

    def to_frame(self) -> pd.DataFrame:
        """One row per mixture: `run`, `mixture/<domain>`, `predicted/<target>`, `extrapolated/<target>`."""
        r = np.stack(list(self.mixtures.values()))
        columns: dict[str, object] = {"run": list(self.mixtures)}
        columns |= {f"mixture/{name}": r[:, i] for i, name in enumerate(self.domains)}
        columns |= {f"predicted/{name}": self.losses[:, i] for i, name in enumerate(self.targets)}
        columns |= {f"extrapolated/{name}": self.extrapolated[:, i] for i, name in enumerate(self.targets)}
        return pd.DataFrame(columns)
