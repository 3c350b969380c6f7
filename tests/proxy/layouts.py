"""Train a tiny swarm in several layouts, in processes of their own: `python -m tests.proxy.layouts JSON`.

A layout that deadlocks ends its process after a while; that must not be the one that runs the tests.
"""

import dataclasses
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

ROOT = Path(__file__).parents[2]
STEPS, MEASURED = 5, (2, 5)
# A process whose devices wait for each other ends after so many seconds.
PATIENCE = 20


def train(case: dict[str, Any], folder: str) -> dict[str, list[str]]:
    """Return status and losses of each row of the table, by run and step.

    Members in `ill` begin with no number; `sharded` says that state is split over data where it would fit unsplit.
    """
    import jax
    import numpy as np

    from bimixjax.proxy import Design, ModelConfig, SwarmConfig, TrainConfig, make_mesh, swarm
    from bimixjax.proxy.mesh import Layout

    random, members = np.random.default_rng(0), case.get("members", 5)
    words = {name: (np.arange(700) * (i + 3) + random.integers(0, 3, 700)) % 16 for i, name in enumerate("ab")}
    tokens: Any = SimpleNamespace(domains=("a", "b"), vocab_size=16, train=words.get, validation=words.get)
    mixtures = random.dirichlet([1, 1], 8)[:members]
    design = Design.make([f"r{i}" for i in range(members)], "ab", mixtures, range(members))
    model = ModelConfig(vocab=16, layers=2, width=16, heads=4, context=8)
    train = TrainConfig(model=model, batch=8, learning_rate=0.02, warmup=1, base_width=None)
    settings = case.get("settings", {})
    config = SwarmConfig(train=train, eval_windows=6, **({"steps": STEPS, "eval_steps": MEASURED} | settings))
    mesh = make_mesh(data=case.get("data", 1), model=case.get("model", 1), devices=jax.devices()[: case["devices"]])
    make = swarm.make_programs

    def split(layout: Layout) -> Layout:
        passes = dataclasses.replace(layout.passes, sharded=case.get("sharded", False))
        return dataclasses.replace(layout, passes=passes)

    def poisoned(*arguments: Any) -> Any:
        programs = make(*(split(one) if isinstance(one, Layout) else one for one in arguments))
        if not case.get("ill"):
            return programs

        def start(*given: Any) -> Any:
            begun, ill = programs.start(*given), np.array(case["ill"])
            poison = jax.jit(lambda params: jax.tree.map(lambda leaf: leaf.at[ill].set(np.nan), params))
            return dataclasses.replace(begun, params=poison(begun.params))

        return dataclasses.replace(programs, start=start)

    swarm.make_programs = poisoned
    try:
        path = swarm.train_swarm(design, tokens, config, folder, mesh=mesh)
    finally:
        swarm.make_programs = make
    lines = [line.split(",") for line in path.read_text().splitlines()]
    place = {name: i for i, name in enumerate(lines[0])}
    columns = ["status", "loss/a", "loss/b", "loss_se/a", "loss_se/b", "realized/a"]
    return {f"{line[0]} {line[place['step']]}": [line[place[name]] for name in columns] for line in lines[1:]}


def begin(cases: Sequence[dict[str, Any]], *, devices: int = 8, process: Sequence[str] = ()) -> "subprocess.Popen[str]":
    """Start a process with so many devices that trains in each layout and prints the tables; see `main`."""
    flags = f"--xla_force_host_platform_device_count={devices} --xla_backend_optimization_level=0"
    flags += f" --xla_cpu_collective_call_terminate_timeout_seconds={PATIENCE}"
    return subprocess.Popen(
        [sys.executable, "-m", "tests.proxy.layouts", json.dumps(cases), *process],
        cwd=ROOT,
        env={**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def begin_two(cases: Sequence[dict[str, Any]]) -> "list[subprocess.Popen[str]]":
    """Start two processes of four devices each that train together; each case says its folder."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        coordinator = f"localhost:{free.getsockname()[1]}"
    return [begin(cases, devices=4, process=(f"{number}/2", coordinator)) for number in range(2)]


def tables(process: "subprocess.Popen[str]") -> list[dict[str, list[str]]]:
    """Return the tables that a process has printed."""
    out, errors = process.communicate(timeout=3600)
    assert process.returncode == 0, errors[-3000:]
    return [json.loads(line) for line in out.splitlines() if line.startswith("{")]


def main() -> None:
    """Train in each of the layouts given, and print the tables; I/N and HOST:PORT, with other processes."""
    from bimixjax.proxy import join

    cases, *process = sys.argv[1:]
    join(*process)
    for case in json.loads(cases):
        sys.stderr.write(f"{case}\n")
        with tempfile.TemporaryDirectory() as folder:
            sys.stdout.write(json.dumps(train(case, case.get("folder", folder))) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
