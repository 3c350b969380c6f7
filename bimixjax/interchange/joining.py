"""Parts joined by the id of the run: what each run was trained on, beside what was measured of it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from bimixjax._base.checks import InputError
from bimixjax._base.summaries import listed
from bimixjax.interchange.parts import META, Named
from bimixjax.observations import columns
from bimixjax.observations.columns import LOSS, MIXTURE, SAME_TOLERANCE

NO_VOLUME = "no volume"
_MOST = 5


@dataclass(frozen=True, kw_only=True)
class Joined:
    """Rows of measured losses, the settings of each run, and notes on what did not fit together.

    Attributes:
        rows: `run`, volumes, `model_size`, `seed`, `loss/<target>`, `meta/<name>`, and `base`, the id before what tells
            runs of several sizes or seeds apart was added to it.
        settings: `mixture/<domain>`, `unique/<domain>` and what else a run has once; its index is the run.
        notes: conflicts, each with how it was resolved.
    """

    rows: pd.DataFrame
    settings: pd.DataFrame
    notes: tuple[str, ...]


def join(parts: Sequence[Named]) -> Joined:
    """Join parts by run.

    Runs without a mixture or without a loss are left out and named. Where the step of a log goes back, as after a
    restart, the later losses count from there on; of several rows of one run and step in a table, the last one counts.

    Raises:
        InputError: where no part has losses or shares, a run has two values of one setting, or two rows without a step,
            or no run has both a mixture and losses.
    """
    measured = [part for part in parts if part.losses]
    if not measured or not any(_shares(part) for part in parts):
        raise InputError(_lacking(parts, "losses" if not measured else "shares of domains"))
    settings = _settings(parts)
    with_shares = settings.index[settings[[name for name in settings if name.startswith(MIXTURE)]].notna().any(axis=1)]
    rows, notes = _rows(measured)
    ids = rows["base"].unique()
    both = pd.Index(ids).intersection(with_shares, sort=False)
    if both.empty:
        raise InputError(
            f"no run has both losses and shares: losses are of {_named(ids)}, shares of {_named(with_shares)}; "
            "runs are joined by id; name the column of the id with --map NAME=run"
        )
    for alone, has, lacks in (
        (pd.Index(ids).difference(both, sort=False), "losses", "shares"),
        (with_shares.difference(ids, sort=False), "shares", "losses"),
    ):
        if len(alone):
            notes.append(f"{len(alone)} runs have {has} and no {lacks}, and are left out: {_named(alone)}")
    rows = rows.iloc[np.flatnonzero(both.get_indexer(pd.Index(rows["base"])) >= 0)].reset_index(drop=True)
    return Joined(rows=rows, settings=settings.loc[both], notes=tuple(notes))


def _shares(part: Named) -> list[str]:
    return [role for role in part.settings if role.startswith(MIXTURE)]


def _lacking(parts: Sequence[Named], what: str) -> str:
    source = " + ".join(dict.fromkeys(part.part.table.name for part in parts))
    role, like = ("loss/*", "'eval/*/loss=loss/*'") if what == "losses" else ("mixture/*", "'weight_*=mixture/*'")
    unused = dict.fromkeys(name for part in parts for name in part.unused)
    likely = [name for name in unused if "loss" in name.lower()] if what == "losses" else []
    has = listed(map(repr, [*likely, *(name for name in unused if name not in likely)]), most=12) or "none"
    more = "" if what == "losses" else "; or give a table of them too (run, mixture/<domain>)"
    return f"{source}: no column is taken for {what}; say which are, as with --map {like} ({role}){more}; unused: {has}"


def _settings(parts: Sequence[Named]) -> pd.DataFrame:
    """Return the one value that each run has of each setting; two that differ are an error."""
    found: dict[str, pd.Series] = {}
    for role in dict.fromkeys(role for part in parts for role in part.settings):
        # Sizes and seeds beside losses make a run of each, in `_rows`.
        of = [part for part in parts if role in part.settings and not (part.losses and role in columns.RUN_COLUMNS)]
        values = [pd.Series(part.settings[role], index=pd.Index(part.run, dtype=object)) for part in of]
        if values:
            together = pd.concat(values).dropna()
            if (run := _with_two_values(together, SAME_TOLERANCE)) is not None:
                raise InputError(_two_values(of, role, run))
            found[role] = together.iloc[np.flatnonzero(~together.index.duplicated())]
    for part in (part for part in parts if not part.losses):
        for name, values in part.meta.items():
            beside = pd.Series(values.to_numpy(object), index=pd.Index(part.run, dtype=object))
            found.setdefault(META + name, beside.iloc[np.flatnonzero(~beside.index.duplicated())])
    index = pd.Index(dict.fromkeys(run for part in parts for run in part.run), dtype=object)
    return pd.DataFrame({role: values.reindex(index) for role, values in found.items()}, index=index)


def _with_two_values(values: pd.Series, tolerance: float) -> str | None:
    """Return the first run, which is the index, with values further apart than that, or None."""
    codes, runs = pd.factorize(values.index)
    low, high = np.full(len(runs), np.inf), np.full(len(runs), -np.inf)
    np.minimum.at(low, codes, values.to_numpy(np.float64))
    np.maximum.at(high, codes, values.to_numpy(np.float64))
    apart = np.flatnonzero(high - low > tolerance)
    return str(runs[apart[0]]) if len(apart) else None


def _two_values(parts: Sequence[Named], role: str, run: str) -> str:
    seen = [
        (part.settings[role][i], part.place(int(i), role))
        for part in parts
        for i in np.flatnonzero((part.run == run) & ~np.isnan(part.settings[role]))
    ]
    other = next(entry for entry in seen if abs(entry[0] - seen[0][0]) > SAME_TOLERANCE)
    return (
        f"run {run!r} has two values of {role!r}: {seen[0][0]:.15g} ({seen[0][1]}) and {other[0]:.15g} ({other[1]}); "
        "allowed: one in a run"
    )


def _rows(parts: Sequence[Named]) -> tuple[pd.DataFrame, list[str]]:
    """Return one row for each run and volume, with the losses that count there, and notes on those that do not."""
    volume = next((name for name in ("step", "tokens") if any(name in part.volumes for part in parts)), None)
    lacks = [part.part.table.name for part in parts if volume and volume not in part.volumes]
    if lacks:
        has = next(part.part.table.name for part in parts if volume in part.volumes)
        raise InputError(
            f"{has} has losses by {volume} and {lacks[0]} has none; import them apart, or name the column with "
            f"--map NAME={volume}"
        )
    rows = pd.concat([_frame(part, number) for number, part in enumerate(parts)], ignore_index=True)
    rows = columns.separate(rows)
    targets = [name for name in rows if name.startswith(LOSS)]
    notes: list[str] = []
    if volume is None:
        _require_one_value(rows, targets, parts)
        rows[NO_VOLUME] = 0.0
    else:
        rows, notes = _at_volumes(rows, volume, parts)
        notes += _later_counts(rows, volume, targets)
    key = ["run", volume or NO_VOLUME]
    # `last` passes over blanks: losses that were logged one by one come together.
    whole = rows.groupby(key, sort=False).last().reset_index().drop(columns=["part", "in_order"])
    order = np.lexsort((whole[key[1]].to_numpy(), pd.factorize(whole["run"])[0]))
    whole = whole.iloc[order].dropna(subset=targets, how="all").reset_index(drop=True)
    return whole.drop(columns=NO_VOLUME, errors="ignore"), notes


def _frame(part: Named, number: int) -> pd.DataFrame:
    own = {name: values for name, values in part.settings.items() if name in columns.RUN_COLUMNS}
    losses = {LOSS + name: values for name, values in part.losses.items()}
    meta = {META + name: values.to_numpy(object) for name, values in part.meta.items()}
    fixed = {"run": part.run, "base": part.run, "part": number, "in_order": part.part.in_order}
    return pd.DataFrame({**fixed, **part.volumes, **own, **losses, **meta})


def _at_volumes(rows: pd.DataFrame, volume: str, parts: Sequence[Named]) -> tuple[pd.DataFrame, list[str]]:
    """Return the rows after the training began, files of one run following each other by their first volumes."""
    for part in parts:
        blank = np.isnan(part.volumes[volume])
        if blank.any():
            raise InputError(f"{part.place(int(np.argmax(blank)), volume)}: blank; every row needs its {volume}")
    begins = rows.groupby(["run", "part"])[volume].transform("min")
    rows = rows.iloc[np.argsort(begins.to_numpy(), kind="stable")].reset_index(drop=True)
    before = rows[volume].to_numpy(np.float64) == 0
    notes = [f"{before.sum()} rows at {volume} 0, before the training, are left out"] if before.any() else []
    return rows.iloc[np.flatnonzero(~before)].reset_index(drop=True), notes


def _later_counts(rows: pd.DataFrame, volume: str, targets: Sequence[str]) -> list[str]:
    """Blank, in place, each loss of a log that a later row of its run takes back to its step or before it.

    In a table, whose order means nothing, it is each loss but the last of one run and step.
    """
    out: dict[str, int] = {}
    for target in targets:
        there = rows.loc[rows[target].notna(), ["run", volume, "in_order", target]]
        backwards = there.iloc[::-1]
        least = backwards.groupby("run")[volume].cummin()
        # The least volume of all later rows of the run; NaN at its last.
        later = least.groupby(backwards["run"]).shift(1).reindex(there.index)
        again = there.duplicated(["run", volume], keep="last")
        gone = there[(there[volume] >= later).where(there["in_order"], again)]
        if gone.empty:
            continue
        left = there.drop(index=gone.index).drop_duplicates(["run", volume], keep="last").set_index(["run", volume])
        same = left[target].reindex(pd.MultiIndex.from_frame(gone[["run", volume]])).to_numpy() == gone[target]
        rows.loc[gone.index, target] = np.nan
        for run, count in gone.loc[~same, "run"].value_counts().items():
            out[str(run)] = out.get(str(run), 0) + int(count)
    why = f"since a later row of their run is at their {volume} or went back before it, as after a restart"
    return [f"{sum(out.values())} losses are left out, {why}; the later ones count: {_named(out)}"] if out else []


def _require_one_value(rows: pd.DataFrame, targets: Sequence[str], parts: Sequence[Named]) -> None:
    """Raise where a run has two losses of one target: without a step nothing says which is the later."""
    for target in targets:
        run = _with_two_values(pd.Series(rows.set_index("run")[target]).dropna(), 0.0)
        if run is not None:
            base = rows.loc[rows["run"] == run, "base"].iloc[0]
            places = [
                f"{part.losses[name][i]:.15g} ({part.place(int(i), target)})"
                for part in parts
                if (name := target.removeprefix(LOSS)) in part.losses
                for i in np.flatnonzero((part.run == base) & ~np.isnan(part.losses[name]))
            ]
            raise InputError(
                f"run {run!r} has several losses of {target.removeprefix(LOSS)!r} and no step: "
                f"{listed(places, most=3)}; allowed: one, or rows with their step or tokens (--map NAME=step)"
            )


def _named(runs: Iterable[object]) -> str:
    return listed(map(repr, runs), most=_MOST) or "none"
