"""Prediction from few runs on public losses: `python -m experiments.prediction.run` in the project's folder."""

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import jax
import pandas as pd
import tyro

import bimixjax
from benchmarks._report import environment
from bimixjax import InputError, _checks
from bimixjax._records import write_json
from bimixjax.comparison import ChosenRuns, Comparison, Scheme
from bimixjax.laws import LAWS
from bimixjax.solve import VarPro
from bimixjax.stacking import Auto
from experiments.prediction import config, figures, goals, store, summary, trees
from experiments.prediction.cases import PARTS, Case
from experiments.prediction.store import Timed, digest
from experiments.public_observations.protocol import Row

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True, kw_only=True)
class Options:
    """Fit laws and auto to few runs, predict what was held out, write tables and figures."""

    observations: Path = HERE.parents[2] / "shared" / "observations"
    """Folder of the tables, pile_5groups.csv and others."""
    out: Path = HERE / "results"
    """Folder for tables and figures."""
    cache: Path = HERE.parents[1] / "build" / "prediction"
    """Folder for what is done already; a study that was stopped goes on from there."""
    parts: tuple[str, ...] = tuple(PARTS)
    """Which parts to run."""
    laws: tuple[str, ...] = ()
    """Which laws to compare; all of the part where empty."""
    draws: int = config.DRAWS
    """How many choices of K runs."""


def study(options: Options) -> Iterator[tuple[Case, Comparison, list[Row]]]:
    """Every case with all laws on all folds, and what each of them took."""
    for part in options.parts:
        for case in PARTS[part](options.observations, options.draws):
            laws = {name: law for name, law in case.laws.items() if not options.laws or name in options.laws}
            groups = [_group(case, scheme, laws, options) for scheme in case.schemes]
            found = store.one_after_the_other([store.together([timed.found for timed in group]) for group in groups])
            yield case, found, [_time(case, timed) for group in groups for timed in group]


def _group(case: Case, scheme: Scheme, laws: Mapping[str, str | Auto], options: Options) -> list[Timed]:
    """Each law, and where they belong the trees, on the folds of one scheme, from the cache where it is there."""
    jobs = [_Job(case=case, scheme=scheme, name=name, law=law) for name, law in laws.items()]
    done = [_kept(job, options.cache, job.compare) for job in jobs]
    if case.part == "domains" and trees.available():
        job = _Job(case=case, scheme=scheme, name=config.TREES, law="")
        done.append(_kept(job, options.cache, partial(job.grow, done[0].found)))
    # No other group has these shapes, and each program takes some of the 65,530 memory maps that Linux gives a process.
    jax.clear_caches()
    return done


@dataclass(frozen=True, kw_only=True)
class _Job:
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

    @property
    def key(self) -> str:
        """What the outcome depends on: the table, the folds, the law, and the code that decides what it predicts."""
        table = self.case.table
        numbers = [digest(column.tobytes()) for column in (table.proportions, table.losses, table.volumes("steps"))]
        return digest(numbers, table.runs, self.scheme, self.law, self.solver, self.code)

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
            volume="steps",
            level=None if self.single else config.LEVEL,
            solver=self.solver,
        )

    def grow(self, judged: Comparison) -> Comparison:
        """The rows that a law was judged on, as trees predict them."""
        assert isinstance(self.scheme, ChosenRuns)
        return trees.predicted(self.case, judged, self.scheme.fitted)


def _kept(job: _Job, folder: Path, work: Callable[[], Comparison]) -> Timed:
    path = folder / f"{job.case.part}-{job.name}-{job.key}.npz".replace(" ", "_")
    if path.exists():
        return store.load(path)
    started, of_processors = time.perf_counter(), time.process_time()
    found = work()
    timed = Timed(
        found=found,
        seconds=time.perf_counter() - started,
        processor_seconds=time.process_time() - of_processors,
    )
    store.save(path, timed)
    _say(f"{job.case.title}, {job.name}, {_folds(found)}: {timed.seconds:.1f} s")
    return timed


def _time(case: Case, timed: Timed) -> Row:
    (law,), folds = timed.found.laws, len(timed.found.group)
    spent = {"seconds": timed.seconds, "processor_seconds": timed.processor_seconds}
    return {"part": case.part, "table": case.name, "law": law, "of": _folds(timed.found), "folds": folds, **spent}


def _folds(found: Comparison) -> str:
    first, last = found.group[0], found.group[-1]
    return f"{found.grouped_by} {first:g}" + (f" to {last:g}" if last != first else "")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def write(folder: Path, name: str, rows: list[Row]) -> None:
    if rows:
        pd.DataFrame(rows).to_csv(folder / f"{name}.csv", index=False, float_format="%.6g")


def tables(found: list[tuple[Case, Comparison]], folder: Path) -> list[Row]:
    """Write one table of each kind for each part; return auto beside the best single laws."""
    everything: list[Row] = []
    for part in dict.fromkeys(case.part for case, _ in found):
        own = [(case, comparison) for case, comparison in found if case.part == part]
        for name, summarize in _OF_PART.get(part, {}).items():
            write(folder, name, _rows(own, summarize))
        write(folder, f"{part}_laws", _rows(own, summary.laws))
        write(folder, f"{part}_sizes", _rows(own, summary.by_size))
        write(folder, f"{part}_verdicts", made := _rows([one for one in own if _has_both(one[1])], summary.verdicts))
        everything += made
    return everything


_OF_PART: dict[str, dict[str, Callable[[Comparison], list[Row]]]] = {
    "groups": {"intervals": summary.intervals},
    "domains": {"domains_ranks": summary.target_ranks},
    "later": {"later_over_cuts": summary.over_cuts},
}


def _rows(found: list[tuple[Case, Comparison]], summarize: Callable[[Comparison], list[Row]]) -> list[Row]:
    return [{"part": case.part, "table": case.name, **row} for case, one in found for row in summarize(one)]


def _has_both(found: Comparison) -> bool:
    """Whether auto and a single law are there."""
    return config.AUTO in found.laws and not set(found.laws) <= set(config.NOT_SINGLE)


def main(options: Options) -> None:
    if not options.observations.is_dir():
        raise InputError(f"no observation tables at {options.observations}; name their folder with --observations")
    _checks.known("part", options.parts, tuple(PARTS), "--parts")
    if "domains" in options.parts and not trees.available():
        _say("lightgbm is not installed (pip install 'bimixjax[bench]'): its rows are left out of `domains`")
    options.out.mkdir(parents=True, exist_ok=True)
    found, times = [], []
    for case, comparison, spent in study(options):
        found.append((case, comparison))
        times += spent
    verdicts = tables(found, options.out)
    figures.write(found, options.out)
    write(options.out, "times", times)
    seconds, of_processors = (sum(row[name] for row in times) for name in ("seconds", "processor_seconds"))
    whole = [(case, comparison) for case, comparison in found if _has_both(comparison)]
    reached = goals.all_of(whole, seconds)
    write(options.out, "goals", reached)
    took = {"seconds": seconds, "processor_seconds": of_processors}
    write_json(options.out / "environment.json", {**environment(), "lightgbm": trees.version(), **took})
    names = ("part", "table", "group", "best", "best_error", "auto_error", "ratio", "difference", "difference_se")
    print(summary.text(verdicts, (*names, "best_spearman", "auto_spearman", "coverage", "width", "auto_bias")))
    print()
    print(summary.text(reached, ("what", "at", "wanted", "measured", "met", "beside")))
    print(f"\n{seconds:.0f} s, {of_processors:.0f} s of processors")


def keep_compiled(folder: Path) -> None:
    """Let parts of one shape share what this process compiles, though `_group` forgets it."""
    jax.config.update("jax_compilation_cache_dir", str(folder.resolve()))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


if __name__ == "__main__":
    try:
        chosen = tyro.cli(Options)
        keep_compiled(chosen.cache / "compiled")
        main(chosen)
    except InputError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
