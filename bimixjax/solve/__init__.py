"""Solvers: they see functions and arrays, never laws.

Of least squares, many small problems (*lanes*) side by side on the last axis:

- `separable`: the linear unknowns projected out. `terms`: problems whose predictions are sums of products.
- `varpro`: from starts to a solution of such problems, by the steps of `marquardt`. `lbfgs`: the same problems, and any
  smooth function, by the steps of `descent`.
- `linear`: linear algebra of many small matrices. `precision`: iterations in float32 or float64.
- `inference`: what the rows identify. `solution`: what every solver returns, and how each lane ended.

Of mixtures: `region`, those that limits allow, and `hull`; `dual`, the best of them for sums of powers, exactly;
`simplex`, the best by descent; `newton`, the last digits of it; `certificate`, how far it is from optimal.

    >>> import jax, jax.numpy as jnp
    >>> from bimixjax.solve import LBFGS
    >>> with jax.enable_x64(True):
    ...     found = LBFGS().minimize(lambda x: jnp.sum((x - 3.0) ** 2), jnp.zeros(2))
    >>> found.point.round(6).tolist()
    [3.0, 3.0]
"""

from bimixjax.solve.certificate import Certificate as Certificate, certify as certify
from bimixjax.solve.dual import (
    group_totals as group_totals,
    power_dual as power_dual,
    power_dual_on_host as power_dual_on_host,
)
from bimixjax.solve.hull import KEPT as KEPT, Hull as Hull
from bimixjax.solve.inference import Inference as Inference, infer as infer
from bimixjax.solve.lbfgs import LBFGS as LBFGS
from bimixjax.solve.linear import IN_LANES as IN_LANES, UNROLLED as UNROLLED
from bimixjax.solve.newton import CERTIFIED as CERTIFIED, polish as polish
from bimixjax.solve.precision import Precision as Precision
from bimixjax.solve.region import LEAST_SHARE as LEAST_SHARE, NEAR as NEAR, Ball as Ball, Region as Region
from bimixjax.solve.separable import (
    Problem as Problem,
    Starts as Starts,
    along as along,
    nonlinear_prior as nonlinear_prior,
    products as products,
    unit_directions as unit_directions,
)
from bimixjax.solve.simplex import (
    softmax_search as softmax_search,
    softmax_search_on_host as softmax_search_on_host,
)
from bimixjax.solve.solution import Solution as Solution, Status as Status
from bimixjax.solve.terms import Terms as Terms
from bimixjax.solve.varpro import Projection as Projection, VarPro as VarPro
