"""Every law is judged on the same held-out runs; scores, differences, intervals and words against hand counts."""

import dataclasses
import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.stats

import bimixjax
from bimixjax import InputError, Observations
from bimixjax.comparison import LargerSizes, LaterVolumes, RunDesigns, judge
from bimixjax.comparison.intervals import Errors, half_widths, nearest
from bimixjax.comparison.rows import Rows
from bimixjax.solve import Status, VarPro

NAN = math.nan
QUICK = VarPro(starts=1, max_steps=30)
SHARES = np.array([0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9])


def table(sizes=(1e6,), noise=0.0, volumes=(1000, 2000, 4000, 8000)) -> Observations:
    """Losses of x and y from BiMix, smaller for larger models; with noise where asked."""
    rows = [(f"n{n:g}-{i:02}", n, r, s) for n in sizes for i, r in enumerate(SHARES) for s in volumes]
    frame = pd.DataFrame(rows, columns=["run", "model_size", "mixture/x", "step"])
    frame["mixture/y"] = 1 - frame["mixture/x"]
    random = np.random.default_rng(0)
    for domain, alpha in (("x", 0.1), ("y", 0.3)):
        loss = frame[f"mixture/{domain}"] ** -alpha * (30 * frame["step"] ** -0.5 + 2) * frame["model_size"] ** -0.05
        frame[f"loss/{domain}"] = loss * np.exp(noise * random.standard_normal(len(frame)))
    return Observations.from_frame(frame)


def compared(laws, observations: Observations, **options) -> Any:
    """The comparison as it is; frames have types that hide what is in them."""
    return bimixjax.compare(laws, observations, **options)


def of_laws(found: Any) -> Any:
    """The rows of laws, without those of baselines."""
    frame = found.to_frame()
    return frame[~frame["baseline"]]


def rough(observations: Observations) -> np.ndarray:
    """Losses that are off by some 2 %."""
    noise = np.random.default_rng(1).standard_normal(observations.losses.shape)
    return observations.losses * np.exp(0.02 * noise)


@pytest.fixture(scope="module")
def designs() -> Any:
    """Two laws, four and six runs of ten, at two sizes."""
    folds = RunDesigns(runs=(4, 6), draws=3)
    observations = table(sizes=(1e6, 1e7), noise=0.01)
    return compared(["bimix", "bimix_offset"], observations, folds=folds, solver=QUICK)


def told(monkeypatch: pytest.MonkeyPatch, **losses) -> None:
    """Let laws predict what they are told, for every row of every fold."""

    def fit_folds(law, observations, weights, **options):
        shape = (len(weights), 1, len(options["targets"]))
        predicted = np.broadcast_to(losses[law.name](observations), (len(weights), len(observations), shape[2]))
        rows, ends = np.ones(shape, int), np.full(shape, int(Status.CONVERGED))
        return SimpleNamespace(predicted=predicted, rows=rows, status=ends, at_bound=np.zeros(shape, bool))

    monkeypatch.setattr(judge, "fit_folds", fit_folds)


def test_a_true_law_is_exact_on_held_out_runs() -> None:
    found = compared(["bimix"], table(sizes=(1e6, 1e7)), level=None).to_frame().iloc[0]
    assert found["error"] < 1e-3
    assert (found["cells"], found["silent"], found["regret"]) == (40, 0, 0)
    assert found["spearman"] == pytest.approx(1)
    assert found["r2"] > 0.999
    assert (found["group"], found["difference"]) == (9, 0)


def test_predictions_are_those_of_a_fit_to_the_other_runs() -> None:
    observations = table(noise=0.01)
    found = compared(["bimix"], observations, folds=RunDesigns(runs=(5,), draws=2), level=None)
    cells = found.cells()
    fold = cells[cells["fold"] == 1]
    known, held = observations.split(fold["run"].unique())
    fit = bimixjax.fit("bimix", known)
    last = held.select(volume=(8000, None))
    assert fold["predicted"].to_numpy() == pytest.approx(np.asarray(fit.predict(last.proportions, 8000)).ravel())
    assert fold["measured"].to_numpy() == pytest.approx(last.losses.ravel())


def test_every_law_has_the_same_cells(designs: Any) -> None:
    parts = [part for _, part in designs.cells().groupby("law", observed=True)]
    for column in ("group", "fold", "run", "target", "measured"):
        assert parts[0][column].tolist() == parts[1][column].tolist()
    assert of_laws(designs)["cells"].tolist() == [3 * 6 * 2 * 2] * 2 + [3 * 4 * 2 * 2] * 2


def test_the_summary_is_what_the_cells_say(designs: Any) -> None:
    cells, summary = designs.cells(), designs.to_frame().set_index(["law", "group"])
    own = cells[(cells["law"] == "bimix") & (cells["group"] == 4)]
    by_fold = own["relative"].abs().groupby(own["fold"]).mean()
    row = summary.loc[("bimix", 4.0)]
    assert row["error"] == pytest.approx(by_fold.mean())
    assert row["error_se"] == pytest.approx(by_fold.std() / 3**0.5)
    assert row["bias"] == pytest.approx(own["relative"].mean())
    by_target = own["relative"].abs().groupby(own["target"], observed=True).mean()
    assert (row["worst"], row["worst_target"]) == (pytest.approx(by_target.max()), by_target.idxmax())
    inside = (own["lower"] <= own["measured"]) & (own["measured"] <= own["upper"])
    assert row["coverage"] == pytest.approx(inside.mean())
    assert row["width"] == pytest.approx(((own["upper"] - own["lower"]) / own["measured"]).mean())
    ranks = []
    for _, part in own.groupby(["fold", "model_size"]):
        losses = part.groupby("run")[["predicted", "measured"]].mean()
        ranks.append(scipy.stats.spearmanr(losses["predicted"], losses["measured"])[0])
    assert row["spearman"] == pytest.approx(np.mean(ranks))


def test_differences_are_paired_over_folds(designs: Any) -> None:
    cells = designs.cells()
    own = cells[cells["group"] == 6]
    errors = own.assign(e=own["relative"].abs()).pivot_table("e", "fold", "law", observed=True)
    gaps = errors["bimix_offset"] - errors["bimix"]
    mean, error = designs.difference("bimix_offset", "bimix", group=6)
    assert (mean, error) == (pytest.approx(gaps.mean()), pytest.approx(gaps.std() / 3**0.5))
    best, other = of_laws(designs).query("group == 6")[["law", "difference", "difference_se"]].to_numpy()
    assert best[1:].tolist() == [0, 0]
    assert other[1:].tolist() == pytest.approx([abs(mean), error])
    assert designs.difference("bimix", "bimix_offset", group=6)[0] == pytest.approx(-mean)


def test_ranks_of_single_runs_are_taken_over_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    told(monkeypatch, bimix=rough)
    found = compared(["bimix"], table(), level=None)
    scores = found.scores()
    assert scores["law"].tolist() == ["bimix", "uniform", "zero-run", "best run"]
    losses = found.cells().groupby("run")[["predicted", "measured"]].mean()
    expected = scipy.stats.spearmanr(losses["predicted"], losses["measured"])[0]
    assert scores["spearman"][0] == pytest.approx(expected)
    scores["spearman"] = 0.0
    assert found.scores()["spearman"][0] == pytest.approx(expected)
    assert found.to_frame()["error_se"][0] > 0


def test_what_a_law_is_silent_of_is_counted_and_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def partly(observations: Observations) -> np.ndarray:
        return np.where(observations.proportions[:, :1] < 0.15, [np.inf, 1.0], 1.1) * observations.losses

    told(monkeypatch, bimix=partly, additive=lambda o: 1.2 * o.losses, joint=lambda o: np.nan * o.losses)
    said = compared(["joint", "bimix", "additive"], table(), level=None)
    absent = np.isposinf(said.predicted).any(axis=0)
    found = of_laws(dataclasses.replace(said, absent=absent)).set_index("law")
    assert found.index.tolist() == ["bimix", "additive", "joint"]
    assert found["silent"].to_dict() == {"bimix": 2, "additive": 0, "joint": 20}
    assert found["failed"].to_dict() == {"bimix": 0, "additive": 0, "joint": 20}
    assert found["error"]["additive"] == pytest.approx(0.2)
    assert found["error"]["bimix"] == pytest.approx(np.mean([0.0, 0.0, *[0.1] * 8]))
    assert found["difference"]["additive"] == pytest.approx(np.mean([0.2, 0.2, *[0.1] * 8]))
    assert math.isnan(found["error"]["joint"])
    assert found["trust"]["joint"].endswith("; no finite prediction")
    assert "not predicted at a share of zero: 2 of 20 losses" in found["trust"]["bimix"]


def test_predictions_that_are_not_finite_are_counted_and_leave_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(value: float) -> Any:
        return lambda o: np.where(o.proportions[:, :1] > 0.85, [value, 1.0], 1.001) * o.losses

    told(monkeypatch, bimix=broken(NAN), joint=broken(np.inf), additive=lambda o: 1.2 * o.losses)
    said = compared(["bimix", "joint", "additive"], table(), level=None)
    found = of_laws(said).set_index("law")
    assert found.index[0] == "additive"
    assert found["failed"].to_dict() == found["silent"].to_dict() == {"bimix": 1, "joint": 1, "additive": 0}
    for law in ("bimix", "joint"):
        assert found.loc[law, ["error", "bias", "r2", "common", "difference"]].isna().all()
        assert "1 of 20 predictions are not finite: no error to compare" in found["trust"][law]
        # They rank last among the others, which are in order.
        assert np.isfinite(found["spearman"][law])
        assert said.difference("additive", law)[0] != said.difference("additive", law)[0]
    # What others fail at is not taken from the cells that are compared.
    assert found["common"]["additive"] == pytest.approx(0.2)
    scores = said.scores().set_index("law")
    assert scores["failed"][list(said.laws)].to_dict() == {"bimix": 1, "joint": 1, "additive": 0}
    assert np.isnan(scores["error"]["bimix"])


def test_an_interval_of_a_failed_prediction_holds_nothing() -> None:
    found = compared(["bimix"], table(), level=0.9)
    predicted, lower, upper = found.predicted.copy(), found.lower.copy(), found.upper.copy()
    for values in (predicted, lower, upper):
        values[0, :5] = NAN
    broken = dataclasses.replace(found, predicted=predicted, lower=lower, upper=upper)
    kept = found.cells().iloc[10:]
    inside = ((kept["lower"] <= kept["measured"]) & (kept["measured"] <= kept["upper"])).sum()
    assert broken.to_frame()["coverage"][0] == pytest.approx(inside / 20)


def test_a_share_of_zero_is_told_from_a_failure() -> None:
    frame = table().to_frame()
    frame.loc[frame["run"] == frame["run"].iloc[0], ["mixture/x", "mixture/y"]] = [0.0, 1.0]
    found = compared(["bimix", "additive"], Observations.from_frame(frame), level=None)
    rows = of_laws(found).set_index("law")
    assert rows["failed"].to_dict() == {"bimix": 0, "additive": 0}
    assert rows["silent"].to_dict() == {"bimix": 1, "additive": 0}
    assert np.isfinite(rows["error"]).all()


def test_common_cells_are_those_of_which_all_laws_speak(monkeypatch: pytest.MonkeyPatch) -> None:
    def partly(observations: Observations) -> np.ndarray:
        return np.where(observations.proportions[:, :1] < 0.15, np.inf, 1.1) * observations.losses

    def twofold(observations: Observations) -> np.ndarray:
        return np.where(observations.proportions[:, :1] < 0.15, 2.0, 1.2) * observations.losses

    told(monkeypatch, bimix=partly, additive=twofold)
    said = compared(["bimix", "additive"], table(), level=None)
    found = of_laws(dataclasses.replace(said, absent=np.isposinf(said.predicted[0]))).set_index("law")
    assert found["error"]["additive"] == pytest.approx(0.2 * 1.0 + 0.8 * 0.2)
    assert found["common"].to_dict() == pytest.approx({"bimix": 0.1, "additive": 0.2})


def test_regret_is_what_the_chosen_mixture_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    observations = table()
    told(monkeypatch, bimix=lambda o: 5 - o.losses)
    found = compared(["bimix"], observations, level=None).to_frame()
    means = observations.select(volume=(8000, None)).losses.mean(1)
    assert found["regret"][0] == pytest.approx(means.max() - means.min())
    assert found["regret_normalized"][0] == pytest.approx((means.max() - means.min()) / (means.mean() - means.min()))
    assert found["spearman"][0] == pytest.approx(-1)
    assert found["top3"][0] == 0


def test_laws_without_size_are_silent_of_larger_models() -> None:
    folds = LargerSizes(largest=4e6)
    found = compared(["bimix", "bimix_sized"], table(sizes=(1e6, 4e6, 1.6e7)), folds=folds, solver=QUICK)
    summary = of_laws(found).set_index("law")
    assert summary["silent"].to_dict() == {"bimix_sized": 0, "bimix": 20}
    assert summary["error"]["bimix_sized"] < 0.02
    assert "extrapolates in model size" in summary["trust"]["bimix_sized"]
    assert np.isfinite(summary["width"]["bimix_sized"])


def test_later_volumes_are_judged_at_the_last_one(monkeypatch: pytest.MonkeyPatch) -> None:
    told(monkeypatch, bimix=rough)
    found = compared(["bimix"], table(), folds=LaterVolumes(cuts=(0.5,)))
    assert set(found.volume) == {8000}
    assert "extrapolates in volume" in found.to_frame()["trust"][0]
    everything = compared(["bimix"], table(), folds=LaterVolumes(cuts=(0.25,)), at="all", level=None)
    assert set(everything.volume) == {4000, 8000}


def test_intervals_of_single_laws_cover(monkeypatch: pytest.MonkeyPatch) -> None:
    told(monkeypatch, bimix=rough)
    found = compared(["bimix"], table(), folds=RunDesigns(runs=(8,), draws=40), level=0.8).to_frame().iloc[0]
    assert 0.65 <= found["coverage"] <= 0.98
    assert 0.02 < found["width"] < 0.2


def test_widths_are_quantiles_of_scaled_errors_and_grow_with_distance() -> None:
    errors = Errors(size=np.ones(9), distance=np.zeros(9), log=np.linspace(0.01, 0.09, 9)[:, None])
    near, far = half_widths(errors, 0.8, np.ones(2), np.array([0.0, 0.05]))[:, 0]
    assert (near, far) == (pytest.approx(0.08), pytest.approx(0.16))


def test_too_few_errors_are_pooled_over_targets_then_bounded_by_the_largest() -> None:
    log: Any = 0.01 * np.array([[1.0, 2.0, 9.0], [-2.0, 3.0, 8.0], [3.0, -4.0, 7.0]])
    errors = Errors(size=np.ones(3), distance=np.zeros(3), log=log)
    assert half_widths(errors, 0.7, np.ones(1), np.zeros(1))[0] == pytest.approx([0.03, 0.04, 0.09])
    assert half_widths(errors, 0.76, np.ones(1), np.zeros(1))[0] == pytest.approx([0.08] * 3)
    assert half_widths(errors, 0.99, np.ones(1), np.zeros(1))[0] == pytest.approx([0.09] * 3)
    nothing = dataclasses.replace(errors, log=np.full((3, 3), NAN))
    assert np.isnan(half_widths(nothing, 0.9, np.ones(1), np.zeros(1))).all()


def test_the_nearest_fitted_mixture_is_one_of_the_same_size() -> None:
    observations = table(sizes=(1e6, 1e7), volumes=(1000,))
    rows = Rows.of(observations, "steps", "last")
    fitted = (rows.model_size == 1e6) | (observations.proportions[:, 0] == 0.5)
    distance = nearest(rows, observations.proportions, fitted)
    r = observations.proportions
    hellinger = np.sqrt(1 - np.sqrt(r[10:] * r[5]).sum(1))
    assert distance[:10] == pytest.approx(np.zeros(10), abs=1e-7)
    assert distance[10:] == pytest.approx(hellinger, abs=1e-7)


def test_what_should_not_be_believed_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    told(monkeypatch, bimix=rough)
    few = table().select(runs=["n1e+06-00", "n1e+06-04", "n1e+06-09"])
    words = compared(["bimix"], few, level=None).to_frame()["trust"][0]
    assert "3 held-out mixtures only" in words
    assert "67% of rows outside the fitted proportions" in words

    def fit_folds(law, observations, weights, **options):
        shape = (len(weights), 1, len(options["targets"]))
        ends = np.full(shape, int(Status.CONVERGED))
        ends[0] = Status.STEP_LIMIT
        predicted = np.broadcast_to(observations.losses, (len(weights), *observations.losses.shape))
        return SimpleNamespace(
            predicted=predicted, rows=np.ones(shape, int), status=ends, at_bound=np.ones(shape, bool)
        )

    monkeypatch.setattr(judge, "fit_folds", fit_folds)
    words = compared(["bimix"], table(), level=None).to_frame()["trust"][0]
    assert words == "20% of rows outside the fitted proportions; 100% of fits at a bound; 10.0% of fits not converged"


def test_laws_may_be_objects_and_have_names_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    told(monkeypatch, bimix=rough)
    law = bimixjax.LAWS["bimix"]
    found = compared({"first": law, "second": "bimix"}, table(), level=None)
    assert found.laws == ("first", "second")
    assert found.predicted[0] == pytest.approx(found.predicted[1])


@pytest.mark.parametrize(
    ("laws", "options", "words"),
    [
        (["bimx"], {}, "law is 'bimx'"),
        ([], {}, "no law to compare"),
        (["bimix", "bimix"], {}, "'bimix' more than once"),
        (["bimix"], {"targets": ["z"]}, "unknown target 'z'"),
        (["bimix"], {"level": 1.0}, "level is 1.0"),
        (["bimix"], {"volume": "tokens"}, "no column 'tokens'"),
        ({"uniform": "bimix"}, {}, "a law is named 'uniform'"),
        (["bimix"], {"folds": RunDesigns(runs=(10,))}, "at most 9"),
    ],
)
def test_wrong_input_is_named(laws, options, words: str) -> None:
    with pytest.raises(InputError, match=words):
        compared(laws, table(), **options)


def test_an_unknown_law_of_a_difference_is_named(designs: Any) -> None:
    with pytest.raises(InputError, match="unknown law 'bimx'"):
        designs.difference("bimx", "bimix")


def test_a_run_that_diverged_is_named_with_its_rows() -> None:
    frame = table(noise=0.01).to_frame()
    assert compared(["bimix", "bimix_offset"], Observations.from_frame(frame), level=None).notes == ()
    run = frame["run"].iloc[-1]
    frame.loc[(frame["run"] == run) & (frame["step"] >= 4000), ["loss/x", "loss/y"]] = 9.0
    (note,) = compared(["bimix", "bimix_offset"], Observations.from_frame(frame), level=None).notes
    assert f"run {run} (2 of its 4 rows, at 4000, 8000 steps)" in note
