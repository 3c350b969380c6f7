"""`auto` on small simulated tables: what it predicts, how it weighs, what it says, what it refuses."""

import dataclasses
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

import bimixjax
from bimixjax import Auto, AutoFit, InputError, Observations, estimation
from bimixjax.auto import member_fits
from bimixjax.auto.averaging import MemberFit
from bimixjax.auto.donor import fit_stacks
from bimixjax.auto.folds import auto_folds
from bimixjax.auto.grids import Cells, build_cells
from bimixjax.auto.members import Member
from bimixjax.cli import run
from bimixjax.fitting import devices

ONE, TWO = Auto(members=("offset",)), Auto(members=("offset", "transfer"))
SHARES = (0.1, 0.9, 0.3, 0.7, 0.5, 0.2)
STEPS = (1000.0, 2000.0, 4000.0, 8000.0)
MIDDLE = np.array([0.4, 0.6])


def loss(own: np.ndarray, step: np.ndarray | float, level: float = 1.0) -> np.ndarray:
    """The law with an offset, in nats per token."""
    return level * (own + 0.01) ** -0.07 * (2.0 + 1.5 * (step / 8000.0) ** -0.4)


def table(shares: tuple[float, ...] = SHARES, steps: tuple[float, ...] = STEPS, level: float = 1.0) -> pd.DataFrame:
    """Noiseless runs of two domains."""
    share, step = np.repeat(shares, len(steps)), np.tile(steps, len(shares))
    names = [f"run{i}" for i in range(len(shares)) for _ in steps]
    losses = {"loss/x": loss(share, step, level), "loss/y": loss(1 - share, step, 1.2 * level)}
    return pd.DataFrame({"run": names, "step": step, "mixture/x": share, "mixture/y": 1 - share, **losses})


def sized() -> Observations:
    """Six runs of a small model and two of a larger one, whose losses are lower by a tenth."""
    small, large = table().assign(model_size=1e6), table(SHARES[:2], level=0.9).assign(model_size=1e7)
    frame = pd.concat([small, large.assign(run="large " + large["run"])], ignore_index=True)
    return Observations.from_frame(frame)


@pytest.fixture(scope="module")
def observations() -> Observations:
    return Observations.from_frame(table())


@pytest.fixture(scope="module")
def fitted(observations: Observations) -> AutoFit:
    return bimixjax.fit(TWO, observations)


@pytest.fixture(scope="module")
def alone(observations: Observations) -> AutoFit:
    return bimixjax.fit(ONE, observations)


@pytest.fixture(scope="module")
def helped() -> AutoFit:
    return bimixjax.fit(ONE, sized())


def test_noiseless_losses_are_recovered(fitted: AutoFit) -> None:
    """At mixtures and a volume between those fitted."""
    shares = np.array([0.15, 0.4, 0.6, 0.85])
    found = np.asarray(fitted.predict(np.column_stack([shares, 1 - shares]), volume=6000))
    wanted = np.column_stack([loss(shares, 6000.0), loss(1 - shares, 6000.0, 1.2)])
    np.testing.assert_allclose(found, wanted, rtol=3e-3)


def test_weights_fall_with_the_error_on_runs_left_out(observations: Observations) -> None:
    """The ratio of two weights is that of their priors (1 to 2) times that of their pooled errors^(-8 K / (K + 8))."""
    cells = build_cells(observations, np.ones((1, len(observations))), "steps", observations.targets)
    with jax.enable_x64(True):
        weights = fit_stacks(cells, TWO)[0].stack.average.weights
    np.testing.assert_allclose(weights.sum(0), 1.0)
    single = [bimixjax.fit(Auto(members=(name,)), observations).left_out_error for name in TWO.members]
    errors, runs = np.log(single), len(SHARES)
    pooled = errors + 8 / (8 + runs) * (errors.mean(1, keepdims=True) - errors)
    ratio = 0.5 * np.exp(-8 * runs / (runs + 8) * (pooled[0] - pooled[1]))
    np.testing.assert_allclose(weights[0] / weights[1], ratio, rtol=1e-6)


def test_members_that_count_for_nothing_are_left_out_of_a_fit(observations: Observations) -> None:
    """Their weights fall to the others, which then sum to 1; "mean" stays, for where no law is sane."""
    cells = build_cells(observations, np.ones((1, len(observations))), "steps", observations.targets)
    with jax.enable_x64(True):
        average = fit_stacks(cells, Auto())[0].stack.average
    most = dict(zip(average.names, average.weights.max(1), strict=True))
    kept = [name for name in most if most[name] >= 1e-3 or name == "mean"]
    found = bimixjax.fit("auto", observations).members
    assert list(found) == kept
    assert len(kept) < len(most)
    np.testing.assert_allclose(sum(found.values()), 1.0)


def test_errors_on_runs_left_out_are_those_of_fits_without_them(observations: Observations, alone: AutoFit) -> None:
    """But for the mean losses of the targets, which set the priors: of all runs, not of the others."""
    weights = np.array([[float(run != left) for run in observations.run] for left in observations.runs])
    folds = auto_folds(observations, weights, settings=ONE)
    missed = np.abs(np.log(folds.predicted / observations.losses))[weights == 0]
    np.testing.assert_allclose(alone.left_out_error, missed.mean(0), rtol=0.1)


def test_folds_are_fits_of_their_rows(observations: Observations) -> None:
    kept = observations.runs[:5]
    weights = np.isin(observations.run, kept)[None].astype(float)
    folds = auto_folds(observations, weights, settings=ONE, level=0.8)
    fit = bimixjax.fit(ONE, observations.select(runs=kept))
    rows = observations.proportions, observations.volumes()
    lower, upper = fit.interval(*rows, level=0.8)
    for fold, whole in ((folds.predicted, fit.predict(*rows)), (folds.lower, lower), (folds.upper, upper)):
        np.testing.assert_allclose(fold[0], np.asarray(whole), rtol=1e-9)


def test_members_are_fitted_on_the_cores_that_are_granted(
    observations: Observations, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def pool(workers: int) -> ThreadPoolExecutor:
        asked.append(workers)
        return ThreadPoolExecutor(workers)

    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 3, 5}, raising=False)
    monkeypatch.setattr(devices, "ThreadPoolExecutor", pool)
    bimixjax.fit(ONE, observations)
    assert asked == [3]


def test_rich_laws_are_not_fitted_to_a_few_runs_of_many_domains() -> None:
    random = np.random.default_rng(0)
    share = random.dirichlet(np.ones(30), 4)
    columns = {"run": list("abcd")} | {f"mixture/{k}": share[:, k] for k in range(30)}
    table = Observations.from_frame(pd.DataFrame(columns | {"loss/0": 2.0 + share[:, 1]}))
    assert "joint" not in bimixjax.fit(Auto(members=("offset", "joint")), table).members
    assert list(bimixjax.fit(Auto(members=("joint",)), table).members) == ["joint"]


def test_many_folds_fit_equal_rows_once_and_few_runs_on_small_grids(monkeypatch: pytest.MonkeyPatch) -> None:
    """The small model has six runs in both folds, the larger one three and two."""
    small, large = table().assign(model_size=1e6), table(SHARES[:3], level=0.9).assign(model_size=1e7)
    frame = pd.concat([small, large.assign(run="large " + large["run"])], ignore_index=True)
    observations = Observations.from_frame(frame)
    weights = np.stack([np.ones(len(observations)), observations.run != "large run2"]).astype(float)
    plain = auto_folds(observations, weights, settings=ONE)
    shapes: list[tuple[int, int]] = []
    fit_member = member_fits._fit_member

    def noted(member: Member, cells: Cells, lanes: np.ndarray) -> MemberFit:
        shapes.append((cells.mask.shape[1], len(lanes)))
        return fit_member(member, cells, lanes)

    monkeypatch.setattr(member_fits, "_fit_member", noted)
    found = auto_folds(observations, weights, settings=ONE)
    assert set(shapes) == {(2, 2), (3, 2), (6, 2)}
    for one, other in ((found.predicted, plain.predicted), (found.lower, plain.lower), (found.upper, plain.upper)):
        np.testing.assert_allclose(one, other, rtol=1e-9)


def test_predictions_can_be_transformed(alone: AutoFit) -> None:
    """jit and vmap agree with a plain call; a gradient with a finite difference."""
    mixtures = np.array([[0.4, 0.6], [0.8, 0.2]])
    plain = np.asarray(alone.predict(mixtures, volume=3000))
    with jax.enable_x64(True):
        compiled = jax.jit(lambda fit, r: fit.predict(r, volume=3000.0))(alone, jnp.asarray(mixtures))
        mapped = jax.vmap(lambda r: alone.predict(r, volume=3000.0))(jnp.asarray(mixtures))
        slope = jax.grad(lambda r: alone.predict(r, volume=3000.0)[0])(jnp.asarray(mixtures[0]))
        ends = [alone.predict(jnp.asarray(mixtures[0] + [h, 0.0]), volume=3000.0)[0] for h in (-1e-5, 1e-5)]
    np.testing.assert_allclose(np.asarray(compiled), plain, rtol=1e-12)
    np.testing.assert_allclose(np.asarray(mapped), plain, rtol=1e-12)
    assert float(slope[0]) == pytest.approx(float(ends[1] - ends[0]) / 2e-5, rel=1e-5)


def test_a_search_over_mixtures_is_certified(alone: AutoFit) -> None:
    best = bimixjax.optimize(alone, budget=bimixjax.Budget(volume=8000.0))
    assert best.converged
    assert best.method == "softmax"
    assert best.kkt_residual < 1e-5
    assert best.objective <= float(np.mean(np.asarray(alone.predict(MIDDLE, volume=8000.0))))


def test_a_file_gives_the_same_fit(helped: AutoFit, tmp_path: Path) -> None:
    path = tmp_path / "fit.json"
    helped.save(path)
    json.loads(path.read_text(), parse_constant=lambda word: pytest.fail(f"{word} is not strict JSON"))
    again = estimation.load(path)
    assert isinstance(again, AutoFit)
    assert jax.tree.structure(again) == jax.tree.structure(helped)
    for one, other in zip(jax.tree.leaves(again), jax.tree.leaves(helped), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)


def test_a_file_of_another_version_is_refused(alone: AutoFit, tmp_path: Path) -> None:
    path = tmp_path / "fit.json"
    alone.save(path)
    document = {**json.loads(path.read_text()), "law_version": 99}
    del document["sha256"]
    path.write_text(json.dumps(document))
    with pytest.raises(InputError, match="version 99"):
        AutoFit.load(path)


def test_a_smaller_size_lends_its_losses(helped: AutoFit) -> None:
    """The larger size has two runs only; it is said who lends, and the weight of what is lent is most."""
    assert helped.donors == {1e7: 1e6}
    large = helped.at(1e7)
    assert "covariate: model size 1e+06, with 6 runs" in large.sentences[0]
    assert "lends" not in helped.at(1e6).sentences[0]
    assert (large.members["donor"] + large.members["donor_loose"] > 0.5).all()
    found = np.asarray(large.predict(MIDDLE, volume=8000.0))
    np.testing.assert_allclose(found[:1], loss(MIDDLE[:1], 8000.0, 0.9), rtol=5e-3)
    np.testing.assert_allclose(found[1:], loss(MIDDLE[1:], 8000.0, 0.9 * 1.2), rtol=5e-3)


def test_a_donor_can_be_switched_off() -> None:
    fit = bimixjax.fit(dataclasses.replace(ONE, donor=False), sized())
    assert fit.donors == {}
    assert set(fit.members) == {"offset"}
    assert not any("lends" in sentence for sentence in fit.sentences)


def test_several_sizes_need_one_named(helped: AutoFit) -> None:
    with pytest.raises(InputError, match="several model sizes"):
        helped.predict(MIDDLE, volume=8000.0)
    with pytest.raises(InputError, match="not fitted"):
        helped.at(5e6)


@pytest.fixture(scope="module")
def far() -> AutoFit:
    return bimixjax.fit(dataclasses.replace(ONE, beyond="chinchilla"), sized())


def test_a_law_with_size_carries_predictions_beyond_those_fitted(far: AutoFit, helped: AutoFit) -> None:
    """By the ratio of its losses at the size wanted and at the nearest one fitted, with limits that are wider."""
    law, where = bimixjax.fit("chinchilla", sized()), (MIDDLE, 6000.0)
    ratio = np.asarray(law.predict(*where, model_size=3e7)) / np.asarray(law.predict(*where, model_size=1e7))
    found = np.asarray(far.predict(*where, model_size=3e7))
    np.testing.assert_allclose(found, np.asarray(helped.predict(*where, model_size=1e7)) * ratio, rtol=1e-9)
    (lower, upper), (low, high) = far.interval(*where, model_size=3e7), far.interval(*where, model_size=1e7)
    assert (np.asarray(upper / lower) > np.asarray(high / low)).all()
    assert far.extrapolates(*where, model_size=3e7).all()
    assert not far.extrapolates(*where, model_size=1e7).any()


def test_a_file_carries_predictions_too(far: AutoFit, tmp_path: Path) -> None:
    far.save(tmp_path / "fit.json")
    again = AutoFit.load(tmp_path / "fit.json")
    found, wanted = (np.asarray(one.predict(MIDDLE, 6000.0, 3e7)) for one in (again, far))
    np.testing.assert_allclose(found, wanted, rtol=1e-12)
    with pytest.raises(InputError, match="save the fit that it is of"):
        far.at(3e7).save(tmp_path / "part.json")


def test_folds_speak_of_sizes_that_they_do_not_fit(far: AutoFit) -> None:
    observations = sized()
    larger = Observations.from_frame(table(SHARES[:2]).assign(model_size=3e7, run=[f"z{i}" for i in range(8)]))
    both = Observations.concat(observations, larger)
    weights = (np.asarray(both.model_size) < 3e7).astype(float)[None]
    folds = auto_folds(both, weights, settings=dataclasses.replace(ONE, beyond="chinchilla"))
    wanted = far.predict(larger.proportions, larger.volumes(), 3e7)
    np.testing.assert_allclose(folds.predicted[0, -8:], np.asarray(wanted), rtol=1e-9)
    assert np.isnan(auto_folds(both, weights, settings=ONE).predicted[0, -8:]).all()


def test_a_law_beyond_the_sizes_needs_two_of_them(observations: Observations) -> None:
    with pytest.raises(InputError, match=r"needs two of them; .* has 0"):
        bimixjax.fit(dataclasses.replace(ONE, beyond="chinchilla"), observations)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"beyond": "additive"}, "'additive' does not read the model size; allowed beyond it: .*chinchilla"),
        ({"beyond": "chinchila"}, "Did you mean 'chinchilla'"),
        ({"members": ("ofset",)}, "ofset"),
    ],
)
def test_settings_are_refused_before_anything_is_fitted(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Auto(**settings)


def test_missing_losses_are_left_out(alone: AutoFit) -> None:
    """A row without a loss counts for the other target, and hardly moves the table's mean loss, which sets the priors.

    A target without any has no prediction, and says so.
    """
    frame = table()
    frame.loc[frame["run"] == "run1", "loss/y"] = np.nan
    some = bimixjax.fit(ONE, Observations.from_frame(frame))
    np.testing.assert_array_equal(some.rows, [24, 20])
    found, wanted = (np.asarray(fit.predict(MIDDLE, volume=8000.0)) for fit in (some, alone))
    np.testing.assert_allclose(found[0], wanted[0], rtol=3e-5)
    np.testing.assert_allclose(found[1], wanted[1], rtol=5e-3)
    none = bimixjax.fit(ONE, Observations.from_frame(frame.assign(**{"loss/y": np.nan})))
    assert none.sentences[1] == "no usable observation"
    assert np.isnan(np.asarray(none.predict(MIDDLE, volume=8000.0))).tolist() == [False, True]


@pytest.mark.parametrize(("runs", "steps"), [(1, STEPS), (2, STEPS), (2, STEPS[-1:])])
def test_few_rows_give_finite_losses_with_limits(runs: int, steps: tuple[float, ...]) -> None:
    """One run, two runs, one volume."""
    fit = bimixjax.fit(ONE, Observations.from_frame(table(SHARES[:runs], steps)))
    lower, upper = (np.asarray(end) for end in fit.interval(MIDDLE, volume=8000.0))
    found = np.asarray(fit.predict(MIDDLE, volume=8000.0))
    assert (lower < found).all()
    assert (found < upper).all()
    assert np.isfinite(upper).all()


def test_one_volume_need_not_be_named() -> None:
    fit = bimixjax.fit(ONE, Observations.from_frame(table(SHARES[:2], STEPS[-1:])))
    np.testing.assert_array_equal(np.asarray(fit.predict(MIDDLE)), np.asarray(fit.predict(MIDDLE, volume=8000.0)))


def test_limits_are_wider_far_from_the_runs() -> None:
    near = Observations.from_frame(table((0.4, 0.45, 0.5, 0.55, 0.6, 0.5)))
    lower, upper = bimixjax.fit(ONE, near).interval(np.array([[0.5, 0.5], [0.02, 0.98]]), volume=8000.0, level=0.9)
    width = np.asarray(upper) / np.asarray(lower)
    assert (width[1] > width[0]).all()


def test_limits_take_a_level_between_0_and_1(alone: AutoFit) -> None:
    for level in (0.0, 1.0):
        with pytest.raises(InputError, match=f"level is {level}; allowed: above 0 and below 1"):
            alone.interval(MIDDLE, volume=8000.0, level=level)


def test_what_auto_refuses(observations: Observations) -> None:
    """Each error names what was got."""
    weights = np.ones((1, len(observations)))
    with pytest.raises(InputError, match="unknown member 'nobody'"):
        bimixjax.fit(Auto(members=("nobody",)), observations)
    with pytest.raises(InputError, match="unknown target 'z'"):
        bimixjax.fit("auto", observations, targets=["z"])
    with pytest.raises(InputError, match=r"auto takes no priors=False"):
        estimation.fit(*("auto", observations), priors=False)
    with pytest.raises(InputError, match="weights have shape"):
        auto_folds(observations, weights[0])
    with pytest.raises(InputError, match="has weight 0.5 of row 0"):
        auto_folds(observations, 0.5 * weights)


def test_single_laws_take_weights_and_criteria(observations: Observations) -> None:
    """They reach the fit of one law: a run without weight is not read."""
    counts = dict.fromkeys(observations.runs[:2], 0.0)
    fit = bimixjax.fit("bimix_offset", observations, weights=counts)
    np.testing.assert_array_equal(fit.rows, [16, 16])


def test_the_command_line_takes_auto(alone: AutoFit, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A saved fit of `auto` is read by predict and optimize."""
    path = tmp_path / "fit.json"
    alone.save(path)
    assert run(["predict", str(path), "--mixture", "x=0.4,y=0.6", "--volume", "8000", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["predictions"]
    wanted = np.asarray(alone.predict(MIDDLE, volume=8000.0))
    np.testing.assert_allclose([found["losses"]["x"], found["losses"]["y"]], wanted, rtol=1e-9)
    assert run(["optimize", str(path), "--volume", "8000", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["converged"] is True


@pytest.mark.slow
def test_the_command_line_fits_auto(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, path = tmp_path / "runs.csv", tmp_path / "fit.json"
    table().to_csv(source, index=False)
    assert run(["fit", str(source), "--law", "auto", "--out", str(path)]) == 0
    shown, saved = capsys.readouterr().out, estimation.load(path)
    assert isinstance(saved, AutoFit)
    for weights in zip(*saved.members.values(), strict=True):
        assert f"{max(zip(weights, saved.members, strict=True))[1]} {max(weights):.0%}".replace("%", " %") in shown
