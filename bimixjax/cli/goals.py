"""Values of options that say what a mixture should be best for, and over what it is swept."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from bimixjax._base.checks import InputError
from bimixjax.cli.options import number, numbers, whole

if TYPE_CHECKING:
    import numpy as np

    from bimixjax.optimization.goals import Goal, Mixture

_KINDS = ("mean", "worst", "excess", "risk", "quantile", "average")
_WITH_NUMBER = ("risk", "quantile", "average")
_POINTS = 33
_ALLOWED = "mean, worst, excess, risk:KAPPA such as risk:1, quantile:LEVEL such as quantile:0.9, average:TOLERANCE"


def goal(text: str, guard: Iterable[str], reference: "Mixture") -> "Goal":
    """Turn `worst`, `excess`, `risk:1`, `quantile:0.9` or `average:0.001`, and guarded targets, into an objective.

    Raises:
        InputError: for another word, a number that is missing or not wanted, or guardrails that the kind does not take.

    Example:
        >>> goal("worst", ["code=0.01"], {"code": 0.5, "web": 0.5}).allowed
        {'code': 0.01}
        >>> goal("risk:0.5", [], {}).kappa
        0.5
    """
    from bimixjax.optimization import Excess, Guarded, NearOptimal, RiskAverse, WeightedMean, WorstTarget

    kind, colon, size = text.partition(":")
    if kind not in _KINDS or bool(colon) != (kind in _WITH_NUMBER):
        raise InputError(f"--objective is {text!r}; allowed: {_ALLOWED}")
    allowed = numbers("guard", guard)
    if kind in _WITH_NUMBER:
        if allowed:
            raise InputError(f"--guard goes with --objective mean, worst or excess; got {text!r}")
        value = number("objective", size)
        if kind == "average":
            return NearOptimal(value)
        return RiskAverse(value) if kind == "risk" else RiskAverse(quantile=value)
    of = {"mean": WeightedMean(), "worst": WorstTarget(), "excess": Excess(reference)}[kind]
    return Guarded(of, allowed=allowed, reference=reference) if allowed else of


def reference_mixture(text: str | None, mixtures: "Mapping[str, np.ndarray]") -> "Mixture":
    """Turn `natural` or another baseline, or `web=0.5,code=0.5`, into a mixture; by default natural, else uniform.

    Raises:
        InputError: for a name that is none of the baselines.

    Example:
        >>> reference_mixture(None, {"uniform": [0.5, 0.5]})
        [0.5, 0.5]
    """
    if text is None:
        return mixtures.get("natural", mixtures["uniform"])
    if "=" in text:
        return numbers("reference", [text])
    if text not in mixtures:
        raise InputError(f"--reference is {text!r}; allowed: {', '.join(mixtures)}, or NAME=NUMBER,...")
    return mixtures[text]


def swept(text: str) -> tuple[str, list[float]]:
    """Turn `train-tokens=1e9..1e13` into what is swept, and its values: 33 of them, with one ratio between neighbours.

    Raises:
        InputError: for another name, or numbers that are no range.

    Example:
        >>> kind, values = swept("volume=1k..1M:4")
        >>> kind, [round(value) for value in values]
        ('volume', [1000, 10000, 100000, 1000000])
    """
    name, equals, ends = text.partition("=")
    span, colon, points = ends.partition(":")
    low, between, high = span.partition("..")
    allowed = (
        "allowed: train-tokens, volume or model-size, as in train-tokens=1e9..1e13 or volume=1k..64k:9 for 9 points"
    )
    if name not in ("train-tokens", "volume", "model-size") or not equals or not between:
        raise InputError(f"--sweep is {text!r}; {allowed}")
    first, last = number("sweep", low), number("sweep", high)
    count = whole("sweep", points) if colon else _POINTS
    if not 0 < first < last or count < 2:
        raise InputError(f"--sweep is {text!r}: from {first:g} to {last:g} in {count} points; {allowed}")
    return name, [first * (last / first) ** (k / (count - 1)) for k in range(count)]
