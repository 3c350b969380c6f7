"""The table of measured losses: what is read, checked, selected and written.

- `cells`: a file as a table of cells, each knowing its place; errors name file, row, column and run.
- `columns`: what each column means, and rules across rows: one mixture per run, one row per run and volume.
- `table`: `Observations`, the checked table, and `Budget`, the volume and model size at which a mixture is judged.
- `inventory`: `Inventory`, the unique tokens of each domain, which make epochs of a share.

Words: a *run* is one training, a *row* one of its checkpoints; *volume* is steps or tokens; a *target* is something
whose loss is measured, and is a *domain's own* where it bears that domain's name.

    >>> import pandas as pd
    >>> from bimixjax.observations import Observations
    >>> table = {"run": ["a", "b"], "mixture/web": [0.8, 0.4], "mixture/code": [0.2, 0.6], "loss/web": [3.1, 3.4]}
    >>> Observations.from_frame(pd.DataFrame(table)).own_targets
    ('web',)
"""

from bimixjax.observations.inventory import Inventory as Inventory, Unique as Unique
from bimixjax.observations.table import UNITS as UNITS, Budget as Budget, Observations as Observations, Unit as Unit
