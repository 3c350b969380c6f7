"""Which runs to train next.

- `plans`: `plan`. `result`: `Plan`, what it returns. `space`: the mixtures to choose among.
- `beginning`: the first runs, from nothing. `process`, `improvement`: the next ones, by a Gaussian process over a table
  of losses. `drawn`: the next ones, by draws of a fit. `measured`: what a table says at its end.

    >>> import bimixjax
    >>> len(bimixjax.plan(domains=["code", "web"], runs=3))
    3
"""

from bimixjax.planning.plans import plan as plan
from bimixjax.planning.result import Plan as Plan
