"""Splits hold out whole runs, later volumes or larger models, never single rows, as they say."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from bimixjax import InputError, Observations
from bimixjax.comparison.rows import Rows
from bimixjax.comparison.schemes import (
    ChosenRuns,
    LargerSizes,
    LaterVolumes,
    LeaveOneRunOut,
    RunDesigns,
    RunParts,
    Scheme,
    every_run,
)

SHARES = (0.1, 0.2, 0.3, 0.45, 0.6, 0.75, 0.85)


def table(sizes=(1e6, 1e7), volumes=(1000, 2000, 4000, 8000)) -> pd.DataFrame:
    """Seven mixtures at each size and volume, all with a loss."""
    rows = [(f"s{size:g}-{i:02}", size, r, s) for size in sizes for i, r in enumerate(SHARES) for s in volumes]
    frame = pd.DataFrame(rows, columns=["run", "model_size", "mixture/x", "step"])
    return frame.assign(**{"mixture/y": 1 - frame["mixture/x"], "loss/x": 3.0})


def rows(frame: Any = None, at: Any = "last") -> Rows:
    return Rows.of(Observations.from_frame(table() if frame is None else frame), "steps", at)


@pytest.mark.parametrize(
    "scheme",
    [
        LeaveOneRunOut(),
        LeaveOneRunOut(alone=True),
        RunParts(parts=3),
        RunDesigns(runs=(2, 5), draws=4),
        RunDesigns(runs=(2,), donors=(1e6,)),
    ],
)
def test_a_run_is_fitted_or_held_out_as_a_whole(scheme: Scheme) -> None:
    read = rows()
    split = scheme.split(read)
    assert not (split.fitted & split.held_out).any()
    for fitted, held in zip(split.fitted, split.held_out, strict=True):
        assert not set(read.run[fitted]) & set(read.run[held])
        for inner, judged in scheme.within(read, fitted):
            assert not (inner & ~fitted).any()
            assert not (judged & ~fitted).any()
            assert not set(read.run[inner]) & set(read.run[judged])
            assert read.judged[judged].all()


def test_a_run_takes_its_mixture_with_it_unless_alone() -> None:
    read = rows()
    together, alone = LeaveOneRunOut().split(read), LeaveOneRunOut(alone=True).split(read)
    assert (len(together), len(alone)) == (7, 14)
    assert {len(set(read.run[held])) for held in together.held_out} == {2}
    assert {len(set(read.run[held])) for held in alone.held_out} == {1}
    assert (together.held_out.sum(0) == 1).all()
    assert (together.fitted == ~together.held_out).all()
    assert set(together.block) == {0}


def test_parts_hold_out_each_run_once() -> None:
    """Seven mixtures in three parts are three, two and two; both sizes of a mixture go together."""
    read = rows()
    split = RunParts(parts=3).split(read)
    assert sorted(len(set(read.mixture[held])) for held in split.held_out) == [2, 2, 3]
    assert (split.held_out.sum(0) == 1).all()
    assert (split.fitted == ~split.held_out).all()
    assert set(split.group) == {4.0}
    assert set(split.block) == {0}
    assert not np.array_equal(split.held_out, RunParts(parts=3, seed=1).split(read).held_out)
    for parts, seed in ((1, 0), (2, -1)):
        with pytest.raises(InputError, match="allowed: at least 2 parts"):
            RunParts(parts=parts, seed=seed)
    with pytest.raises(InputError, match="8 parts of 7 mixtures"):
        RunParts(parts=8).split(read)


def test_above_64_mixtures_runs_are_held_out_in_parts() -> None:
    many = pd.DataFrame({"run": np.arange(65).astype(str), "mixture/x": np.linspace(0.1, 0.9, 65), "loss/x": 3.0})
    many = many.assign(step=1000, **{"mixture/y": 1 - many["mixture/x"]})
    assert every_run(rows(many.iloc[:64])) == LeaveOneRunOut()
    assert every_run(rows(many)) == RunParts()


def test_designs_are_the_documented_draws_of_runs_in_the_order_of_their_numbers() -> None:
    frame = table(sizes=(1e6,))
    frame["run"] = frame["run"].str.replace("s1e+06-0", "run-")
    frame = frame.replace({"run": {"run-6": "run-10"}})
    read = rows(frame)
    names = np.array(read.names)
    drawn = RunDesigns(runs=(3,), draws=2, first=4).split(read)
    ordered = [f"run-{i}" for i in (0, 1, 2, 3, 4, 5, 10)]
    for d, fitted in zip((4, 5), drawn.fitted, strict=True):
        numbers = np.random.default_rng(3000 + d).choice([0, 1, 2, 3, 4, 5, 10], 3, replace=False)
        assert set(names[read.run[fitted]]) == {f"run-{number}" for number in numbers} <= set(ordered)
    assert drawn.block.tolist() == [0, 1]


def test_few_subsets_are_all_taken_once() -> None:
    read = rows(table(sizes=(1e6,)))
    split = RunDesigns(runs=(2, 6), draws=21).split(read)
    assert split.group.tolist() == [2.0] * 21 + [6.0] * 7
    assert len({tuple(fitted) for fitted in split.fitted}) == 28


def test_sizes_with_too_few_runs_take_no_part_and_donors_are_fitted_only() -> None:
    frame = table()
    few = frame[(frame["model_size"] == 1e6) | frame["run"].isin(["s1e+07-00", "s1e+07-01"])]
    read = rows(few)
    split = RunDesigns(runs=(2,), draws=3).split(read)
    assert not (split.fitted | split.held_out)[:, read.model_size == 1e7].any()
    read = rows()
    split = RunDesigns(runs=(2,), draws=3, donors=(1e6,)).split(read)
    assert split.fitted[:, read.model_size == 1e6].all()
    assert len(RunDesigns(runs=(2,), donors=(1e6,)).within(read, split.fitted[0])) == 2


def test_later_volumes_are_cut_at_shares_of_the_last_one_also_inside() -> None:
    read = rows()
    scheme = LaterVolumes(cuts=(0.25, 0.5))
    split = scheme.split(read)
    assert [read.volume[fitted].max() for fitted in split.fitted] == [2000, 4000]
    assert [read.volume[held].min() for held in split.held_out] == [4000, 8000]
    ((inner, judged),) = scheme.within(read, split.fitted[1])
    assert (read.volume[inner].max(), set(read.volume[judged])) == (1000, {4000})
    assert split.beyond == "volume"


def test_larger_sizes_are_predicted_from_the_smaller_ones() -> None:
    read = rows(table(sizes=(1e6, 2e6, 4e6)))
    scheme = LargerSizes(largest=2e6)
    split = scheme.split(read)
    assert set(read.model_size[split.held_out[0]]) == {4e6}
    ((inner, judged),) = scheme.within(read, split.fitted[0])
    assert (set(read.model_size[inner]), set(read.model_size[judged])) == ({1e6}, {2e6})
    assert LargerSizes(largest=1e6).within(read, read.model_size == 1e6) == []


def test_chosen_runs_are_fitted_and_all_others_held_out() -> None:
    read = rows(table(sizes=(1e6,)))
    split = ChosenRuns(fitted=(("s1e+06-00", "s1e+06-01"), ("s1e+06-02", "s1e+06-03"))).split(read)
    assert split.group.tolist() == [2.0, 2.0]
    assert (split.fitted ^ split.held_out).all()
    named = ChosenRuns(fitted=(("s1e+06-00",),), held_out=(("s1e+06-03",),)).split(read)
    assert set(np.array(read.names)[read.run[named.held_out[0]]]) == {"s1e+06-03"}
    assert ChosenRuns(fitted=(("s1e+06-00",),), groups=(7,)).split(read).group.tolist() == [7.0]


def test_the_last_volume_is_one_that_most_runs_reach() -> None:
    frame = table(sizes=(1e6,))
    longer = frame[frame["run"] == "s1e+06-00"].assign(step=lambda f: f["step"] * 16)
    read = rows(pd.concat([frame, longer]))
    assert set(read.volume[read.judged]) == {8000}
    assert set(rows(frame, at=4000).volume[rows(frame, at=4000).judged]) == {4000}
    assert rows(frame, at="all").judged.all()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: rows(at=5000), "no row has volume 5000"),
        (lambda: rows(at="first"), "at is 'first'"),
        (lambda: LeaveOneRunOut().split(rows(table()[lambda f: f["mixture/x"] == 0.1])), "at least 2"),
        (lambda: RunDesigns(runs=()), "at least one number"),
        (lambda: RunDesigns(runs=(0,)), "at least 1"),
        (lambda: RunDesigns(runs=(7,)).split(rows()), "at most 6"),
        (lambda: RunDesigns(runs=(2,), donors=(3e6,)).split(rows()), "unknown model size"),
        (lambda: LaterVolumes(cuts=(1.5,)), "above 0 and below 1"),
        (lambda: LaterVolumes(cuts=(0.01,)).split(rows()), "nothing to fit"),
        (lambda: LargerSizes(largest=1e7).split(rows()), "one must be larger"),
        (lambda: ChosenRuns(fitted=(("nobody",),)).split(rows()), "unknown run 'nobody'"),
        (lambda: ChosenRuns(fitted=(("s1e+06-00",),), groups=(1, 2)).split(rows()), "one for each"),
        (lambda: ChosenRuns(fitted=((),)).split(rows()), "at least one run"),
        (lambda: ChosenRuns(fitted=(("s1e+06-00",),), held_out=(("s1e+06-00",),)).split(rows()), "no fold fits a run"),
    ],
)
def test_wrong_input_is_named(make, words: str) -> None:
    with pytest.raises(InputError, match=words):
        make()
