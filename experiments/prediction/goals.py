"""What the study is to show, beside what it measured."""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from bimixjax.comparison import Comparison
from experiments.prediction import config, summary
from experiments.prediction.cases import Case
from experiments.prediction.config import AUTO
from experiments.public_observations.protocol import Row
from experiments.public_observations.summary import mean

Found = Sequence[tuple[Case, Comparison]]

RATIO = 0.87
DOMAIN_ERRORS = {16: 0.0268, 32: 0.0160, 64: 0.0138, 128: 0.0108, 256: 0.0098, 512: 0.0087}
DOMAIN_RANKS = {16: 0.956, 32: 0.983, 128: 0.990, 512: 0.994}
DONOR_ERRORS = {config.DONOR_ALL: {2: 0.0060, 6: 0.0040, 16: 0.0035}, config.DONOR_APART: {2: 0.0075}}
DONOR_RANK = 0.96
FEWEST_COVERED, COVERAGE, LEAST_COVERAGE = 4, (0.85, 0.95), 0.75
NEAR_TRUTH = 1.10
SECONDS = 1800.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Goal:
    """One number that was wanted, and what came of it.

    Args:
        what: of which table, what number.
        at: for which number of runs, cut, or law.
        wanted: in words.
        measured: the number.
        beside: what else tells how good it is, in words.
        met: whether it is as wanted.
    """

    what: str
    at: str
    wanted: str
    measured: float
    beside: str
    met: bool

    def row(self) -> Row:
        """As it is written and printed."""
        number = f"{self.measured:.4g}" if np.isfinite(self.measured) else "-"
        return {**dataclasses.asdict(self), "measured": number, "met": "yes" if self.met else "NO"}


def all_of(found: Found, seconds: float | None) -> list[Row]:
    """Every goal of which the study has the numbers; `seconds` are those of the whole study, None of a part of it."""
    goals = [
        goal
        for case, comparison in found
        for goal in (*_OF_PART.get(case.part, _nothing)(case, comparison), _finite(case, comparison))
    ]
    return [goal.row() for goal in [*goals, *([] if seconds is None else [_cost(seconds)])]]


def _nothing(case: Case, found: Comparison) -> Iterator[Goal]:
    yield from ()


def _finite(case: Case, found: Comparison) -> Goal:
    own = [row for row in summary.laws(found) if row["law"] == AUTO]
    failed, cells = (sum(row[name] for row in own) for name in ("failed", "cells"))
    return Goal(
        what=f"{case.name}: predictions of auto that are not finite",
        at="all folds",
        wanted="0",
        measured=failed,
        beside=f"of {cells}",
        met=failed == 0,
    )


def _groups(case: Case, found: Comparison) -> Iterator[Goal]:
    verdicts = summary.verdicts(found)
    for row in verdicts:
        gap, error = row["difference"], row["difference_se"]
        few = row["group"] <= 2
        yield Goal(
            what=f"{case.name}: error of auto minus best single law, bp",
            at=f"K = {row['group']:g}",
            wanted="at most 0" if few else "below -1 s.e.",
            measured=1e4 * gap,
            beside=f"s.e. {1e4 * error:.2f}; auto {1e4 * row['auto_error']:.1f}, "
            f"{row['best']} {1e4 * row['best_error']:.1f}",
            met=gap <= 0 if few else gap < -error,
        )
    ratio = float(np.exp(np.mean(np.log([row["ratio"] for row in verdicts]))))
    yield Goal(
        what=f"{case.name}: error of auto over best single law, geometric mean",
        at="all K",
        wanted=f"at most {RATIO}",
        measured=ratio,
        beside=", ".join(f"{row['ratio']:.3f}" for row in verdicts),
        met=ratio <= RATIO,
    )
    yield from _ranks(case, found)
    yield from _intervals(case, found)


def _ranks(case: Case, found: Comparison) -> Iterator[Goal]:
    for row in summary.verdicts(found):
        gap, error = row["spearman_difference"], row["spearman_difference_se"]
        # Of a few mixtures there are no ranks.
        if np.isnan(row["best_spearman"]):
            continue
        yield Goal(
            what=f"{case.name}: Spearman of auto minus best single law",
            at=f"K = {row['group']:g}",
            wanted="at least -1 s.e.",
            measured=gap,
            beside=f"s.e. {error:.4f}; auto {row['auto_spearman']:.4f}, "
            f"{row['best_ranker']} {row['best_spearman']:.4f}",
            met=gap >= -error,
        )


def _intervals(case: Case, found: Comparison) -> Iterator[Goal]:
    rows = [row for row in summary.intervals(found) if row["group"] >= FEWEST_COVERED]
    if not rows:
        return
    cells = np.array([row["cells"] for row in rows])
    covered = np.array([row["coverage"] for row in rows])
    total, least = float(np.average(covered, weights=cells)), rows[int(np.argmin(covered))]
    low, high = COVERAGE
    which = f"K >= {FEWEST_COVERED}"
    yield Goal(
        what=f"{case.name}: coverage of {config.LEVEL:.0%} intervals",
        at=which,
        wanted=f"{low} to {high}",
        measured=total,
        beside=f"width {mean(rows, 'width'):.2%}, of the noise alone {mean(rows, 'noise_width'):.2%}",
        met=low <= total <= high,
    )
    yield Goal(
        what=f"{case.name}: least coverage of a number of runs, model size and target",
        at=which,
        wanted=f"at least {LEAST_COVERAGE}",
        measured=least["coverage"],
        beside=f"K = {least['group']:g}, {least['model_size'] / 1e6:g}M, {least['target']}; "
        f"{int((covered < LEAST_COVERAGE).sum())} of {len(rows)} below",
        met=least["coverage"] >= LEAST_COVERAGE,
    )


def _domains(case: Case, found: Comparison) -> Iterator[Goal]:
    rows = summary.laws(found)
    for count in np.unique(found.group):
        errors = {row["law"]: row["error"] for row in rows if row["group"] == count}
        yield _at_most(f"{case.name}: error", count, errors.pop(AUTO), DOMAIN_ERRORS[int(count)], _named(errors))
    ranks = summary.target_ranks(found)
    for count in np.unique(found.group):
        if int(count) in DOMAIN_RANKS:
            by_law = {row["law"]: row["spearman"] for row in ranks if row["group"] == count}
            own, wanted = by_law.pop(AUTO), DOMAIN_RANKS[int(count)]
            name = f"{case.name}: Spearman of {config.RANKED_TARGET}"
            yield _at_least(name, f"K = {count:g}", own, wanted, _named(by_law, sign=-1))


def _donor(case: Case, found: Comparison) -> Iterator[Goal]:
    rows = summary.laws(found)
    for row in (row for row in rows if row["law"] == AUTO):
        others = {other["law"]: other["error"] for other in rows if other["group"] == row["group"]}
        others.pop(AUTO)
        wanted = DONOR_ERRORS[case.name].get(int(row["group"]))
        if wanted is not None:
            yield _at_most(f"{case.name}: error", row["group"], row["error"], wanted, _named(others))
        if case.name == config.DONOR_ALL:
            at, beside = f"K = {row['group']:g}", f"s.e. of the error {1e4 * row['error_se']:.1f} bp"
            yield _at_least(f"{case.name}: Spearman", at, row["spearman"], DONOR_RANK, beside)


def _later(case: Case, found: Comparison) -> Iterator[Goal]:
    rows = summary.over_cuts(found)
    (own,) = (row for row in rows if row["law"] == AUTO)
    best = next(row for row in rows if row["law"] not in config.NOT_SINGLE)
    wanted = f"at most {best['error']:.4g} ({best['law']})"
    yield Goal(
        what=f"{case.name}: error at the last volume, mean over cuts",
        at=f"{own['cuts']} cuts",
        wanted=wanted,
        measured=own["error"],
        beside=f"bias {own['bias']:+.4f}, of {best['law']} {best['bias']:+.4f}",
        met=own["error"] <= best["error"],
    )


def _sizes(case: Case, found: Comparison) -> Iterator[Goal]:
    errors = {row["law"]: row["error"] for row in summary.laws(found)}
    own = errors.pop(AUTO)
    best = min(errors, key=lambda law: np.nan_to_num(errors[law], nan=np.inf))
    yield Goal(
        what=f"{case.name}: error at 305M and 410M from 70M and 160M",
        at="all runs",
        wanted=f"at most {errors[best]:.4g} ({best})",
        measured=own,
        beside=_named(errors),
        met=own <= errors[best],
    )


def _simulation(case: Case, found: Comparison) -> Iterator[Goal]:
    low, high = COVERAGE
    for row in summary.verdicts(found):
        yield _at_most(
            f"drawn from {case.name}: error of auto over that of the law itself",
            row["group"],
            row["ratio"],
            NEAR_TRUTH,
            f"auto {1e4 * row['auto_error']:.1f} bp; {config.LEVEL:.0%} intervals cover {row['coverage']:.3f}",
        )
        yield Goal(
            what=f"drawn from {case.name}: coverage of {config.LEVEL:.0%} intervals",
            at=f"K = {row['group']:g}",
            wanted=f"{low} to {high}",
            measured=row["coverage"],
            beside=f"width {row['width']:.2%}",
            met=low <= row["coverage"] <= high,
        )


def _cost(seconds: float) -> Goal:
    return Goal(
        what="the whole study, compilation included, seconds",
        at="this machine",
        wanted=f"at most {SECONDS:g}",
        measured=seconds,
        beside="parts are in times.csv",
        met=seconds <= SECONDS,
    )


def _at_most(what: str, count: float, measured: float, wanted: float, beside: str) -> Goal:
    text = f"at most {wanted:g}"
    at = f"K = {count:g}"
    return Goal(what=what, at=at, wanted=text, measured=measured, beside=beside, met=measured <= wanted)


def _at_least(what: str, at: str, measured: float, wanted: float, beside: str) -> Goal:
    text = f"at least {wanted:g}"
    return Goal(what=what, at=at, wanted=text, measured=measured, beside=beside, met=measured >= wanted)


def _named(numbers: dict[str, float], sign: int = 1) -> str:
    """The two least numbers by law (with a sign of -1, the two largest), and those that are always shown."""
    order = sorted(numbers, key=lambda law: np.nan_to_num(sign * numbers[law], nan=np.inf))
    shown = [law for i, law in enumerate(order) if i < 2 or law in config.ALWAYS_SHOWN]
    return ", ".join(f"{law} {numbers[law]:.4f}" for law in shown)


_OF_PART = {
    "groups": _groups,
    "small": _ranks,
    "few": _ranks,
    "domains": _domains,
    "donor": _donor,
    "later": _later,
    "sizes": _sizes,
    "simulation": _simulation,
}
