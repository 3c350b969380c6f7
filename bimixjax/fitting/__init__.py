"""One law fitted to a table: every target at once, in one compiled program.

- `lanes`: the table as *lanes*, one per target (and model size), on arrays of one shape with masks for what is absent.
- `problem`: the least squares of a lane, from the starts that a law gives. `batch`: the compiled fit of many lanes.
- `views`: what is kept of solved lanes. `devices`: lanes over cores and devices, in float64 or float32.
- `criterion`: relative or absolute residuals, squared or Huber's.
- `folds`, `resamples`: the same rows with other weights.
- `diagnostics`, `outliers`: what the rows identify, which of them do not fit, and sentences that say so.
- `coverage`, `constant`: what the rows tell of mixtures and volumes, and whether a law says more than a constant.
- `result`, `resampling`: what a user gets; `base` is what a fit of any kind can be asked, and `points` where.
  `files`: what is saved.
- `refit`: a fit as a function of its losses, differentiable, and how much it hangs on each run.
- `one_law`: `fit`, `fit_folds` and `bootstrap`, which put these together. `bimixjax.fit` takes `auto` too.

    >>> import bimixjax, pandas as pd
    >>> table = {"run": ["a", "b"], "mixture/x": [0.25, 1.0], "mixture/y": [0.75, 0.0], "loss/x": [4.0, 2.0]}
    >>> found = bimixjax.fitting.fit("bimix", bimixjax.Observations.from_frame(pd.DataFrame(table)), priors=False)
    >>> round(float(found.coefficients["alpha"][0]), 6)
    0.5
"""

from bimixjax.fitting.criterion import Criterion as Criterion
from bimixjax.fitting.folds import FoldFits as FoldFits
from bimixjax.fitting.one_law import bootstrap as bootstrap, fit as fit, fit_folds as fit_folds
from bimixjax.fitting.refit import Refit as Refit, refit as refit
from bimixjax.fitting.resampling import Resampled as Resampled
from bimixjax.fitting.result import FitResult as FitResult
