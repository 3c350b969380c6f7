"""Solvers: they see functions and arrays, never laws.

Of least squares, many small problems (*lanes*) side by side on the last axis:

- `separable`: the linear unknowns projected out. `terms`: problems whose predictions are sums of products.
- `varpro`: from starts to a solution of such problems, by the steps of `marquardt`. `lbfgs`: the same problems, and any
  smooth function, by the steps of `descent`.
- `linear`: linear algebra of many small matrices. `precision`: iterations in float32 or float64.
- `inference`: what the rows identify. `solution`: what every solver returns, and how each lane ended.

Of mixtures: `simplex`, by an exact dual or by descent, with certificates.

    >>> import jax, jax.numpy as jnp
    >>> from bimixjax.solve import LBFGS
    >>> with jax.enable_x64(True):
    ...     found = LBFGS().minimize(lambda x: jnp.sum((x - 3.0) ** 2), jnp.zeros(2))
    >>> found.point.round(6).tolist()
    [3.0, 3.0]
"""

from bimixjax.solve.inference import Inference as Inference
from bimixjax.solve.inference import infer as infer
from bimixjax.solve.lbfgs import LBFGS as LBFGS
from bimixjax.solve.linear import IN_LANES as IN_LANES
from bimixjax.solve.linear import UNROLLED as UNROLLED
from bimixjax.solve.precision import Precision as Precision
from bimixjax.solve.separable import Problem as Problem
from bimixjax.solve.separable import Starts as Starts
from bimixjax.solve.separable import along as along
from bimixjax.solve.separable import nonlinear_prior as nonlinear_prior
from bimixjax.solve.separable import products as products
from bimixjax.solve.separable import unit_directions as unit_directions
from bimixjax.solve.simplex import Certificate as Certificate
from bimixjax.solve.simplex import certify as certify
from bimixjax.solve.simplex import cheapest as cheapest
from bimixjax.solve.simplex import power_dual as power_dual
from bimixjax.solve.simplex import softmax_search as softmax_search
from bimixjax.solve.solution import Solution as Solution
from bimixjax.solve.solution import Status as Status
from bimixjax.solve.terms import Terms as Terms
from bimixjax.solve.varpro import Projection as Projection
from bimixjax.solve.varpro import VarPro as VarPro
