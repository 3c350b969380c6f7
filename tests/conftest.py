"""What every test needs before anything imports JAX - fake devices, fast compilation - and fixtures that many share."""

import atexit
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

FLAGS = ["--xla_force_host_platform_device_count=8"]
# Tests compile much more than they compute, and compile faster with these. They are not what users run with.
FLAGS += ["--xla_backend_optimization_level=0"]
if version("jaxlib").startswith("0.10."):
    # A flag that JAX does not know ends the process; 0.12 does not know this one.
    FLAGS += ["--xla_cpu_use_fusion_emitters=false"]
given = os.environ.get("XLA_FLAGS", "")
os.environ["XLA_FLAGS"] = " ".join([*(flag for flag in FLAGS if flag not in given), given]).strip()
os.environ.setdefault("JAX_PLATFORMS", "cpu")

# What one worker, or a process that a test starts, has compiled, the others read. Workers inherit the folder.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="bimixjax-compiled-")
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"
    atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)

import pytest  # noqa: E402 - JAX reads the environment when a pytest plugin or a test imports it

if TYPE_CHECKING:
    from bimixjax import FitResult, Observations
    from bimixjax.corpus import TokenStore
    from bimixjax.loop.workflow import LoopConfig, LoopResult


# A process may map so much of its memory only (65,530 parts by default on Linux), and a compiled program takes several.
MANY_MAPS = 20_000


@pytest.fixture(autouse=True, scope="module")
def compiled_programs_are_released() -> Iterator[None]:
    """A worker that has compiled very many programs lets them go after a file of tests; the disk still has them."""
    yield
    maps, jax = Path("/proc/self/maps"), sys.modules.get("jax")
    if jax is not None and maps.exists() and len(maps.read_bytes().splitlines()) > MANY_MAPS:
        jax.clear_caches()


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


@pytest.fixture(scope="session")
def tiny_store(tmp_path_factory: pytest.TempPathFactory) -> "TokenStore":
    """Three domains, each a noisy cycle through the tokens of its own."""
    import numpy as np

    from bimixjax.corpus import TokenStore

    def cycle(domain: int, length: int, seed: int) -> np.ndarray:
        random = np.random.default_rng([domain, seed])
        jumps = np.cumsum(random.integers(0, 16, length) * (random.random(length) < 0.1 + 0.1 * domain))
        return np.random.default_rng(domain).permutation(16)[(np.arange(length) + jumps) % 16]

    tokens = {name: (cycle(i, 2000 + 1000 * i, 0), cycle(i, 600, 1)) for i, name in enumerate(("a", "b", "c"))}
    return TokenStore.write(tmp_path_factory.mktemp("store") / "tiny", tokens, vocab_size=16, tokenizer="cycles")


@pytest.fixture(scope="session")
def tiny_loop_config() -> "LoopConfig":
    """The whole loop with models that train in a second."""
    from bimixjax.loop.designs import Spread
    from bimixjax.loop.workflow import LoopConfig
    from bimixjax.proxy import ModelConfig, SwarmConfig, TrainConfig

    model = ModelConfig(vocab=16, layers=1, width=16, heads=2, context=16)
    train = TrainConfig(model=model, batch=4, learning_rate=1e-2, warmup=4, base_width=None)
    swarm = SwarmConfig(train=train, steps=60, eval_steps=(15, 24, 38, 60), eval_windows=16, checkpoint_every=20)
    return LoopConfig(law="bimix", swarm=swarm, spread=Spread(count=5), held_out=1, rivals=(), proof_seeds=(1, 2))


@pytest.fixture(scope="session")
def tiny_loop(
    tiny_store: "TokenStore", tiny_loop_config: "LoopConfig", tmp_path_factory: pytest.TempPathFactory
) -> "LoopResult":
    """What the whole loop finds on three tiny domains."""
    from bimixjax.loop.workflow import run_loop

    return run_loop(tmp_path_factory.mktemp("loop") / "whole", tiny_loop_config, store=tiny_store)
