"""Runs from anyone's logs in, mixtures for anyone's trainer out.

In: `importing` reads files of the `kinds` that are known, joins them (`joining`) and returns observations.

- `naming`, `rules`: what the columns of a foreign table mean, such as `eval/*/loss` -> `loss/*`.
- `tables`, `wandb`, `logs`, `tensorboard`, `trackio`, `harness`: readers, each from a path to `parts`; `objects`: JSON.
- `parts`: one file that was read, and its numbers under their roles. `shares`: shares of tokens from what was given.

Out: `exports` writes a mixture as the file of one of the `trainers`, and `audits` says what that makes of a file.

- `trainers`: how each reads and writes, what numbers it takes and which shares it draws by them.
- `recipe`: what any such file says. `apportionment`: whole parts for shares. `lengths`: tokens for documents.

Nothing here needs JAX. Words: a *kind* is a format of runs or of a trainer's mixture; a *role* is what a column of a
foreign table is: a run's id, a share, a loss.

    >>> import pandas as pd
    >>> from bimixjax.interchange import import_runs
    >>> pd.DataFrame({"run_id": ["a", "b"], "web": [0.8, 0.4], "code": [0.2, 0.6]}).to_csv("ratios.csv", index=False)
    >>> pd.DataFrame({"run_id": ["b", "a"], "arc": [1.4, 1.2]}).to_csv("metrics.csv", index=False)
    >>> found = import_runs(["ratios.csv", "metrics.csv"])
    >>> found.observations.proportions.tolist(), found.observations.losses.ravel().tolist()
    ([[0.4, 0.6], [0.8, 0.2]], [1.4, 1.2])
"""

from bimixjax.interchange.audits import Audit as Audit, lint as lint
from bimixjax.interchange.exports import (
    Data as Data,
    Exported as Exported,
    export_mixture as export_mixture,
    read_mixture as read_mixture,
)
from bimixjax.interchange.importing import Imported as Imported, import_runs as import_runs
from bimixjax.interchange.kinds import KINDS as KINDS
from bimixjax.interchange.recipe import Training as Training
