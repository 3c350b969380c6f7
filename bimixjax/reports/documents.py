"""Results as plain nested dictionaries, for machines: what `--json` prints."""

from typing import Any

import numpy as np

from bimixjax._base.records import to_plain
from bimixjax.estimation import AutoFit
from bimixjax.fitting import FitResult
from bimixjax.fitting.extrapolation import Extrapolation
from bimixjax.optimization import OptimalMixture, OptimalResamples
from bimixjax.reports.lanes import sizes_apart
from bimixjax.reports.predictions import Predictions, Scores
from bimixjax.reports.spread import DRAWS, LEVEL, Spread


def fitted(result: FitResult | AutoFit) -> dict[str, Any]:
    """Describe a fit: for each lane the coefficients of its law, or the weights of the members of `auto`."""
    averaged = isinstance(result, AutoFit)
    names = [(target, size) for size in sizes_apart(result) for target in result.targets]
    lanes = [_lane_of_auto(result, i) if isinstance(result, AutoFit) else _lane(result, i) for i in range(len(names))]
    return {
        "law": "auto" if averaged else result.law.name,
        **({} if averaged else {"gauge": dict(result.law.gauge)}),
        "volume_unit": result.volume_unit,
        "model_sizes": result.model_sizes,
        "domains": result.domains,
        "lanes": [{"target": t, "model_size": size, **lane} for (t, size), lane in zip(names, lanes, strict=True)],
        "notes": result.notes,
    }


def _lane_of_auto(result: AutoFit, lane: int) -> dict[str, Any]:
    return {
        "weights": {name: np.ravel(weight)[lane] for name, weight in result.members.items()},
        "rows": np.ravel(result.rows)[lane],
        "left_out_error": np.ravel(result.left_out_error)[lane],
        "status": result.sentences[lane],
    }


def _lane(result: FitResult, lane: int) -> dict[str, Any]:
    errors = result.standard_errors
    coefficients = {
        name: {"value": np.ravel(values)[lane], "standard_error": np.ravel(errors[name])[lane]}
        for name, values in result.coefficients.items()
    }
    return {
        "coefficients": coefficients,
        "converged": result.converged[lane],
        "status": result.sentences[lane],
        "rows": result.rows[lane],
        "rows_missing": result.missing[lane],
        "rows_of_zero_proportion": result.zero[lane],
        "mean_relative_error": result.error[lane],
        "r2": result.r2[lane],
        "residual_scale": result.residual_scale[lane],
    }


def spread(shown: Spread) -> dict[str, Any]:
    """Return the standard deviations of predictions and coefficients over resamples or draws."""
    found = shown.found
    return {
        "of": shown.source,
        "count": len(found),
        "predictions": [
            {"target": target, "model_size": size, "relative_standard_deviation": shown.predictions[i, t]}
            for i, size in enumerate(shown.model_sizes)
            for t, target in enumerate(found.fit.targets)
        ],
        "standard_errors": found.standard_errors,
    }


def predictions(predicted: Predictions) -> list[dict[str, Any]]:
    """Describe each mixture: its name, proportions and budget, the losses with their limits, and what extrapolates."""
    targets = np.array(predicted.targets)
    known = {kind: getattr(predicted, kind) for kind in ("losses", "lower", "upper", "measured")}
    known = {kind: values for kind, values in known.items() if kind == "losses" or not np.isnan(values).all()}
    return [
        {
            "run": predicted.names[i],
            "mixture": dict(zip(predicted.domains, predicted.proportions[i], strict=True)),
            "budget": predicted.budgets[i],
            **{kind: dict(zip(predicted.targets, values[i], strict=True)) for kind, values in known.items()},
            "extrapolated": targets[predicted.extrapolated[i]],
            "from_prior": targets[predicted.from_prior[i]],
            "outside": [outside(one) for one in predicted.outside[i]],
        }
        for i in range(len(predicted.names))
    ]


def outside(one: Extrapolation) -> dict[str, Any]:
    """Describe one way in which a prediction extrapolates, in words and numbers."""
    return {"words": str(one), **to_plain(one)}


def scores(found: Scores | None) -> dict[str, Any] | None:
    """Describe how well predictions meet what was measured: by target, and the order of mixtures."""
    if found is None:
        return None
    by_target = {"rows": found.rows, "silent": found.silent, "mean_relative_error": found.error, "r2": found.r2}
    by_target |= {"coverage": found.coverage}
    return {
        "targets": [
            {"target": target, **{name: values[i] for name, values in by_target.items()}}
            for i, target in enumerate(found.targets)
        ],
        "rank_correlation_of_the_mean": found.rank,
        "mixtures_ranked": found.ranked,
    }


def optimum(best: OptimalMixture, baselines: Predictions, draws: OptimalResamples | None = None) -> dict[str, Any]:
    """Describe the mixture found, the baselines with their predicted losses, and the spread over draws."""
    beside = [
        {**one, "within_limits": best.allows(mixture)}
        for one, mixture in zip(predictions(baselines), baselines.mixtures.values(), strict=True)
    ]
    document = {**to_plain(best), "mixture": best.as_dict(), "fixed": best.fixed, "baselines": beside}
    document |= {"from_prior": best.from_prior, "outside": [outside(one) for one in best.outside]}
    if draws:
        lower, upper = (dict(zip(best.domains, limit, strict=True)) for limit in draws.interval(level=LEVEL))
        document["spread"] = {
            "of": DRAWS,
            "count": len(draws.regret),
            "converged": np.sum(draws.converged),
            "level": LEVEL,
            "lower": lower,
            "upper": upper,
            "expected_regret": draws.expected_regret,
            "regret_limit": draws.regret_limit(level=LEVEL),
        }
    return document
