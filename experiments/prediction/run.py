"""Prediction from few runs on public losses: `python -m experiments.prediction.run` in the project's folder."""

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd
import tyro

from benchmarks._report import environment
from bimixjax import InputError
from bimixjax._base import checks
from bimixjax._base.records import write_json
from bimixjax.comparison import Comparison
from bimixjax.comparison.schemes import Scheme
from experiments.prediction import config, figures, goals, jobs, store, summary, trees
from experiments.prediction.cases import PARTS, Case
from experiments.prediction.jobs import Job
from experiments.prediction.store import Timed
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
    processes: int = 2
    """How many laws at a time, each in a process with its share of the cores."""

    @property
    def whole(self) -> bool:
        """Whether nothing of the study is left out."""
        return self.parts == tuple(PARTS) and not self.laws and self.draws == config.DRAWS


def study(options: Options, clock: store.Clock) -> Iterator[tuple[Case, Comparison, list[Row]]]:
    """Every case with all laws on all folds, and what each of them took."""
    cases: list[Case] = []
    for _ in jobs.compare_all(_missing(options, cases), options.cache, options.processes):
        clock.tick()
    for case in cases:
        of_schemes = zip(case.schemes, zip(*jobs.of_case(case, options.laws), strict=True), strict=True)
        groups = [_group(case, scheme, chosen, options.cache, clock) for scheme, chosen in of_schemes]
        found = store.one_after_the_other([store.together([timed.found for timed in group]) for group in groups])
        yield case, found, [_time(case, timed) for group in groups for timed in group]


def _missing(options: Options, cases: list[Case]) -> Iterator[list[Job]]:
    """What was not done yet, by law; adds cases that have laws one by one, for some are made by fits of a while."""
    for part in options.parts:
        for case in PARTS[part](options.observations, options.draws):
            of_laws = jobs.of_case(case, options.laws)
            cases += [case] if of_laws else []
            missing = ([job for job in of_law if not job.path(options.cache).exists()] for of_law in of_laws)
            yield from filter(None, missing)


def _group(case: Case, scheme: Scheme, chosen: Sequence[Job], cache: Path, clock: store.Clock) -> list[Timed]:
    """What each law, and where they belong the trees, found on the folds of one scheme."""
    done = [store.load(job.path(cache)) for job in chosen]
    if job := jobs.trees_of(case, scheme):
        if not (path := job.path(cache)).exists():
            jobs.do(job, partial(job.grow, done[0].found), cache)
            clock.tick()
        done.append(store.load(path))
    return done


def _time(case: Case, timed: Timed) -> Row:
    (law,), folds = timed.found.laws, len(timed.found.group)
    spent = {"seconds": timed.seconds, "processor_seconds": timed.processor_seconds}
    return {"part": case.part, "table": case.name, "law": law, "of": timed.of, "folds": folds, **spent}


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
    checks.known("part", options.parts, tuple(PARTS), "--parts")
    if options.processes < 1:
        raise InputError(f"--processes is {options.processes}; it must be 1 or more")
    if "domains" in options.parts and not trees.available():
        _say("lightgbm is not installed (pip install 'bimixjax[bench]'): its rows are left out of `domains`")
    options.out.mkdir(parents=True, exist_ok=True)
    found, times, clock = [], [], store.Clock(options.cache / "clock.json")
    for case, comparison, spent in study(options, clock):
        found.append((case, comparison))
        times += spent
    verdicts = tables(found, options.out)
    figures.write(found, options.out)
    write(options.out, "times", times)
    clock.stop()
    seconds, of_processors = clock.seconds, sum(row["processor_seconds"] for row in times)
    whole = [(case, comparison) for case, comparison in found if _has_both(comparison)]
    reached = goals.all_of(whole, seconds if options.whole else None)
    write(options.out, "goals", reached)
    took = {"seconds": seconds, "processor_seconds": of_processors}
    write_json(options.out / "environment.json", {**environment(), "lightgbm": trees.version(), **took})
    names = ("part", "table", "group", "best", "best_error", "auto_error", "ratio", "difference", "difference_se")
    print(summary.text(verdicts, (*names, "best_spearman", "auto_spearman", "coverage", "width", "auto_bias")))
    print()
    print(summary.text(reached, ("what", "at", "wanted", "measured", "met", "beside")))
    print(f"\n{seconds:.0f} s, {of_processors:.0f} s of processors")


if __name__ == "__main__":
    try:
        chosen = tyro.cli(Options)
        jobs.keep_compiled(chosen.cache)
        main(chosen)
    except InputError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
