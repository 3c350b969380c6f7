"""How other tools choose a mixture from the same runs, to stand beside the laws: what is theirs, in few lines each."""

from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.optimize import minimize

from bimixjax._base.checks import InputError
from bimixjax.optimization.evaluation import gradients_at, values_at
from bimixjax.optimization.objectives import Objective
from bimixjax.solve import NEAR, Region

# Olmix's weight of KL(r || natural), see the source of `nearby_optimum`.
PULL = 0.05
# Where logarithms begin: a share of less is 0.
_SMALL = 1e-9

# RegMix's settings of LightGBM. It stops early on runs that it does not fit; of few runs none are left for that, so
# that all rounds are run, with leaves small enough for a tree to split at all.
_TREES = {"learning_rate": 0.01, "verbosity": -1, "seed": 42, "num_threads": 1}
_ROUNDS, _LARGEST_LEAF, _LEAVES = 1000, 20, 12
# Mixtures drawn, and how many of the best are averaged.
_DRAWN, _AVERAGED = 100_000, 100


def nearby_optimum(goal: Objective, region: Region, natural: Float[np.ndarray, " d"]) -> Float[np.ndarray, " d"]:
    """Find the mixture r of least weighted mean of losses with a pull to the natural mixture p.

    minimize sum_t w_t L_t(r) + .05 KL(r || p) within limits, which is convex for the log-linear law

    Raises:
        InputError: for limits of a distance, or where the search ends without an optimum.

    Source: arXiv 2602.12237, and allenai/olmix, olmix/fit/utils.py (4750750b), where a convex solver does the same.
    """
    if region.ball is not None or region.hull is not None:
        raise InputError("the log-linear law with its own pull takes no limit of a distance; leave that method out")
    p = np.maximum(natural, _SMALL)

    def value(r: np.ndarray) -> tuple[float, np.ndarray]:
        r = np.maximum(r, _SMALL)
        pull, slope = (r * np.log(r / p)).sum(), np.log(r / p) + 1
        return values_at(goal, r[None])[0] + PULL * pull, gradients_at(goal, r[None])[0] + PULL * slope

    limits: list[dict[str, Any]] = [{"type": "eq", "fun": lambda r: r.sum() - 1, "jac": np.ones_like}]
    if region.grouped:
        member = (region.group == np.arange(len(region.least))[:, None]).astype(float)
        rows = np.concatenate([member[np.isfinite(region.least)], -member[np.isfinite(region.most)]])
        ends = np.concatenate([region.least[np.isfinite(region.least)], -region.most[np.isfinite(region.most)]])
        limits.append({"type": "ineq", "fun": lambda r: rows @ r - ends, "jac": lambda r: rows})
    bounds = list(zip(region.lower.tolist(), region.upper.tolist(), strict=True))
    options = {"maxiter": 1000, "ftol": 1e-13}
    start = region.nearest(natural)
    found = minimize(value, start, jac=True, bounds=bounds, constraints=limits, method="SLSQP", options=options)
    if not found.success:
        raise InputError(f"the log-linear law with its pull has no optimum that SLSQP finds: {found.message}")
    return region.nearest(np.where(found.x < 2 * _SMALL, 0.0, found.x))


def averaged_by_trees(
    proportions: Float[np.ndarray, "n d"],
    losses: Float[np.ndarray, "n t"],
    weights: Float[np.ndarray, " t"],
    region: Region,
    natural: Float[np.ndarray, " d"],
    seed: int,
) -> tuple[Float[np.ndarray, " d"], Float[np.ndarray, " t"]]:
    """Average the 100 best of 100,000 mixtures by gradient-boosted trees, one model for each target.

    Mixtures are drawn from a Dirichlet distribution whose parameters are the natural shares; those that break a limit
    are passed over.

    Returns:
        The mixture, and the losses that the trees predict there.

    Raises:
        InputError: where LightGBM is not installed, fewer than 100 of the mixtures keep to the limits, or the trees
            predict the same of all.

    Source: arXiv 2407.01492, and sail-sg/regmix, regression_fitting/regression.ipynb (1678465d).
    """
    try:
        import lightgbm
    except ImportError as error:
        raise InputError(
            "lightgbm is not installed; pip install 'bimixjax[trees]', or leave this method out"
        ) from error
    drawn = np.random.default_rng(seed).dirichlet(np.maximum(natural, 1e-6), _DRAWN)
    drawn = drawn[np.isfinite(drawn).all(1)]
    totals = region.totals(drawn)
    kept = ((drawn >= region.lower) & (drawn <= region.upper)).all(1)
    kept &= ((totals >= region.least) & (totals <= region.most)).all(1) if region.grouped else True
    kept &= region.ball.of(drawn) <= region.ball.radius if region.ball is not None else True
    drawn = drawn[kept]
    if region.hull is not None:
        drawn = drawn[[region.hull.missed(each) <= NEAR for each in drawn]]
    if len(drawn) < _AVERAGED:
        got = f"{len(drawn)} of {_DRAWN} mixtures drawn about the natural one keep to the limits"
        raise InputError(f"{got}; allowed: at least {_AVERAGED} to average; widen the limits, or leave lightgbm out")
    leaf = max(2, min(_LARGEST_LEAF, len(losses) // _LEAVES))
    settings = {**_TREES, "min_data_in_leaf": leaf, "min_data_in_bin": min(3, leaf)}
    models = [
        lightgbm.train(settings, lightgbm.Dataset(proportions, column, params=settings), _ROUNDS) for column in losses.T
    ]
    predicted = np.stack([np.asarray(model.predict(drawn)) for model in models], axis=1) @ weights
    if np.ptp(predicted) == 0:
        raise InputError(f"trees of {len(losses)} runs tell no mixtures apart; train more runs, or leave lightgbm out")
    mixture = drawn[np.argsort(predicted, kind="stable")[:_AVERAGED]].mean(0)
    mixture = mixture / mixture.sum()
    return mixture, np.array([float(np.asarray(model.predict(mixture[None]))[0]) for model in models])
