"""Laws judged on what they were not fitted to: the same runs, volumes or model sizes for all of them.

- `rows`, `schemes`: a table's rows, and which of them are held out. `judge`: `compare`, which fits every law in every
  fold. `table`: `Comparison`, what comes of it.
- `choices`: what would be chosen without a law.
- `scores`: errors, ranks and paired differences, where a prediction that is not finite counts as a failure.
- `intervals`: limits from errors on held-out rows. `trust`: words of caution where a score means little.

    >>> import bimixjax
    >>> bimixjax.comparison.LaterVolumes(cuts=(0.5,)).cuts
    (0.5,)
"""

from bimixjax.comparison.judge import compare as compare
from bimixjax.comparison.schemes import (
    ChosenRuns as ChosenRuns,
    LargerSizes as LargerSizes,
    LaterVolumes as LaterVolumes,
    LeaveOneRunOut as LeaveOneRunOut,
    RunDesigns as RunDesigns,
    RunParts as RunParts,
)
from bimixjax.comparison.table import Comparison as Comparison
