"""What a mixture should be best for, as small objects that are put together.

`optimize(fit, objective=...)` takes one of them. L_t is the predicted loss of target t, w_t its weight, and several
budgets count as that many losses of each target.

    >>> Guarded(WorstTarget(), allowed={"code": 0.01})
    Guarded(of=WorstTarget(), allowed={'code': 0.01}, reference=None)
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from numpy.typing import ArrayLike

from bimixjax._base.checks import InputError, not_negative, positive
from bimixjax.fitting.resampling import Resamples

# A mixture, by domain or in the order of a fit's domains.
Mixture = Mapping[str, float] | ArrayLike


@dataclass(frozen=True)
class WeightedMean:
    """The weighted mean of losses, sum_t w_t L_t; of several budgets, the mean over them.

    Example:
        >>> WeightedMean()
        WeightedMean()
    """


@dataclass(frozen=True)
class WorstTarget:
    """The worst loss, max_t w_t L_t over the targets with weight, with the weights over the largest of them.

    Example:
        >>> WorstTarget()
        WorstTarget()
    """


@dataclass(frozen=True)
class Excess:
    """The worst excess of a loss over that of a reference mixture, max_t w_t (L_t(r) - L_t(reference)).

    The mean of such differences has the same best mixture as the mean of the losses.

    Attributes:
        reference: a mixture, such as the natural one.

    Raises:
        InputError: when the search begins, where it is no mixture of the fit's domains.

    Example:
        >>> Excess({"web": 0.7, "code": 0.3}).reference
        {'web': 0.7, 'code': 0.3}
    """

    reference: Mixture


@dataclass(frozen=True)
class Guarded:
    """Another objective with guardrails: no named target may lose more than so much against a reference mixture.

    minimize `of` subject to L_t(r) <= L_t(reference) + allowed_t, at every budget

    Attributes:
        of: what is minimized.
        allowed: by how much a loss may be higher than at the reference, in nats per token, by target.
        reference: a mixture; by default the uniform one.

    Raises:
        InputError: for no target, or a number that is not 0 or above.

    Example:
        >>> Guarded(allowed={"code": 0.01}).of
        WeightedMean()
    """

    of: "WeightedMean | WorstTarget | Excess" = field(default_factory=WeightedMean)
    allowed: Mapping[str, float] = field(default_factory=dict)
    reference: Mixture | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.of, WeightedMean | WorstTarget | Excess):
            allowed = "WeightedMean, WorstTarget or Excess"
            raise InputError(f"guardrails are of {type(self.of).__name__}; allowed: {allowed}")
        if not self.allowed:
            raise InputError("no target is guarded; allowed: how much worse it may be, by target")
        for target, most in self.allowed.items():
            not_negative(f"what is allowed of {target!r}", most)


@dataclass(frozen=True)
class RiskAverse:
    """What the weighted mean of losses may be by what the fit leaves open: the mean and a margin, or a quantile.

    J + kappa sd(J), or the k-th least of B draws of J with k = ceil(quantile B)

    Attributes:
        kappa: how many standard deviations; 1 keeps to mixtures that are good in most cases.
        draws: of the fit, as `sample` or `bootstrap` give them; by default a fit of `auto` states its own deviation, or
            quantile.
        quantile: in place of kappa, the part of the draws that J is not above: .9 looks at the best nine in ten.

    Raises:
        InputError: where kappa is not a number of 0 or above, or the quantile not one from .5 to below 1.

    Example:
        >>> RiskAverse(kappa=0.5).draws is None
        True
        >>> RiskAverse(quantile=0.9).quantile
        0.9
    """

    kappa: float = 1.0
    draws: Resamples | None = None
    quantile: float | None = None

    def __post_init__(self) -> None:
        not_negative("kappa", self.kappa)
        if self.quantile is not None and not 0.5 <= self.quantile < 1:
            raise InputError(f"quantile is {self.quantile:g}; allowed: 0.5 to below 1")


@dataclass(frozen=True)
class NearOptimal:
    """The average of the mixtures whose weighted mean of losses is within a tolerance of the least one.

    All mixtures r within the limits with J(r) <= (1 + tolerance) min J count the same. Where a law is wrong, the middle
    of what it likes is often better than what it likes best.

    Attributes:
        tolerance: as a share of the objective; .001 is .1 %.
        seed: of the random walks that find the set.

    Raises:
        InputError: where the tolerance is not above 0.

    Example:
        >>> NearOptimal(0.002).tolerance
        0.002
    """

    tolerance: float = 0.001
    seed: int = 0

    def __post_init__(self) -> None:
        positive("tolerance", self.tolerance)


Goal = WeightedMean | WorstTarget | Excess | Guarded | RiskAverse | NearOptimal
