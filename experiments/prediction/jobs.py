"""What is done apart and kept: one law on the folds of one scheme, as many at a time as there are processes."""

import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path

import jax

import bimixjax
from bimixjax.comparison import ChosenRuns, Comparison
from bimixjax.comparison.schemes import Scheme
from bimixjax.estimation import Auto
from bimixjax.laws import LAWS
from bimixjax.solve import VarPro
from experiments.prediction import config, store, trees
from experiments.prediction.cases import Case
from experiments.prediction.store import Timed, digest


@dataclass(frozen=True, kw_only=True)
class Job:
    """One law on the folds of one scheme."""

    case: Case
    scheme: Scheme
    name: str
    law: str | Auto

    @property
    def single(self) -> str | None:
        """The law's name where it is a single one."""
        return self.law if isinstance(self.law, str) and self.name not in config.NOT_SINGLE else None

    @property
    def solver(self) -> VarPro | None:
        return config.solver(self.single, self.case.starts) if self.single else None

    def path(self, folder: Path) -> Path:
        """Where the outcome is kept, named by what decides it: the table, the folds, the law, and code."""
        table, volumes = self.case.table, self.case.table.volumes(self.case.unit)
        numbers = [digest(column.tobytes()) for column in (table.proportions, table.losses, volumes)]
        kept = [field.name for field in fields(Comparison)]
        key = digest(numbers, table.runs, self.scheme, self.law, self.solver, self.code, kept)
        return folder / f"{self.case.part}-{self.name}-{key}.npz".replace(" ", "_")

    @property
    def code(self) -> str:
        """Of a single law its own code, of the trees their settings."""
        if self.name == config.TREES:
            return digest(trees.SETTINGS, trees.ROUNDS)
        return store.law_source(LAWS[self.single]) if self.single else store.auto_source()

    def compare(self) -> Comparison:
        return bimixjax.compare(
            {self.name: self.law},
            self.case.table,
            folds=self.scheme,
            volume=self.case.unit,
            level=None if self.single else config.LEVEL,
            solver=self.solver,
        )

    def grow(self, judged: Comparison) -> Comparison:
        """The rows that a law was judged on, as trees predict them."""
        assert isinstance(self.scheme, ChosenRuns)
        return trees.predicted(self.case, judged, self.scheme.fitted)


def of_case(case: Case, laws: tuple[str, ...]) -> list[list[Job]]:
    """For each law of the case, or those of them that are given, its jobs scheme by scheme."""
    chosen = {name: law for name, law in case.laws.items() if not laws or name in laws}
    return [
        [Job(case=case, scheme=scheme, name=name, law=law) for scheme in case.schemes] for name, law in chosen.items()
    ]


def trees_of(case: Case, scheme: Scheme) -> Job | None:
    """LightGBM where it belongs and is installed."""
    wanted = case.part == "domains" and trees.available()
    return Job(case=case, scheme=scheme, name=config.TREES, law="") if wanted else None


def do(job: Job, work: Callable[[], Comparison], folder: Path) -> None:
    """Do the job and keep what it found."""
    started, of_processors = time.perf_counter(), time.process_time()
    found = work()
    timed = Timed(
        found=found,
        seconds=time.perf_counter() - started,
        processor_seconds=time.process_time() - of_processors,
    )
    store.save(job.path(folder), timed)
    print(f"{job.case.title}, {job.name}, {timed.of}: {timed.seconds:.1f} s", file=sys.stderr, flush=True)


def _compare(folder: Path, alike: Sequence[Job]) -> None:
    for job in alike:
        do(job, job.compare, folder)
    # No others have these shapes, and each program takes some of the 65,530 memory maps that Linux gives a process.
    jax.clear_caches()


def compare_all(jobs: Iterable[Sequence[Job]], folder: Path, processes: int) -> Iterator[None]:
    """Do jobs while they come, those that share compiled programs together; yields as often as some are done."""
    if processes == 1:
        yield from map(partial(_compare, folder), jobs)
        return
    context = multiprocessing.get_context("spawn")
    shares = context.Queue()
    for share in _shares(processes):
        shares.put(share)
    with ProcessPoolExecutor(processes, context, initializer=_begin, initargs=(shares, folder)) as pool:
        yield from pool.map(partial(_compare, folder), jobs)


def _shares(processes: int) -> list[set[int]]:
    """The cores that each process may use; none where the system cannot say."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    return [set(cores[i % len(cores) :: processes]) if cores else set() for i in range(processes)]


def _begin(shares: "multiprocessing.Queue[set[int]]", folder: Path) -> None:
    """Give a process its cores before JAX counts them."""
    if share := shares.get():
        os.sched_setaffinity(0, share)
    keep_compiled(folder)


def keep_compiled(folder: Path) -> None:
    """Let jobs of one shape share what their processes compile, though each forgets it."""
    jax.config.update("jax_compilation_cache_dir", str((folder / "compiled").resolve()))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
