"""Lanes spread over devices, processes and cores are solved as on one device."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pandas as pd
import pytest

from bimixjax import FitResult, Observations, fit
from bimixjax.fitting import devices as _devices, one_law

ROOT = Path(__file__).resolve().parents[2]
SIZES, DOMAINS, RUNS = 64, 8, 6
STEPS = np.array([1000, 3000, 9000, 27000])


@pytest.fixture(scope="module")
def observations() -> Observations:
    """Losses with noise of 8 domains at 64 model sizes, in 6 runs of 4 volumes each: 512 lanes."""
    random = np.random.default_rng(0)
    mixtures = random.dirichlet(np.full(DOMAINS, 3.0), (SIZES, RUNS, 1)).clip(0.01)
    mixtures /= mixtures.sum(-1, keepdims=True)
    low, high = np.array([0.02, 0.2, 1.0, 0.1]), np.array([0.3, 0.9, 3.0, 0.6])
    alpha, beta, floor, height = np.moveaxis(random.uniform(low, high, (SIZES, 1, 1, DOMAINS, 4)), -1, 0)
    loss = mixtures**-alpha * floor * (height * (STEPS[:, None] / STEPS.max()) ** -beta + 1)
    loss *= np.exp(0.003 * random.standard_normal(loss.shape))
    size, run, step = np.broadcast_arrays(1e6 * np.arange(1, SIZES + 1)[:, None, None], np.arange(RUNS)[:, None], STEPS)
    columns = {"run": [f"{k}-{s:g}" for k, s in zip(run.ravel(), size.ravel(), strict=True)]}
    columns |= {"step": step.ravel(), "model_size": size.ravel()}
    shares = np.broadcast_to(mixtures, loss.shape).reshape(-1, DOMAINS)
    columns |= {f"mixture/d{i}": shares[:, i] for i in range(DOMAINS)}
    columns |= {f"loss/d{i}": loss[..., i].ravel() for i in range(DOMAINS)}
    return Observations.from_frame(pd.DataFrame(columns))


def assert_same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    """Costs to 1e-12 of them, and coefficients to 1e-8 where they are well known."""
    well = expected["condition"] < 1e6
    assert well.mean() > 0.9
    np.testing.assert_allclose(found["cost"], expected["cost"], rtol=1e-12)
    np.testing.assert_allclose(found["values"][well], expected["values"][well], rtol=1e-8, atol=1e-300)
    np.testing.assert_array_equal(found["status"], expected["status"])


def numbers(result: FitResult) -> dict[str, np.ndarray]:
    return {name: np.asarray(getattr(result, name)) for name in ("cost", "values", "condition", "status")}


def solved(observations: Observations) -> dict[str, np.ndarray]:
    return numbers(fit("bimix", observations, priors=False))


@pytest.fixture(scope="module")
def on_one_core(observations) -> dict[str, np.ndarray]:
    with pytest.MonkeyPatch.context() as patch:
        first = jax.devices()[:1]
        patch.setattr(_devices.jax, "devices", lambda: first)
        patch.setattr(_devices, "cores", lambda: 1)
        return solved(observations)


def test_the_devices_of_this_process_share_the_lanes(observations, on_one_core, monkeypatch):
    used = []
    over = _devices._over_devices
    monkeypatch.setattr(
        _devices,
        "_over_devices",
        lambda batch, devices, *chunks: used.append(len(devices)) or over(batch, devices, *chunks),
    )
    assert_same(solved(observations), on_one_core)
    assert used == [8]


def test_the_cores_of_one_device_share_the_lanes(observations, on_one_core, monkeypatch):
    used, first = [], jax.devices()[:1]
    over = _devices._over_cores
    monkeypatch.setattr(_devices.jax, "devices", lambda: first)
    monkeypatch.setattr(_devices, "cores", lambda: 3)
    monkeypatch.setattr(
        _devices,
        "_over_cores",
        lambda batch, first, width: used.append(len(first)) or over(batch, first, width),
    )
    assert_same(solved(observations), on_one_core)
    assert used == [3]


def test_lanes_are_solved_in_blocks_that_bound_memory(observations, on_one_core, monkeypatch):
    blocks, first = [], jax.devices()[:1]
    over = _devices._over_cores
    monkeypatch.setattr(_devices.jax, "devices", lambda: first)
    monkeypatch.setattr(_devices, "cores", lambda: 3)
    monkeypatch.setattr(_devices, "_MOST_LANES", 50)
    monkeypatch.setattr(one_law, "lanes_at_once", lambda law, lanes: 40)
    monkeypatch.setattr(
        _devices,
        "_over_cores",
        lambda batch, first, width: blocks.append((*first.shape, width)) or over(batch, first, width),
    )
    assert_same(solved(observations), on_one_core)
    assert blocks == [(3, 2, 40)] * 4


CHILD = """
import sys
import jax
table, out, devices, processes, number, port = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:])
if processes > 1:
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(f"localhost:{port}", processes, number)
import numpy as np
from bimixjax import Observations, bootstrap, fit
from bimixjax.fitting import devices as _devices

used, over = [], _devices._over_devices
_devices._over_devices = lambda batch, devices, *chunks: used.append(devices) or over(batch, devices, *chunks)
table = Observations.read(table)
result = fit("bimix", table, priors=False)
assert len(jax.devices()) == devices, jax.devices()
if devices > 1:
    assert len(used) == 1 and len(used[0]) == devices, used
    assert len({device.process_index for device in used[0]}) == processes
few = table.select(model_size=table.model_sizes[0])
resampled = bootstrap("bimix", few, key=0, count=100, priors=False)
limits = resampled.interval(few.proportions, few.volumes())
assert len(used) == (2 if devices > 1 else 0), used
kept = {name: getattr(result, name) for name in ("cost", "values", "condition", "status")}
np.savez(out, **kept, limits=limits)
"""


def child(table: Path, out: Path, devices: int, processes: int = 1, number: int = 0, port: int = 0) -> subprocess.Popen:
    """A process that fits the table over so many devices in all."""
    flags = f"--xla_force_host_platform_device_count={devices // processes}"
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, *map(str, (table, out, devices, processes, number, port))],
        cwd=ROOT,
        env={**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        stderr=subprocess.PIPE,
        text=True,
    )


def answer(process: subprocess.Popen, out: Path) -> dict[str, np.ndarray]:
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    with np.load(out) as found:
        return dict(found)


@pytest.fixture(scope="module")
def written(observations, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("devices") / "table.csv"
    observations.write(path)
    return path


@pytest.fixture(scope="module")
def alone(written) -> dict[str, np.ndarray]:
    """The answer of a process with one device."""
    return answer(child(written, written.with_name("one.npz"), 1), written.with_name("one.npz"))


@pytest.mark.slow
def test_eight_devices_agree_with_one(written, alone):
    out = written.with_name("eight.npz")
    assert_same(answer(child(written, out, 8), out), alone)


@pytest.mark.slow
def test_two_processes_agree_with_one_and_each_has_all_of_the_answer(written, alone):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    outs = [written.with_name(f"process{number}.npz") for number in range(2)]
    processes = [child(written, out, 4, 2, number, port) for number, out in enumerate(outs)]
    try:
        first, second = (answer(process, out) for process, out in zip(processes, outs, strict=True))
    finally:
        for process in processes:
            process.kill()
    assert_same(first, alone)
    np.testing.assert_allclose(first["limits"], alone["limits"], rtol=1e-9)
    for name, values in first.items():
        np.testing.assert_array_equal(second[name], values)
