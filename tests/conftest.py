"""Eight fake CPU devices for every test, set before anything imports JAX, and the fixtures that many tests share."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

FAKE_DEVICES = "--xla_force_host_platform_device_count=8"
if FAKE_DEVICES not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {FAKE_DEVICES}".strip()
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import pytest  # noqa: E402 - JAX reads the environment when a pytest plugin or a test imports it

if TYPE_CHECKING:
    from bimixjax import FitResult, Observations


@pytest.fixture(scope="session")
def observations_folder() -> Path:
    """The public observation tables, which lie beside the project and are not part of it."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "observations"
    if not folder.is_dir():
        pytest.skip(f"public observation tables are not at {folder}")
    return folder


@pytest.fixture(scope="session")
def three_domains() -> "Observations":
    """Losses of three domains and of one that is none, from BiMix with noise: 7 runs x 6 volumes, two traps."""
    import numpy as np
    import pandas as pd

    from bimixjax import Observations

    noise = np.random.default_rng(0)
    mixtures = np.array([*noise.dirichlet([4.0, 4.0, 4.0], 6), [0.5, 0.5, 0.0]])
    rows = [(run, r, s) for run, r in enumerate(mixtures) for s in (1000, 2000, 4000, 8000, 16000, 32000)]
    own, s = np.array([r for _, r, _ in rows]), np.array([s for _, _, s in rows])
    with np.errstate(divide="ignore"):
        losses = own ** -np.array([0.05, 0.1, 0.2]) * (30 * s[:, None] ** -0.5 + np.array([3.0, 2.0, 1.0]))
    losses *= np.exp(0.002 * noise.standard_normal(losses.shape))
    losses[~np.isfinite(losses)] = 9.0
    losses[3, 1] = np.nan
    table = pd.DataFrame({"run": [f"r{run}" for run, _, _ in rows], "step": s})
    for i, name in enumerate(("web", "books", "code")):
        table[f"mixture/{name}"], table[f"loss/{name}"] = own[:, i], losses[:, i]
    return Observations.from_frame(table.assign(**{"loss/law": 4.0}))


@pytest.fixture(scope="session")
def three_domain_fit(three_domains: "Observations") -> "FitResult":
    """BiMix fitted to the table above."""
    import bimixjax

    return bimixjax.fit("bimix", three_domains)
