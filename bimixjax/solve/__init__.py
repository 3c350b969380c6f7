"""Solvers: they see functions and arrays, never laws."""

from bimixjax.solve.inference import Inference as Inference
from bimixjax.solve.inference import infer as infer
from bimixjax.solve.lbfgs import LBFGS as LBFGS
from bimixjax.solve.linear import IN_LANES as IN_LANES
from bimixjax.solve.linear import UNROLLED as UNROLLED
from bimixjax.solve.precision import Precision as Precision
from bimixjax.solve.product import Product as Product
from bimixjax.solve.projection import Projection as Projection
from bimixjax.solve.separable import Problem as Problem
from bimixjax.solve.separable import Quadratic as Quadratic
from bimixjax.solve.separable import Separated as Separated
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
from bimixjax.solve.varpro import VarPro as VarPro
