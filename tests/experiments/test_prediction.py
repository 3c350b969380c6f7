"""The study of prediction on made-up losses and comparisons, where what it must find is known."""

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import bimixjax
from bimixjax import Observations
from bimixjax.comparison import ChosenRuns, Comparison
from experiments.prediction import cases, config, figures, goals, jobs, run, store, summary
from experiments.prediction.cases import Case
from experiments.prediction.config import AUTO, Table

LAW = "power_linear"
SHARES = (0.05, 0.15, 0.25, 0.35, 0.45, 0.55, 0.65, 0.75, 0.85, 0.95)


def losses(runs: str, sizes=(1e6,), volumes=(1000,)) -> pd.DataFrame:
    """Losses of x and y that fall with their own share and the volume, to the rhythm of no law exactly."""
    rows = [(f"{runs}-{n:g}-{i:03}", n, r, s) for n in sizes for i, r in enumerate(SHARES) for s in volumes]
    frame = pd.DataFrame(rows, columns=["run", "model_size", "mixture/x", "step"])
    frame["mixture/y"] = 1 - frame["mixture/x"]
    for domain, alpha in (("x", 0.1), ("y", 0.3)):
        frame[f"loss/{domain}"] = frame[f"mixture/{domain}"] ** -alpha * (30 * frame["step"] ** -0.5 + 2)
    return frame


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> run.Options:
    """A study of two small tables."""
    sizes = (1e6, 4e6)
    losses("g", sizes, (1000, 2000, 4000)).to_csv(tmp_path / "pile_5groups.csv", index=False)
    for name in ("train", "test"):
        losses(name).to_csv(tmp_path / f"pile_17domains_{name}.csv", index=False)
    small = Table(name="pile_5groups", sizes=sizes, first=1000, last=4000)
    settings = {"GROUPS": small, "SIZES": sizes, "RUNS": (3, 4), "DOMAIN_RUNS": (6,), "RANKED_TARGET": "x"}
    settings |= {"SINGLE": (f"{LAW}_volume",), "OF_DOMAINS": (LAW,)}
    for name, value in settings.items():
        monkeypatch.setattr(config, name, value)
    return run.Options(observations=tmp_path, out=tmp_path / "out", cache=tmp_path / "cache", draws=2, processes=1)


def made(groups=(2.0, 4.0), off=(0.99, 1.03, 1.02), law_names=(AUTO, "bimix", "joint")) -> Comparison:
    """Two folds in each group, six held-out runs each; laws are off by their factors, more in the second fold."""
    folds, runs = 2 * len(groups), 6
    fold = np.repeat(np.arange(folds), runs)
    measured = 3 + np.arange(fold.size * 2).reshape(-1, 2) / fold.size
    miss = (np.array(off) - 1)[:, None] * (1 + 0.1 * (fold % 2))
    predicted = measured * (1 + miss)[:, :, None]
    return Comparison(
        laws=law_names,
        targets=("x", "y"),
        level=0.9,
        grouped_by="runs",
        beyond="",
        group=np.repeat(groups, 2),
        block=np.arange(folds),
        fold=fold,
        run=np.tile(np.array([f"r{i}" for i in range(runs)], object), folds),
        mixture=np.tile(np.arange(runs), folds),
        model_size=np.ones(fold.size),
        volume=np.ones(fold.size),
        outside=np.zeros(fold.size, bool),
        absent=np.zeros(measured.shape, bool),
        measured=measured,
        predicted=predicted,
        lower=predicted * 0.9895,
        upper=predicted * 1.0105,
        at_bound=np.zeros((3, folds)),
        unconverged=np.zeros((3, folds)),
    )


def case(part: str, name: str) -> Case:
    return Case(part=part, name=name, table=Observations.from_frame(losses("r")), schemes=(), laws={})


@pytest.mark.slow
def test_the_study_runs_and_goes_on_from_what_it_kept(
    tiny: run.Options, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    options = dataclasses.replace(tiny, parts=("groups",))
    run.main(options)
    first = capsys.readouterr()
    assert f"pile_5groups, {AUTO}, runs 3 to 4" in first.err
    written = pd.read_csv(options.out / "groups_verdicts.csv")
    assert written["best"].tolist() == [f"{LAW}_volume"] * 2
    assert written["group"].tolist() == [3, 4]
    assert np.isfinite(written[["auto_error", "difference", "coverage"]].to_numpy()).all()
    assert {path.name for path in options.out.iterdir()} >= {
        *("groups_laws.csv", "groups_sizes.csv", "goals.csv", "intervals.csv", "times.csv"),
        *("environment.json", "groups_pile_5groups.png", "intervals.png"),
    }
    monkeypatch.setattr(bimixjax, "compare", None)
    run.main(options)
    again = capsys.readouterr()
    assert again.err == ""
    assert again.out == first.out
    assert json.loads((options.out / "environment.json").read_text())["seconds"] > 0


@pytest.mark.slow
def test_several_processes_find_what_one_does(
    tiny: run.Options, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What other processes say of their jobs is not captured here."""
    monkeypatch.setattr(config, "SINGLE", names := (f"{LAW}_volume", "chinchilla"))
    one = dataclasses.replace(tiny, parts=("groups",), laws=names)
    two = dataclasses.replace(one, processes=2, cache=tiny.cache / "two", out=tiny.out / "two")
    run.main(one)
    assert "chinchilla, runs 3 to 4" in capsys.readouterr().err
    run.main(two)
    assert "chinchilla" not in capsys.readouterr().err
    first, second = (pd.read_csv(options.out / "groups_laws.csv") for options in (one, two))
    pd.testing.assert_frame_equal(first, second, rtol=1e-6)
    assert len(list(two.cache.glob("*.npz"))) == 2
    assert json.loads((two.cache / "clock.json").read_text())["seconds"] > 0


def test_no_process_is_none(tiny: run.Options) -> None:
    with pytest.raises(bimixjax.InputError, match="--processes is 0"):
        run.main(dataclasses.replace(tiny, processes=0))


def test_processes_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs.os, "sched_getaffinity", lambda _: {0, 1, 2, 5}, raising=False)
    assert jobs._shares(2) == [{0, 2}, {1, 5}]
    assert jobs._shares(6) == [{0}, {1}, {2}, {5}, {0}, {1}]


def test_trees_are_judged_beside_a_law(tiny: run.Options) -> None:
    pytest.importorskip("lightgbm")
    run.main(dataclasses.replace(tiny, parts=("domains",), laws=(LAW,)))
    rows = pd.read_csv(tiny.out / "domains_laws.csv").to_dict("records")
    errors = {row["law"]: row["error"] for row in rows}
    assert set(errors) == {LAW, config.TREES}
    assert errors[LAW] < errors[config.TREES] < 0.2
    assert {row["group"] for row in rows} == {6}
    assert not (tiny.out / "goals.csv").exists()


def test_mixtures_of_the_donor_are_not_judged(tiny: run.Options, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "DONOR_MIXTURES", 5)
    monkeypatch.setattr(config, "DONOR_RUNS", (2,))
    everywhere, apart = cases.donor(tiny.observations, 2)
    (scheme,) = apart.schemes
    assert isinstance(scheme, ChosenRuns)
    for fitted, held in zip(scheme.fitted, scheme.held_out, strict=True):
        donors = {name[-3:] for name in fitted if "-1e+06-" in name}
        larger = {name[-3:] for name in fitted if "-4e+06-" in name}
        judged = {name[-3:] for name in held}
        assert (len(donors), len(larger), len(judged)) == (5, 2, 5)
        assert larger < donors
        assert not donors & judged
    assert everywhere.name == config.DONOR_ALL


def test_few_runs_of_many_domains_are_judged_on_draws_that_chose_nothing(tiny: run.Options) -> None:
    """Draws are counted from 10; topics have tokens, and targets that are no domains."""
    topics = losses("t").rename(columns={"step": "tokens", "loss/x": "loss/task", "loss/y": "loss/other"})
    topics.to_csv(tiny.observations / "topics_24.csv", index=False)
    domains, tasks = cases.few(tiny.observations, 2)
    expected = [np.random.default_rng(1000 * 3 + d).choice(10, 3, replace=False) for d in (10, 11)]
    scheme = domains.schemes[0]
    assert isinstance(scheme, ChosenRuns)
    assert [[int(name[-3:]) for name in fitted] for fitted in scheme.fitted] == [draw.tolist() for draw in expected]
    assert scheme.groups == (3, 3)
    found = bimixjax.compare({"power_linear": "power_linear"}, tasks.table, folds=tasks.schemes[0], volume=tasks.unit)
    assert found.targets == ("task", "other")
    assert found.group.tolist() == [3, 3, 4, 4]
    assert set(tasks.laws) == {AUTO, *config.OF_TASKS}
    assert not {"bimix_offset", "dcpt"} & set(tasks.laws)


def test_what_is_kept_is_what_was_found(tmp_path: Path) -> None:
    found = made()
    store.save(tmp_path / "a.npz", store.Timed(found=found, seconds=1.5, processor_seconds=2.5))
    timed = store.load(tmp_path / "a.npz")
    assert (timed.seconds, timed.processor_seconds) == (1.5, 2.5)
    pd.testing.assert_frame_equal(timed.found.to_frame(), found.to_frame())


def test_comparisons_are_put_together() -> None:
    whole, off = made(), (0.99, 1.03, 1.02)
    parts = [made(groups=(2.0,), off=(factor,), law_names=(law,)) for law, factor in zip(whole.laws, off, strict=True)]
    beside = store.together(parts)
    two = store.one_after_the_other([beside, dataclasses.replace(beside, group=np.full(2, 4.0))])
    assert two.to_frame()["group"].tolist() == [2.0] * 3 + [4.0] * 3
    assert two.block.tolist() == [0, 1, 2, 3]
    other = dataclasses.replace(parts[1], measured=parts[1].measured + 1)
    with pytest.raises(ValueError, match="same rows"):
        store.together([parts[0], other])


def test_a_digest_of_sources_reads_code_and_no_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "PACKAGE", tmp_path)

    def of(text: str) -> str:
        (tmp_path / "m.py").write_text(text)
        store.sources.cache_clear()
        return store.sources(("*.py",))

    first = of('"""Words."""\n\n\ndef f():\n    """Say."""\n    return 1\n')
    assert of('"""Others."""\ndef f():\n    return 1  # why\n') == first
    assert of("def f():\n    return 2\n") != first


def test_auto_is_set_beside_the_best_single_law() -> None:
    first, second = summary.verdicts(made())
    assert (first["group"], first["best"], second["group"]) == (2.0, "joint", 4.0)
    assert first["ratio"] == pytest.approx(0.5)
    assert first["difference"] == pytest.approx(-0.0105)
    assert first["difference_se"] == pytest.approx(0.0005)
    assert first["spearman_difference"] == pytest.approx(0)


def test_medians_are_over_draws() -> None:
    rows = {(row["law"], row["group"]): row for row in summary.laws(made())}
    assert rows["bimix", 4.0]["median"] == pytest.approx(0.0315)


def test_intervals_are_counted_by_size_and_target() -> None:
    rows = summary.intervals(made())
    assert len(rows) == 2 * 2
    assert rows[0]["cells"] == 2 * 6
    assert rows[0]["coverage"] == pytest.approx(0.5)
    assert rows[0]["noise_width"] == pytest.approx(2 * 1.645 * config.NOISE, rel=1e-3)


def test_goals_say_what_was_reached_and_what_was_not() -> None:
    found = goals.all_of([(case("groups", "pile_5groups"), made())], seconds=2000.0)
    met = {(row["what"].partition(": ")[2] or row["what"], row["at"]): row["met"] for row in found}
    assert met["error of auto minus best single law, bp", "K = 2"] == "yes"
    assert met["error of auto over best single law, geometric mean", "all K"] == "yes"
    assert met["coverage of 90% intervals", "K >= 4"] == "NO"
    assert met["the whole study, compilation included, seconds", "this machine"] == "NO"
    worse = goals.all_of([(case("groups", "pile_5groups"), made(off=(1.04, 1.03, 1.02)))], seconds=1.0)
    assert [row["met"] for row in worse[:3]] == ["NO", "NO", "NO"]


@pytest.mark.parametrize("part", ["few", "small"])
def test_ranks_are_a_goal_where_there_are_enough_mixtures(part: str) -> None:
    first, second, _ = goals.all_of([(case(part, "table"), made())], seconds=None)
    assert first["what"] == second["what"] == "table: Spearman of auto minus best single law"
    assert (first["at"], second["at"], first["met"]) == ("K = 2", "K = 4", "yes")
    found = made()
    found.measured[np.arange(len(found.measured)) % 6 < 2] = np.nan
    (finite,) = goals.all_of([(case(part, "table"), found)], seconds=None)
    assert "not finite" in finite["what"]


def test_the_time_of_a_part_is_no_goal() -> None:
    found = [(case("groups", "pile_5groups"), made())]
    assert len(goals.all_of(found, seconds=None)) == len(goals.all_of(found, seconds=1.0)) - 1
    assert run.Options().whole
    assert not run.Options(laws=("dcpt",)).whole
    assert not run.Options(draws=2).whole


def test_goals_of_cuts_are_means_over_them() -> None:
    found = made(groups=(0.4, 0.5))
    (row, finite, _) = goals.all_of([(case("later", "pile_5groups"), found)], seconds=1.0)
    assert row["measured"] == "0.0105"
    assert row["wanted"] == "at most 0.021 (joint)"
    assert row["met"] == finite["met"] == "yes"


def test_a_silent_law_reaches_no_goal() -> None:
    found = made(groups=(2.0,), off=(math.nan, 1.03, 1.02))
    rows = goals.all_of([(case("sizes", "pile_5groups"), found)], seconds=1.0)
    assert [(row["measured"], row["met"]) for row in rows[:2]] == [("-", "NO"), ("24", "NO")]


def test_one_prediction_that_is_not_finite_leaves_no_error_and_is_counted() -> None:
    found = made()
    found.predicted[0, 0, 0] = math.nan
    rows = {(row["law"], row["group"]): row for row in summary.laws(found)}
    assert [rows[AUTO, group]["failed"] for group in (2.0, 4.0)] == [1, 0]
    assert [math.isnan(rows[AUTO, 2.0][name]) for name in ("error", "bias", "r2", "common", "median")] == [True] * 5
    assert math.isfinite(rows[AUTO, 4.0]["error"])
    sizes = {(row["law"], row["group"]): row for row in summary.by_size(found)}
    assert (sizes[AUTO, 2.0]["failed"], math.isnan(sizes[AUTO, 2.0]["error"])) == (1, True)
    first, second = summary.verdicts(found)
    assert (first["auto_failed"], second["auto_failed"]) == (1, 0)
    assert math.isnan(first["difference"])
    reached = goals.all_of([(case("groups", "pile_5groups"), found)], seconds=1.0)
    met = {(row["what"].partition(": ")[2], row["at"]): (row["measured"], row["met"]) for row in reached}
    assert met["error of auto minus best single law, bp", "K = 2"] == ("-", "NO")
    assert met["predictions of auto that are not finite", "all folds"] == ("1", "NO")


def test_figures_show_every_law() -> None:
    drawn = figures.later(made(groups=(0.4, 0.5)))
    assert [text.get_text() for text in drawn.legends[0].get_texts()] == [AUTO, "bimix", "joint"]
    left, right = figures.calibration(summary.intervals(made())).axes
    assert np.asarray(left.lines[1].get_ydata()) == pytest.approx([0.5, 0.5])
    assert len(np.asarray(right.lines[0].get_xdata())) == 4


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(bimixjax.InputError, match="no observation tables"):
        run.main(run.Options(observations=tmp_path / "none", out=tmp_path, cache=tmp_path))
