"""Benchmarks: scripts that print a table and write JSON to `results/`, and choose the constants of the package.

Each runs as `python benchmarks/NAME.py` and as `python -m benchmarks.NAME`, from the root of the checkout:

    python benchmarks/searches.py --problems 2 --laws bimix joint
"""

import sys
from pathlib import Path

# A script finds its neighbors, such as `_report`, in its own folder; as a module of this package it finds them here.
sys.path.append(str(Path(__file__).resolve().parent))
