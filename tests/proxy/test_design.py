from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bimixjax._base.checks import InputError
from bimixjax.proxy import Design


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_table_reads_back_bit_for_bit(tmp_path: Path, suffix: str) -> None:
    mixtures = np.random.default_rng(0).dirichlet(np.ones(3), 5)
    design = Design.make(["1", "two, three", 'a "b"', "ü", "5"], ["x", "y", "z, z"], mixtures, [0, 1, 2, 3, 2**32 - 1])
    design.write(tmp_path / f"design{suffix}")
    again = Design.read(tmp_path / f"design{suffix}")
    assert (again.runs, again.domains) == (design.runs, design.domains)
    np.testing.assert_array_equal(again.proportions, design.proportions)
    np.testing.assert_array_equal(again.seeds, design.seeds)


def test_the_seed_is_optional_and_columns_have_any_order(tmp_path: Path) -> None:
    (tmp_path / "design.csv").write_text("mixture/b,note,run,mixture/a\n.25,hi,r,.75\n")
    design = Design.read(tmp_path / "design.csv")
    assert design.domains == ("b", "a")
    assert (design.proportions.tolist(), design.seeds.tolist()) == ([[0.25, 0.75]], [0])


def test_rounded_mixtures_are_renormalized() -> None:
    assert Design.make(["r"], ["a", "b"], [[0.333, 0.666]]).proportions.sum() == pytest.approx(1, abs=1e-15)


def test_shards_have_each_run_once() -> None:
    design = Design.make([f"r{i}" for i in range(7)], ["a"], np.ones((7, 1)), range(7))
    shards = [design.shard(i, 3) for i in range(3)]
    assert sorted(run for shard in shards for run in shard.runs) == sorted(design.runs)
    assert [f"r{seed}" for seed in shards[1].seeds] == list(shards[1].runs)


@pytest.mark.parametrize("shard", [(3, 3), (-1, 3), (0, 8), (0, 0)])
def test_impossible_shards_are_errors(shard: tuple[int, int]) -> None:
    with pytest.raises(InputError, match=f"shard is {shard[0]}/{shard[1]}; allowed: 0 <= i < n <= 7"):
        Design.make([f"r{i}" for i in range(7)], ["a"], np.ones((7, 1))).shard(*shard)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([], ["a"], np.ones((0, 1))), "design: run: none given"),
        ((["r", ""], ["a"], np.ones((2, 1))), "design: run: blank name"),
        ((["r", "r"], ["a"], np.ones((2, 1))), "design: run 'r' is there more than once"),
        ((["r"], ["a", "a"], [[0.5, 0.5]]), "design: domain 'a' is there more than once"),
        ((["r"], ["a", "b"], [0.5, 0.5]), r"proportions have shape \(2,\); allowed: \(1, 2\)"),
        ((["r"], ["a", "b"], [[1.5, -0.5]]), "run 'r': proportion of 'b' is -0.5"),
        ((["r"], ["a", "b"], [[0.5, 0.4]]), "run 'r': proportions sum to 0.9"),
        ((["r"], ["a"], [[1.0]], [-1]), "run 'r': seed is -1"),
        ((["r"], ["a"], [[1.0]], [0.5]), "run 'r': seed is 0.5"),
        ((["a\nb"], ["a"], [[1.0]]), "line break"),
    ],
)
def test_what_cannot_be_a_design_is_an_error(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Design.make(*arguments)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "design.csv: not a readable csv file"),
        ("run,a\nr,1\n", "design.csv has no mixture column; needed: mixture/<name>; columns: run, a"),
        ("mixture/a\n1\n", "design.csv has no column 'run'; columns: mixture/a"),
        ("run,mixture/a,mixture/a\nr,1,0\n", "column 'mixture/a' occurs more than once"),
        ("run,mixture/a\nr,1,2\n", "design.csv: .*Expected 2 columns, got 3"),
        (
            "run,mixture/a,mixture/b\nr,.5,.5\ns,half,.5\n",
            r"design.csv, data row 2 \(line 3\), column 'mixture/a', run 's': got 'half', a number belongs here",
        ),
        ("run,mixture/a\nr,nan\n", r"design.csv: run 'r': proportion of 'a' is nan"),
        ("run,mixture/a,seed\nr,1,x\n", r"\(line 2\), column 'seed', run 'r': got 'x'"),
        ("run,mixture/a\n", "design.csv: no data rows"),
    ],
)
def test_errors_of_a_table_say_where(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "design.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        Design.read(tmp_path / "design.csv")


def test_a_missing_table_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        Design.read(tmp_path / "design.csv")


def test_a_design_of_several_models_reads_back_and_falls_apart_by_model(tmp_path: Path) -> None:
    runs = Design.make(["r", "s"], ["a", "b"], [[0.5, 0.5], [0.9, 0.1]], [3, 4])
    design = runs.of_models(["0.1m", "1m"])
    design.write(tmp_path / "design.csv")
    again = Design.read(tmp_path / "design.csv")
    assert (again.runs, again.models) == (("r", "s", "r", "s"), ("0.1m", "0.1m", "1m", "1m"))
    assert again.shared == {"r", "s"}
    for part in again.by_model().values():
        assert (part.runs, part.models) == (runs.runs, None)
        np.testing.assert_array_equal(part.proportions, runs.proportions)
        assert part.seeds.tolist() == [3, 4]
    assert again.shard(1, 3).models == ("0.1m",)
    assert again.shard(0, 3).runs == ("r", "s")


@pytest.mark.parametrize(
    ("runs", "models", "message"),
    [
        (["r", "r"], ["1m", "1m"], "run 'r' is there more than once"),
        (["r"], ["1mm"], "model is '1mm'; allowed: .* Did you mean '1m'"),
        (["r"], ["1m", "10m"], "2 models for 1 runs"),
        ([""], ["1m"], "run: blank name"),
    ],
)
def test_models_that_do_not_fit_the_runs_are_errors(runs: list[str], models: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Design.make(runs, ["a"], np.ones((len(runs), 1)), models=models)


def test_a_design_goes_on_as_it_was_written_but_for_rounding(tmp_path: Path) -> None:
    path, shares, far = tmp_path / "design.csv", np.array([[0.3, 0.7], [0.9, 0.1]]), np.array([[1, -1], [0, 0]])
    first = Design.make(["r", "s"], ["a", "b"], shares, [1, 2])
    assert first.settle(path) is first
    moved = shares + 1e-9 * far
    again = Design.make(["r", "s"], ["a", "b"], moved, [1, 2]).settle(path)
    np.testing.assert_array_equal(again.proportions, shares)
    written = path.read_bytes()
    for runs, mixtures, seeds, message in (
        (["r", "s"], shares + 1e-5 * far, [1, 2], "run 'r' differs in its mixture by 1e-05"),
        (["r", "s"], moved, [1, 3], "run 's' differs in its seed"),
        (["r", "t"], shares, [1, 2], "its runs differ"),
        (["r"], shares[:1], [1], "its runs differ"),
    ):
        with pytest.raises(InputError, match=message):
            Design.make(runs, ["a", "b"], mixtures, seeds).settle(path)
    assert path.read_bytes() == written
