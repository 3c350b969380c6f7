"""The array of a record: NumPy as it is stored, JAX while a transformation looks at it."""

import numpy as np
from jax import Array

Stored = Array | np.ndarray
