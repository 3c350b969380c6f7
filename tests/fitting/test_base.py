"""What was never measured is refused or marked: volumes, shares and mixtures that no row tells of."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

import bimixjax
from bimixjax import Auto, AutoFit, Budget, FitResult, InputError, Observations, OptimalMixture
from bimixjax.fitting.coverage import companions, losses_differ

NAMES = ("web", "books", "code")
LAWS = ["bimix", "exponential_volume", Auto(members=("offset",))]
EVEN = np.full(3, 1 / 3)


def frame(volumes: tuple[float, ...], shares: np.ndarray | None = None, unit: str = "step") -> pd.DataFrame:
    """Losses of a BiMix law in 6 runs, or in those of given shares."""
    random = np.random.default_rng(0)
    shares = random.dirichlet([4, 4, 4], 6) if shares is None else shares
    rows = [(run, s) for run in range(len(shares)) for s in volumes]
    r, s = np.array([shares[run] for run, _ in rows]), np.array([s for _, s in rows], float)
    loss = r ** -np.array([0.05, 0.1, 0.2]) * (30 * (s / s.max() * 32000)[:, None] ** -0.5 + np.array([3.0, 2.0, 1.0]))
    loss *= np.exp(0.002 * random.standard_normal(loss.shape))
    table = pd.DataFrame({"run": [str(run) for run, _ in rows]})
    if unit:
        table[unit] = s
    for i, name in enumerate(NAMES):
        table[f"mixture/{name}"], table[f"loss/{name}"] = r[:, i], loss[:, i]
    return table


def fitted(law: "str | Auto", *args: object, **options: object) -> FitResult | AutoFit:
    return bimixjax.fit(law, Observations.from_frame(frame(*args, **options)))  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("law", LAWS, ids=("bimix", "exponential", "auto"))
def test_one_volume_tells_of_no_other(law: str | Auto) -> None:
    fit = fitted(law, (32000,))
    assert np.isfinite(fit.predict(EVEN, 32000)).all()
    with pytest.raises(InputError, match="fitted at 32000 steps only, and it takes 3.*--from-prior"):
        fit.predict(EVEN, 64000)
    with pytest.raises(InputError, match="32000 steps only"):
        bimixjax.objective(fit, budget=Budget(volume=16000))
    assert np.isfinite(fit.predict(EVEN, 64000, from_prior=True)).all()
    assert np.isfinite(jax.jit(lambda s: fit.predict(EVEN, s))(64000.0)).all()
    assert float(bimixjax.objective(fit, budget=Budget(volume=64000, from_prior=True))(EVEN)) > 0
    (outside,) = fit.extrapolations(EVEN, 64000)
    assert [(str(one), one.from_prior, one.targets) for one in outside] == [
        ("volume 2 x the only one fitted, 32000 steps", True, NAMES)
    ]


@pytest.mark.parametrize("law", LAWS[::2], ids=("bimix", "auto"))
@pytest.mark.parametrize("from_prior", [False, True])
def test_what_is_no_volume_size_or_mixture_is_refused(law: str | Auto, *, from_prior: bool) -> None:
    fit = fitted(law, (32000,))
    for volume in (np.nan, np.inf, 0, -5.0, [32000, np.nan], jnp.array(-1.0), "x", [[32000.0]], None):
        given = [32000, volume] if volume is None else volume
        with pytest.raises(InputError, match="volume is "):
            fit.predict(EVEN, given, from_prior=from_prior)
    with pytest.raises(InputError, match="3 volumes for 2 mixtures"):
        fit.predict([EVEN, EVEN], [32000.0] * 3, from_prior=from_prior)
    with pytest.raises(InputError, match="model_size is nan; allowed: a finite number above 0"):
        fit.predict(EVEN, 32000, np.nan, from_prior=from_prior)
    for mixture in ([2.0, -1.0, 0.0], [np.nan, 0.5, 0.5], [0.1, 0.1, 0.1]):
        with pytest.raises(InputError, match="mixture 1 "):
            fit.predict(jnp.array(mixture), 32000, from_prior=from_prior)
    for starts in (0, -1, 1.5):
        with pytest.raises(InputError, match=f"starts is {starts}; allowed: a whole number, at least 1"):
            bimixjax.optimize(fit, starts=starts)  # pyright: ignore[reportArgumentType]


def test_limits_and_resamples_refuse_alike() -> None:
    fit = fitted(LAWS[2], (32000,))
    assert isinstance(fit, AutoFit)
    found = [fit, bimixjax.sample(fit, key=0, count=3)]
    found += [bimixjax.bootstrap("bimix", Observations.from_frame(frame((32000,))), key=0, count=3)]
    for each in found:
        with pytest.raises(InputError, match="32000 steps only"):
            each.interval(EVEN, 64000)
        lower, upper = each.interval(EVEN, 64000, from_prior=True)
        assert (np.asarray(lower) <= np.asarray(upper)).all()


@pytest.mark.parametrize("law", LAWS, ids=("bimix", "exponential", "auto"))
def test_between_two_volumes_is_told_and_beyond_is_not(law: str | Auto) -> None:
    fit = fitted(law, (8000, 32000))
    assert np.isfinite(fit.predict(EVEN, 16000)).all()
    with pytest.raises(InputError, match="two volumes only, 8000 and 32000 steps.*ask for 8000 to 32000"):
        fit.predict(EVEN, 64000)


@pytest.mark.parametrize("law", LAWS[:2])
def test_three_volumes_tell_how_losses_go_on(law: str | Auto) -> None:
    fit = fitted(law, (8000, 16000, 32000))
    assert np.isfinite(fit.predict(EVEN, 64000)).all()
    (outside,) = fit.extrapolations(EVEN, 64000)
    assert [(str(one), one.from_prior) for one in outside] == [("volume 2 x the largest fitted, 32000 steps", False)]


@pytest.mark.parametrize("law", LAWS, ids=("bimix", "exponential", "auto"))
def test_a_table_without_volumes_has_no_unit(law: str | Auto) -> None:
    fit = fitted(law, (1,), unit="")
    for from_prior in (False, True):
        with pytest.raises(InputError, match="neither steps nor tokens"):
            fit.predict(EVEN, 25e9, from_prior=from_prior)
    with pytest.raises(InputError, match="neither steps nor tokens"):
        bimixjax.optimize(fit, budget=Budget(volume=25e9))
    assert float(bimixjax.objective(fit)(EVEN)) > 0


@pytest.mark.parametrize(("unit", "volumes", "asked", "other"), [
    ("tokens", (1e8, 1e9, 1e10), 30000, "steps"),
    ("step", (2000, 8000, 32000), 3e10, "tokens"),
])  # fmt: skip
def test_steps_given_for_tokens_are_noticed(unit: str, volumes: tuple[float, ...], asked: float, other: str) -> None:
    fit = fitted("bimix", volumes, unit=unit)
    with pytest.raises(InputError, match=f"were fitted; is it given in {other}"):
        fit.predict(EVEN, asked)
    assert np.isfinite(fit.predict(EVEN, asked, from_prior=True)).all()
    assert all(one.from_prior for one in fit.extrapolations(EVEN, asked)[0])


def test_a_target_with_few_volumes_does_not_keep_others_from_being_judged() -> None:
    table = frame((8000, 16000, 32000))
    table.loc[table["step"] < 32000, "loss/code"] = np.nan
    fit = bimixjax.fit("bimix", Observations.from_frame(table))
    with pytest.raises(InputError, match="losses of 'code' were fitted at 32000 steps only"):
        fit.predict(EVEN, 64000)
    budget = Budget(volume=64000)
    best = bimixjax.optimize(fit, budget=budget, weights={"web": 1, "books": 1})
    assert (best.from_prior, best.extrapolated[-1]) == (("code",), "code")
    with pytest.raises(InputError, match="'code'"):
        bimixjax.optimize(fit, budget=budget)


def test_what_lies_outside_is_told_with_its_distance() -> None:
    fit = fitted("bimix", (8000, 16000, 32000))
    low, high = np.asarray(fit.proportion_range)[0, 0]
    asked = np.array([[high + 0.1, 0.3, 0.6 - high], EVEN])
    first, second = fit.extrapolations(asked, [8000, 4000])
    share = next(one for one in first if one.name == "web")
    assert (share.targets, share.asked, share.fitted) == (("web",), pytest.approx(high + 0.1), pytest.approx(high))
    assert str(share) == f"web {high + 0.1:.3g} above the {high:.3g} fitted"
    assert [str(one) for one in second] == ["volume 0.5 x the least fitted, 8000 steps"]
    assert low < high
    flags = fit.extrapolates(asked, [8000, 4000])
    told = [{target for one in each for target in one.targets} for each in (first, second)]
    assert [set(np.array(NAMES)[row]) for row in flags] == told


@pytest.mark.parametrize("law", LAWS, ids=("bimix", "exponential", "auto"))
def test_one_mixture_tells_of_no_other(law: str | Auto) -> None:
    fit = fitted(law, (8000, 16000, 32000), np.tile([0.1, 0.1, 0.8], (8, 1)))
    assert fit.notes[-1].startswith("nothing here tells mixtures apart: all runs have one mixture")
    with pytest.raises(InputError, match="nothing here tells mixtures apart"):
        bimixjax.optimize(fit, budget=Budget(volume=16000))
    outside = fit.extrapolations([0.2, 0.1, 0.7], 16000)[0]
    assert {str(one) for one in outside} == {
        "web 0.2, where only 0.1 was fitted",
        "code 0.7, where only 0.8 was fitted",
    }
    assert all(one.from_prior for one in outside)


def test_one_run_is_not_said_to_have_equal_losses() -> None:
    fit = fitted("bimix", (8000, 16000, 32000), np.array([[0.1, 0.1, 0.8]]))
    with pytest.raises(InputError, match="the runs do not differ in their shares"):
        bimixjax.optimize(fit, budget=Budget(volume=16000))


def test_priors_choose_a_mixture_where_they_are_asked() -> None:
    fit = fitted("bimix", (8000, 16000, 32000), np.tile([0.1, 0.1, 0.8], (8, 1)))
    best = bimixjax.optimize(fit, budget=Budget(volume=16000, from_prior=True))
    assert best.untold[0].startswith("nothing here tells mixtures apart: the runs do not differ in their shares")
    assert best.budget.from_prior


@pytest.mark.parametrize("law", LAWS, ids=("bimix", "exponential", "auto"))
def test_equal_losses_tell_mixtures_not_apart(law: str | Auto) -> None:
    table = frame((8000, 16000, 32000))
    table[["loss/web", "loss/books", "loss/code"]] = (table["step"].to_numpy() ** -0.1)[:, None] * [3, 4, 5]
    fit = bimixjax.fit(law, Observations.from_frame(table))
    assert "losses are the same" in fit.notes[-1]
    with pytest.raises(InputError, match="losses are the same in all runs"):
        bimixjax.optimize(fit, budget=Budget(volume=16000))


@pytest.mark.parametrize("law", LAWS, ids=("bimix", "exponential", "auto"))
def test_shares_in_one_ratio_are_told(law: str | Auto, tmp_path: Path) -> None:
    code = np.linspace(0.1, 0.6, 6)
    fit = fitted(law, (8000, 16000, 32000), np.column_stack([(1 - code) * 2 / 3, (1 - code) / 3, code]))
    (note,) = fit.notes
    assert note.startswith("web and books are in the ratio 2 : 1 in all runs")
    best = bimixjax.optimize(fit, budget=Budget(volume=16000))
    assert best.untold[0].startswith("web and books are in the ratio 2 : 1 in all runs; the ratio found, 0.")
    fit.save(tmp_path / "fit.json")
    again = type(fit).load(tmp_path / "fit.json")
    assert bimixjax.optimize(again, budget=Budget(volume=16000)).untold == best.untold
    best.save(tmp_path / "best.json")
    loaded = OptimalMixture.load(tmp_path / "best.json")
    assert (loaded.untold, loaded.outside) == (best.untold, best.outside)


def test_a_share_that_never_varies_is_told() -> None:
    code = np.linspace(0.1, 0.6, 6)
    fit = fitted("exponential_volume", (8000, 16000, 32000), np.column_stack([0.8 - code, np.full(6, 0.2), code]))
    assert [note.split(":")[0] for note in fit.notes] == ["the share of books is 0.2 in all runs"]
    kept = bimixjax.Limits(lower={"books": 0.2}, upper={"books": 0.2})
    best = bimixjax.optimize(fit, budget=Budget(volume=16000), limits=kept)
    assert best.untold == ()


def test_a_model_size_outside_of_one_formula_is_marked() -> None:
    small, large = (frame((8000, 16000, 32000)).assign(model_size=size) for size in (1e8, 4e8))
    large["run"] = "large-" + large["run"]
    for name in NAMES:
        large[f"loss/{name}"] *= 0.9
    observations = Observations.from_frame(pd.concat([small, large], ignore_index=True))
    fit = bimixjax.fit("bimix_sized", observations)
    assert fit.extrapolations(EVEN, 16000, 2e8) == [()]
    (outside,) = fit.extrapolations(EVEN, 16000, 1e9)
    assert [str(one) for one in outside] == ["model size 2.5 x the largest fitted, 4e+08"]
    assert fit.extrapolates(EVEN, 16000, 1e9).all()
    apart = bimixjax.fit("bimix", observations)
    with pytest.raises(InputError, match="model size 1e\\+09 was not fitted"):
        apart.predict(EVEN, 16000, 1e9)


def test_companions_and_differences_are_those_of_each_lane() -> None:
    """The second lane lacks the run that breaks the ratio; noise of rounding does not."""
    mixture = np.array([[0.2, 0.4, 0.6, 0.3], [0.1, 0.2, 0.3, 0.3], [0.7, 0.4, 0.1, 0.4]])
    used = np.array([[1, 1], [1, 1], [1, 1], [1, 0]])
    assert companions(mixture.round(4), used).tolist() == [[0, 1, 2], [0, 0, 2]]
    loss = np.array([[3.0, 3.0], [3.0, 3.0], [2.0, 2.0], [2.1, 2.0]])
    place = np.array([0, 0, 1, 1])
    assert losses_differ(place, loss, np.ones((4, 2))).tolist() == [True, False]
    assert losses_differ(np.arange(4), loss, np.ones((4, 2))).tolist() == [True, True]
