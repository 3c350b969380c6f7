"""Fits of whole tables: recovery, statuses, predictions, files, and the public losses."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from scipy.optimize import least_squares

from bimixjax import FitResult, InputError, Observations, fit
from bimixjax.laws import BiMix
from bimixjax.solve import LBFGS

TRUTH = {"B": [900.0, 30.0], "C": [1.5, 2.5], "alpha": [0.3, 0.08], "beta": [0.7, 0.35]}


def table(shares=(0.2, 0.6), volumes=(1000, 3000, 9000), **extra) -> pd.DataFrame:
    """Losses without noise of domains x and y; a share is that of x."""
    rows = [(f"run{i}", r, s) for i, r in enumerate(shares) for s in volumes]
    frame = pd.DataFrame(rows, columns=["run", "mixture/x", "step"])
    frame["mixture/y"] = 1 - frame["mixture/x"]
    for i, domain in enumerate("xy"):
        B, C, alpha, beta = (TRUTH[name][i] for name in ("B", "C", "alpha", "beta"))
        with np.errstate(divide="ignore"):
            frame[f"loss/{domain}"] = frame[f"mixture/{domain}"] ** -alpha * (B * frame["step"] ** -beta + C)
    return frame.assign(**extra)


def observe(frame: pd.DataFrame) -> Observations:
    return Observations.from_frame(frame)


def fitted(*args, **kwargs) -> FitResult:
    return fit("bimix", observe(table(*args, **kwargs)), priors=False)


@pytest.mark.parametrize("solver", [None, LBFGS(tolerance=0.0)])
def test_two_mixtures_and_three_volumes_give_the_coefficients(solver):
    result = fit("bimix", observe(table()), priors=False, solver=solver)
    for name, value in TRUTH.items():
        np.testing.assert_allclose(result.coefficients[name], value, rtol=1e-6)
    assert result.coefficients["A"].tolist() == [1.0, 1.0]
    assert set(result.sentences) == {"converged"}
    assert result.converged.all()


@pytest.mark.parametrize(
    ("shares", "volumes", "lost"),
    [
        ((0.2,), (1000, 3000, 9000), {"alpha"}),
        ((0.2, 0.6), (1000, 3000), {"beta", "B", "C"}),
        ((0.2, 0.6), (1000,), {"beta", "B", "C"}),
        ((0.2,), (1000,), {"alpha", "beta", "B", "C"}),
    ],
)
def test_what_the_rows_cannot_tell_is_named_and_predictions_hold_where_measured(shares, volumes, lost):
    result = fitted(shares, volumes)
    for lane, sentence in enumerate(result.sentences):
        assert "not identified" in sentence
        assert lost <= {name for name, known in zip(result.names, result.identified[lane], strict=True) if not known}
        assert all(name in sentence for name in lost)
    frame = table(shares, volumes)
    mixtures, losses = frame[["mixture/x", "mixture/y"]].to_numpy(), frame[["loss/x", "loss/y"]].to_numpy()
    np.testing.assert_allclose(result.predict(mixtures, frame["step"].to_numpy()), losses, rtol=1e-9)


def test_a_coefficient_that_noisy_rows_say_nothing_of_stays_where_it_began():
    frame = table((0.2,), (1000, 2000, 4000, 8000))
    frame["loss/x"] *= 1 + 0.01 * np.random.default_rng(0).normal(size=len(frame))
    result = fit("bimix", observe(frame), priors=False)
    assert result.coefficients["alpha"][0] == 0.1
    assert not result.identified[0, result.names.index("alpha")]


def test_priors_keep_a_small_design_well_posed():
    result = fit("bimix", observe(table((0.2,), (1000,))))
    assert all("set by the prior" in sentence for sentence in result.sentences)
    assert np.isfinite(result.values).all()


def test_what_rests_on_its_prior_is_told_from_what_the_rows_say():
    frame = table((0.2, 0.6), (1000, 3000, 9000))
    one_share = fit("bimix", observe(frame.loc[frame["run"] == "run0"]))
    both = fit("bimix", observe(frame))
    alpha = both.names.index("alpha")
    assert one_share.at_prior[:, alpha].all()
    assert not one_share.at_prior[:, one_share.names.index("beta")].any()
    assert not both.at_prior.any()
    assert not fitted((0.2,)).at_prior.any()


def test_correlations_are_those_of_the_covariance():
    result = fitted((0.2, 0.4, 0.6), (1000, 2000, 4000, 9000))
    np.testing.assert_allclose(np.diagonal(result.correlation, axis1=1, axis2=2), 1.0)
    errors = np.stack([result.standard_errors[name] for name in result.names], axis=1)
    np.testing.assert_allclose(result.correlation * errors[:, :, None] * errors[:, None], result.covariance)
    assert np.isnan(fitted((0.2,)).correlation[:, result.names.index("alpha")]).all()


def test_an_absent_domain_is_masked_and_counted():
    frame = table((0.2, 0.6, 0.0))
    frame["loss/x"] = frame["loss/x"].replace(np.inf, 9.0)
    result = fit("bimix", observe(frame), priors=False)
    assert result.zero.tolist() == [3, 0]
    assert result.rows.tolist() == [6, 9]
    np.testing.assert_allclose(result.coefficients["alpha"], TRUTH["alpha"], rtol=1e-6)


def test_missing_losses_are_masked_and_counted():
    frame = table((0.2, 0.4, 0.6))
    frame.loc[[0, 4], "loss/x"] = np.nan
    result = fit("bimix", observe(frame), priors=False)
    assert result.missing.tolist() == [2, 0]
    np.testing.assert_allclose(result.coefficients["alpha"], TRUTH["alpha"], rtol=1e-6)


def test_a_target_without_any_loss_is_a_status_of_its_lane_only():
    frame = table()
    frame["loss/x"] = np.nan
    result = fit("bimix", observe(frame), priors=False)
    assert result.sentences[0] == "no usable observation"
    assert np.isnan(result.values[0]).all()
    assert result.coefficients["alpha"][1] == pytest.approx(0.08, rel=1e-6)


def test_a_constant_loss_stands_at_its_bounds():
    frame = table()
    frame["loss/x"] = 3.0
    result = fit("bimix", observe(frame), priors=False)
    assert "at a bound" in result.sentences[0]
    np.testing.assert_allclose(result.predict([0.5, 0.5], 4000.0)[0], 3.0, rtol=1e-6)


def test_a_foreign_target_gets_one_clear_message():
    frame = table(**{"loss/law": 2.0})
    assert any("law" in note for note in fit("bimix", observe(frame)).notes)
    with pytest.raises(InputError, match="'law' is not a training domain.*cross-domain"):
        fit("bimix", observe(frame), targets=["law"])
    with pytest.raises(InputError, match="no target bears a domain's name.* need auto, or a law") as refused:
        fit("bimix", observe(frame.drop(columns=["loss/x", "loss/y"])))
    assert "exponential_m3" in str(refused.value)
    assert "chinchilla" not in str(refused.value)


def test_unknown_names_are_refused():
    with pytest.raises(InputError, match="Did you mean 'bimix'"):
        fit("bimx", observe(table()))
    with pytest.raises(InputError, match="unknown target 'z'"):
        fit("bimix", observe(table()), targets=["z"])


def test_standard_errors_are_those_of_scipy():
    rng = np.random.default_rng(0)
    frame = table((0.1, 0.2, 0.4, 0.7), (1000, 2000, 4000, 8000))
    frame["loss/x"] *= 1 + 0.003 * rng.normal(size=len(frame))
    result = fit("bimix", observe(frame), priors=False)
    r, s, y = (frame[c].to_numpy() for c in ("mixture/x", "step", "loss/x"))

    def residuals(c):
        return r ** -c[2] * (c[0] * s ** -c[3] + c[1]) / y - 1

    names = ("B", "C", "alpha", "beta")
    end = least_squares(residuals, [result.coefficients[n][0] for n in names], x_scale="jac", xtol=1e-15, ftol=1e-15)
    covariance = np.linalg.inv(end.jac.T @ end.jac) * 2 * end.cost / (len(y) - 4)
    ours = [result.standard_errors[name][0] for name in names]
    np.testing.assert_allclose(ours, np.sqrt(np.diag(covariance)), rtol=1e-3)


def test_units_of_volume_change_only_one_coefficient():
    steps = fitted()
    tokens = fit("bimix", observe(table().assign(tokens=lambda t: t["step"] * 524_288)), priors=False)
    assert (steps.volume_unit, tokens.volume_unit) == ("steps", "tokens")
    for name in ("C", "alpha", "beta"):
        np.testing.assert_allclose(tokens.coefficients[name], steps.coefficients[name], rtol=1e-8)
    np.testing.assert_allclose(
        tokens.coefficients["B"], steps.coefficients["B"] * 524_288 ** steps.coefficients["beta"], rtol=1e-7
    )


@pytest.fixture(scope="module")
def sizes() -> FitResult:
    """One law fitted at two model sizes."""
    small = table(model_size=1e6)
    large = table((0.1, 0.3, 0.5), model_size=1e7).assign(run=lambda t: "large-" + t["run"])
    large[["loss/x", "loss/y"]] *= 0.8
    return fit("bimix", observe(pd.concat([small, large])), priors=False)


@pytest.fixture(scope="module")
def result() -> FitResult:
    """A fit of two mixtures and three volumes."""
    return fitted()


@pytest.fixture(scope="module")
def public(observations_folder) -> Observations:
    """The published losses of five groups of domains."""
    return Observations.read(observations_folder / "pile_5groups.csv").select(volume=(4000, 30000), unit="steps")


@pytest.fixture(scope="module")
def public_fit(public) -> FitResult:
    """BiMix on the published losses."""
    return fit("bimix", public, volume="steps", priors=False)


class TestSizes:
    """Several model sizes under a law that has none are fitted apart."""

    def test_coefficients_have_an_axis_of_sizes(self, sizes):
        assert sizes.coefficients["C"].shape == (2, 2)
        np.testing.assert_allclose(sizes.coefficients["C"][1], 0.8 * sizes.coefficients["C"][0], rtol=1e-6)
        assert sizes.rows.tolist() == [6, 6, 9, 9]

    def test_one_size_is_a_fit_of_its_own(self, sizes):
        large = sizes.at(1e7)
        np.testing.assert_allclose(large.coefficients["C"], sizes.coefficients["C"][1])
        assert large.at(1e7) is large
        same = sizes.predict([0.5, 0.5], 3000, model_size=1e7)
        np.testing.assert_array_equal(large.predict([0.5, 0.5], 3000), same)

    def test_a_prediction_must_say_which(self, sizes):
        with pytest.raises(InputError, match=r"several model sizes were fitted \(1e\+06, 1e\+07\)"):
            sizes.predict([0.5, 0.5], 3000)
        with pytest.raises(InputError, match="model size 5 was not fitted"):
            sizes.predict([0.5, 0.5], 3000, model_size=5)


class TestPredict:
    """Predictions: shapes, dtypes, flags and derivatives."""

    def test_shapes(self, result):
        assert result.predict([0.5, 0.5], 3000).shape == (2,)
        assert result.predict([[0.5, 0.5]] * 3, 3000).shape == (3, 2)
        assert result.predict([0.5, 0.5], [1000, 3000, 9000]).shape == (3, 2)
        assert result.predict([[0.5, 0.5]] * 3, [1000, 3000, 9000]).shape == (3, 2)

    def test_bad_mixtures_are_refused(self, result):
        for mixtures, words in (
            ([0.2, 0.3, 0.5], r"shape \(3,\); allowed: \[2\]"),
            ([0.5, 0.6], "sums to 1.1"),
            ([[0.5, 0.5], [1.5, -0.5]], "mixture 2 has proportion -0.5 of 'y'"),
        ):
            with pytest.raises(InputError, match=words):
                result.predict(mixtures, 3000)
        with pytest.raises(InputError, match="volumes 1000 to 9000 steps; say which"):
            result.predict([0.5, 0.5])

    def test_a_target_without_losses_hides_no_volume(self):
        table = {"run": ["a", "b"], "mixture/x": [0.5, 1.0], "mixture/y": [0.5, 0.0], "step": [9, 9]}
        losses = {"loss/x": [3.0, 2.5], "loss/y": [np.nan, np.nan]}
        found = fit("bimix", Observations.from_frame(pd.DataFrame(table | losses)))
        np.testing.assert_array_equal(found.predict([0.5, 0.5])[0], found.predict([0.5, 0.5], 9)[0])

    def test_extrapolation_is_flagged_by_proportion_and_by_volume(self, result):
        flags = result.extrapolates([[0.4, 0.6], [0.1, 0.9]], 3000)
        assert flags.tolist() == [[False, False], [True, True]]
        assert result.extrapolates([0.4, 0.6], [1000, 9001]).tolist() == [[False, False], [True, True]]

    @pytest.mark.parametrize("x64", [False, True])
    def test_derivatives_under_every_transformation(self, result, x64):
        with jax.enable_x64(x64):
            dtype = jnp.float64 if x64 else jnp.float32
            mixture = jnp.array([0.3, 0.7], dtype)

            def total(r):
                return jnp.sum(result.predict(r, 3000.0))

            step = 1e-5
            ahead, behind = (np.array([0.3, 0.7]) + sign * step * np.eye(2) for sign in (1, -1))
            with jax.enable_x64(True):
                differences = [
                    (total(jnp.array(a)) - total(jnp.array(b))) / (2 * step) for a, b in zip(ahead, behind, strict=True)
                ]
            grad = jax.grad(total)(mixture)
            assert grad.dtype == dtype
            np.testing.assert_allclose(grad, differences, rtol=1e-7 if x64 else 1e-5)
            np.testing.assert_allclose(jax.jit(jax.grad(total))(mixture), grad, rtol=1e-6)
            several = jnp.stack([mixture, mixture])
            np.testing.assert_allclose(jax.vmap(jax.grad(total))(several)[1], grad, rtol=1e-6)
            np.testing.assert_allclose(jax.jit(jax.vmap(jax.grad(total)))(several)[1], grad, rtol=1e-6)
            _, scanned = jax.lax.scan(lambda c, r: (c, jax.grad(total)(r)), 0.0, several)
            np.testing.assert_allclose(scanned[0], grad, rtol=1e-6)

    def test_a_fit_is_a_pytree(self, result):
        through = jax.jit(lambda f, r: f.predict(r, 3000.0))(result, jnp.array([0.3, 0.7]))
        np.testing.assert_allclose(through, result.predict([0.3, 0.7], 3000), rtol=1e-6)

    def test_one_volume_needs_no_volume(self):
        frame = table(volumes=(1000,)).drop(columns="step")
        result = fit("bimix", observe(frame), priors=False)
        np.testing.assert_allclose(result.predict([0.2, 0.8]), frame[["loss/x", "loss/y"]].iloc[0], rtol=1e-8)


class TestFiles:
    """A fit in one strict JSON file."""

    def test_a_round_trip_keeps_every_number(self, tmp_path):
        result = fitted((0.2,))
        result.save(tmp_path / "fit.json")
        again = FitResult.load(tmp_path / "fit.json")
        for field in dataclasses.fields(result):
            np.testing.assert_equal(getattr(again, field.name), getattr(result, field.name))
        json.loads((tmp_path / "fit.json").read_text(), parse_constant=pytest.fail)

    def test_another_file_is_refused(self, tmp_path):
        (tmp_path / "other.json").write_text("{}")
        with pytest.raises(InputError, match="lacks law"):
            FitResult.load(tmp_path / "other.json")
        with pytest.raises(InputError, match="no such file"):
            FitResult.load(tmp_path / "none.json")

    def test_a_law_of_ones_own(self, tmp_path):
        class Mine(BiMix):
            name = "mine"

        fit(Mine(), observe(table()), priors=False).save(tmp_path / "fit.json")
        with pytest.raises(InputError, match="'mine'"):
            FitResult.load(tmp_path / "fit.json")
        again = FitResult.load(tmp_path / "fit.json", law=Mine())
        assert again.coefficients["alpha"][0] == pytest.approx(0.3, rel=1e-6)


class TestPublicLosses:
    """The published losses of five groups of domains at four sizes, against an independent scipy fit."""

    def test_error_and_r2_are_those_of_the_reference(self, public_fit):
        lanes = slice(0, 4 * 5)
        assert public_fit.model_sizes[:4] == (70e6, 160e6, 305e6, 410e6)
        assert np.mean(public_fit.error[lanes]) == pytest.approx(0.0085, abs=0.0005)
        assert np.mean(public_fit.r2[lanes]) == pytest.approx(0.965, abs=0.005)

    @pytest.mark.slow
    def test_no_cost_is_above_the_best_of_twenty_scipy_fits(self, public, public_fit):
        rng = np.random.default_rng(0)
        for lane, (size, domain) in enumerate((s, d) for s in public_fit.model_sizes[:4] for d in public_fit.targets):
            one = public.select(model_size=size)
            share = one.proportions[:, one.domains.index(domain)]
            loss = one.losses[:, one.targets.index(domain)]
            keep = (share > 0) & np.isfinite(loss)
            r, s, y = share[keep], one.step[keep] / one.step.max(), loss[keep]

            def residuals(c, r=r, s=s, y=y):
                return r ** -c[2] * (c[0] * s ** -c[3] + c[1]) / y - 1

            starts = rng.uniform([0.1, 0.1, 0.01, 0.05], [3, 3, 0.5, 1.5], (20, 4))
            ends = [least_squares(residuals, c, bounds=(0, np.inf), xtol=1e-14, ftol=1e-14) for c in starts]
            assert public_fit.cost[lane] <= min(2 * end.cost for end in ends) * (1 + 1e-6)

    def test_the_gradient_solver_agrees_in_cost(self, public, public_fit):
        gradient = fit("bimix", public, volume="steps", priors=False, solver=LBFGS())
        np.testing.assert_allclose(gradient.cost[:20], public_fit.cost[:20], rtol=1e-6)
