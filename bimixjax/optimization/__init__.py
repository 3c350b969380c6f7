"""The mixture of least predicted loss within limits, with a certificate, and how sure it is.

- `objectives`: the weighted mean of predicted losses at a budget, as a function of the mixture.
- `limits`: what a mixture must keep to.
- `search`: many mixtures are looked at, the best followed to stationary points.
- `optimum`: `optimize`, by the exact dual where a law allows, else by that search.
- `goals`: what else a mixture may be best for: the worst target, guardrails, risk, the average of what is nearly best.
  `composed` searches for it, with `epigraph`, `risk` and `near_optimal`; `losses` is what these read.
- `baselines`: mixtures that need no law, to stand beside it.
- `implicit`: an optimum with its derivatives.
- `worth`: what a mixture gains over those that need no law, and how flat the objective is about it.
- `sweeps`: the best mixture as a function of volume or model size, and the Pareto front of two targets.
- `resamples`: `optimize_resamples`, the choice made again in every resample of the runs.

    >>> import bimixjax, pandas as pd
    >>> table = {"run": ["a", "b"], "mixture/x": [0.25, 0.5], "mixture/y": [0.75, 0.5]}
    >>> table |= {"loss/x": [4.0, 8.0**0.5], "loss/y": [4 / 3**0.5, 8.0**0.5]}
    >>> fit = bimixjax.fit("bimix", bimixjax.Observations.from_frame(pd.DataFrame(table)), priors=False)
    >>> bimixjax.optimize(fit).proportions.round(6).tolist()
    [0.5, 0.5]
"""

from bimixjax.optimization.answer import OptimalMixture as OptimalMixture
from bimixjax.optimization.baselines import Baselines as Baselines
from bimixjax.optimization.goals import (
    Excess as Excess,
    Guarded as Guarded,
    NearOptimal as NearOptimal,
    RiskAverse as RiskAverse,
    WeightedMean as WeightedMean,
    WorstTarget as WorstTarget,
)
from bimixjax.optimization.implicit import differentiable_optimum as differentiable_optimum
from bimixjax.optimization.limits import Limits as Limits
from bimixjax.optimization.objectives import Objective as Objective, objective as objective
from bimixjax.optimization.optimum import optimize as optimize
from bimixjax.optimization.resamples import (
    OptimalResamples as OptimalResamples,
    optimize_resamples as optimize_resamples,
)
from bimixjax.optimization.sweeps import Sweep as Sweep, pareto as pareto, sweep as sweep
from bimixjax.optimization.worth import Worth as Worth
