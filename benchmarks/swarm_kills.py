"""Does a swarm that is killed at random moments end in the same table, number for number?

A swarm gets SIGKILL or SIGTERM at a moment drawn uniformly over the seconds that it takes as a whole, from the start of
its process to its end; the same call goes on in its folder and is killed again, until one ends by itself. The table is
then compared, byte for byte, with that of a swarm that nobody has killed. One process has two devices; two processes
have two each, and a signal goes to the first, to the second and to both by turns. Swarms with tokens on the devices and
with tokens that the host reads take turns, too.

Run: `python benchmarks/swarm_kills.py`; `--moments 2` for fewer of them.
"""

import argparse
import dataclasses
import itertools
import multiprocessing
import os
import signal
import socket
import tempfile
import time
from collections.abc import Iterator, Sequence
from multiprocessing.context import ForkProcess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import _report
import jax
import numpy as np

from bimixjax._base.stopping import STOPPED
from bimixjax.proxy import Design, ModelConfig, SwarmConfig, TrainConfig, join, make_mesh, train_swarm
from bimixjax.proxy.layout import DONE, METRICS, OBSERVATIONS

HERE = Path(__file__).resolve().parent
# A fork has everything imported, which saves most of its time; JAX starts in the forks only.
FORKS = multiprocessing.get_context("fork")
DEVICES = 2
SIGNALS = (signal.SIGKILL, signal.SIGTERM)
# What a process does whose partner is gone is up to JAX, which may wait for minutes; a scheduler ends it.
PATIENCE = 20.0
# A swarm that takes longer hangs: ten times what the slowest took where this was written.
HANGS = 300.0


def train(folder: str, resident_bytes: int, process: tuple[str, str | None]) -> None:
    """Train the swarm of this benchmark, alone or with others: three runs, so that a slot has none."""
    _, count = join(*process)
    random = np.random.default_rng(0)
    words = {name: random.integers(0, 16, 3).repeat(2000) + random.integers(0, 4, 6000) for name in "ab"}
    tokens: Any = SimpleNamespace(domains=("a", "b"), vocab_size=32, train=words.get, validation=words.get)
    design = Design.make(["even", "mostly-a", "only-b"], "ab", [[0.5, 0.5], [0.9, 0.1], [0, 1]], [0, 0, 1])
    config = TrainConfig(model=ModelConfig(vocab=32, layers=1, width=16, context=16), batch=16)
    at: dict[str, Any] = {"steps": 480, "eval_steps": tuple(range(40, 481, 40)), "checkpoint_every": 30}
    swarm = SwarmConfig(train=config, eval_windows=8, resident_bytes=resident_bytes, **at)
    train_swarm(design, tokens, swarm, folder, mesh=make_mesh(data=count))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Kind:
    """How the swarms of a row of kills are trained, and what they are sent."""

    processes: int
    signal: signal.Signals

    def begin(self, folder: Path, resident_bytes: int) -> list[ForkProcess]:
        """Start the processes that train together in `folder`, or go on there."""
        with socket.socket() as free:
            free.bind(("localhost", 0))
            place = f"localhost:{free.getsockname()[1]}"
        every = [(f"{number}/{self.processes}", place) for number in range(self.processes)]
        joins = every if self.processes > 1 else [("alone", None)]
        started = [FORKS.Process(target=train, args=(str(folder), resident_bytes, join)) for join in joins]
        for process in started:
            process.start()
        return started

    def whole(self, folder: Path, resident_bytes: int) -> tuple[bytes, float]:
        """Train, or go on, to the end; return the table and the seconds that this took."""
        began = time.perf_counter()
        codes, _ = _end(self.begin(folder, resident_bytes), HANGS)
        if any(codes):
            raise SystemExit(f"a swarm that nobody killed ended with {codes} in {folder}")
        return (folder / OBSERVATIONS).read_bytes(), time.perf_counter() - began

    def targets(self) -> Iterator[tuple[int, ...]]:
        """Return which processes get a signal, by turns."""
        return itertools.cycle([(0,)] if self.processes == 1 else [(0,), (1,), (0, 1)])

    def kill(self, folder: Path, resident_bytes: int, seconds: float, to: Sequence[int]) -> dict[str, Any] | None:
        """Begin or go on in `folder`, end it after `seconds`, and return how it ended; None where it was done before.

        Raises:
            SystemExit: where a process ended by itself before, or otherwise than a signal ends it.
        """
        began_before = _begun(folder)
        processes = self.begin(folder, resident_bytes)
        time.sleep(seconds)
        early = [process.exitcode for process in processes]
        for number in to:
            pid = processes[number].pid
            if early[number] is None and pid is not None:
                os.kill(pid, self.signal)
        codes, waited = _end(processes, PATIENCE)
        own = {-self.signal, STOPPED} if self.signal == signal.SIGTERM else {-self.signal}
        if early[to[0]] is not None or not own & {codes[number] for number in to}:
            if (folder / DONE).exists() and set(codes) == {0}:
                return None
            raise SystemExit(f"{folder} ended otherwise than by a signal: {codes}")
        return {
            "seconds": seconds,
            "to": list(to),
            "trains": _begun(folder) > began_before,
            "steps_kept": _last_step(folder),
            "exit_codes": codes,
            "seconds_to_the_end": waited,
        }


def _end(processes: Sequence[ForkProcess], patience: float) -> tuple[list[int | None], float]:
    """Return exit codes, None of a process that a scheduler has to end, and how long the last one took."""
    began, codes = time.perf_counter(), []
    for process in processes:
        process.join(max(0.1, patience - (time.perf_counter() - began)))
        codes.append(process.exitcode)
        if process.exitcode is None:
            process.kill()
            process.join()
    return codes, time.perf_counter() - began


def _begun(folder: Path) -> int:
    """Return how often a training has begun, or gone on, in `folder`."""
    path = folder / METRICS
    return path.read_text().count('"begun"') if path.exists() else 0


def _last_step(folder: Path) -> int:
    path = folder / OBSERVATIONS
    rows = path.read_text().splitlines()[1:] if path.exists() else []
    return int(rows[-1].split(",")[2]) if rows and rows[-1].count(",") > 2 else 0


def killed(kind: Kind, moments: int, place: Path, seed: int) -> Iterator[dict[str, Any]]:
    """Yield a record of each swarm that was killed, once or more, until there are so many kills."""
    wholes = {}
    for size in (2**20, 0):
        # The first one compiles, too; without a signal, both must have the same table.
        (first, _), wholes[size] = (kind.whole(place / f"whole-{size}-{i}", size) for i in range(2))
        if first != wholes[size][0]:
            raise SystemExit(f"two swarms that nobody killed have different tables in {place}")
    random, left, targets = np.random.default_rng(seed), moments, kind.targets()
    for number, size in enumerate(itertools.cycle(wholes)):
        if not left:
            return
        (expected, seconds), folder, kills = wholes[size], place / str(number), []
        while left:
            found = kind.kill(folder, size, random.uniform(0, seconds), next(targets))
            if found is None:
                break
            table = folder / OBSERVATIONS
            kept = table.read_bytes() if table.exists() else b""
            kills.append(found | {"rows_alike": expected.startswith(kept[: kept.rfind(b"\n") + 1])})
            left -= 1
        table, _ = kind.whole(folder, size)
        yield {
            "processes": kind.processes,
            "signal": kind.signal.name,
            "tokens": "resident" if size else "streamed",
            "seconds_of_the_whole": seconds,
            "same_table": table == expected,
            "kills": kills,
        }


def main() -> None:
    """Kill, print the table and write the JSON after each swarm."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--moments", type=int, default=20, help="of each signal, of one and of two processes")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--out", type=Path, default=HERE / "results" / "swarm_kills.json", help="JSON file")
    given = parser.parse_args()
    os.environ["JAX_PLATFORMS"], os.environ["XLA_FLAGS"] = "cpu", f"--xla_force_host_platform_device_count={DEVICES}"
    swarms: list[dict[str, Any]] = []
    kinds = [Kind(processes=count, signal=number) for count in given.processes for number in SIGNALS]
    with tempfile.TemporaryDirectory() as place:
        # What one process has compiled, the next ones read.
        jax.config.update("jax_compilation_cache_dir", str(Path(place) / "compiled"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
        jax.config.update("jax_platforms", "cpu")
        for seed, kind in enumerate(kinds):
            for swarm in killed(kind, given.moments, Path(place) / str(seed), seed):
                swarms.append(swarm)
                print({name: value for name, value in swarm.items() if name != "kills"}, flush=True)
                for kill in swarm["kills"]:
                    print("   ", kill, flush=True)
                results = {"benchmark": "swarm_kills", "moments": given.moments, "swarms": swarms}
                writer = FORKS.Process(target=_report.write, args=(given.out, results))
                writer.start()
                writer.join()
    rows = []
    for kind in kinds:
        own = [swarm for swarm in swarms if (swarm["processes"], swarm["signal"]) == (kind.processes, kind.signal.name)]
        kills = [kill for swarm in own for kill in swarm["kills"]]
        counts = [len(kills), sum(kill["trains"] for kill in kills), sum(kill["rows_alike"] for kill in kills)]
        rows.append([f"{kind.processes} x {kind.signal.name}", *map(str, counts), str(len(own))])
        rows[-1].append(str(sum(swarm["same_table"] for swarm in own)))
    print(_report.table(["processes, signal", "kills", "in training", "rows alike", "swarms", "same table"], rows))
    if not all(swarm["same_table"] and all(kill["rows_alike"] for kill in swarm["kills"]) for swarm in swarms):
        raise SystemExit("not the same table")


if __name__ == "__main__":
    main()
