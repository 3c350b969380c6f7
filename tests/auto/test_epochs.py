"""Members of `auto` that read epochs: there where a table says how many unique tokens its runs had, and only there."""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

import bimixjax
from bimixjax import Auto, AutoFit, Budget, Inventory, Observations
from bimixjax.auto.folds import auto_folds

FEW = Auto(members=("transfer_epochs", "offset", "mean"))
STOCK = Inventory({"x": 1e8})


def table(*, blank: bool = False) -> pd.DataFrame:
    """Losses of domain x at 5 mixtures, 3 volumes and 2 stocks; they rise where x comes more than 8 times."""
    random, rows = np.random.default_rng(0), []
    for stock in (1e8, np.inf):
        for share in (0.1, 0.3, 0.5, 0.7, 0.9):
            for s in (5e8, 1e9, 2e9):
                harm = 2 * np.log(max(share * s / stock, 8) / 8) ** 2
                loss = share**-0.08 * (100 * s**-0.25 + 2) + harm
                row = {"run": f"{stock:g}-{share}", "tokens": s, "mixture/x": share, "mixture/y": 1 - share}
                row |= {"unique/x": np.nan if blank or np.isinf(stock) else stock}
                rows.append(row | {"loss/x": loss * np.exp(0.004 * random.standard_normal())})
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def fit() -> AutoFit:
    return bimixjax.fit(FEW, Observations.from_frame(table()))


def bits(fit: AutoFit) -> bytes:
    """All that a fit of one size without a donor predicts by."""
    size = fit.sizes[0]
    leaves = [*jax.tree.leaves(size.fitted), size.weights, size.spread, size.correlation]
    return b"".join(np.asarray(leaf).tobytes() for leaf in leaves)


def test_without_an_inventory_nothing_changes_to_the_last_digit() -> None:
    frame = table(blank=True)
    plain = Observations.from_frame(frame.drop(columns="unique/x"))
    few = Auto(members=("offset", "power_linear", "mean"))
    assert bits(bimixjax.fit(few, Observations.from_frame(frame))) == bits(bimixjax.fit(few, plain))
    # A stock changes no law that does not read it either.
    assert bits(bimixjax.fit(few, Observations.from_frame(table()))) != b""
    there = dataclasses.replace(plain, unique=np.full(plain.proportions.shape, 1e8))
    assert bits(bimixjax.fit(few, there)) == bits(bimixjax.fit(few, plain))


def test_all_members_are_those_in_epochs_too_where_there_is_an_inventory() -> None:
    everyone = [member.name for member in Auto().chosen()]
    assert not [name for name in everyone if name.endswith("_epochs")]
    beside = [member.name for member in Auto().chosen(in_epochs=True)]
    assert beside == [*everyone, "transfer_epochs", "offset_epochs", "additive_epochs"]
    assert [member.name for member in Auto(members=("offset",)).chosen(in_epochs=True)] == ["offset"]


def test_it_sees_the_harm_of_repetition(fit: AutoFit) -> None:
    assert fit.members["transfer_epochs"][0] > 0.5
    mixtures, volume = np.array([[0.3, 0.7], [0.9, 0.1]]), 2e9
    limited = np.asarray(fit.predict(mixtures, volume, inventory=STOCK))[:, 0]
    free = np.asarray(fit.predict(mixtures, volume))[:, 0]
    assert limited[1] > limited[0] > free[1]
    expected = 0.9**-0.08 * (100 * 2e9**-0.25 + 2) + 2 * np.log(18 / 8) ** 2
    assert limited[1] == pytest.approx(expected, rel=0.02)
    lower, upper = fit.interval(mixtures, volume, inventory=STOCK)
    assert (np.asarray(lower)[:, 0] < limited).all()
    assert (limited < np.asarray(upper)[:, 0]).all()
    low, high = map(float, fit.mean_interval(mixtures[1], volume, inventory=STOCK))
    assert low < expected < high


def test_each_mixture_may_have_a_stock_of_its_own(fit: AutoFit) -> None:
    mixtures, volume = np.array([[0.3, 0.7], [0.9, 0.1]]), 2e9
    each = np.array([[1e8, np.inf], [np.inf, np.inf]])
    alone = [fit.predict(r, volume, inventory=unique) for r, unique in zip(mixtures, each, strict=True)]
    np.testing.assert_allclose(fit.predict(mixtures, volume, inventory=each), np.stack(alone), rtol=1e-12)
    ends = [fit.interval(r, volume, inventory=unique) for r, unique in zip(mixtures, each, strict=True)]
    np.testing.assert_allclose(fit.interval(mixtures, volume, inventory=each)[1], [end[1] for end in ends], rtol=1e-12)


def test_more_epochs_than_were_fitted_are_marked(fit: AutoFit) -> None:
    """At most .9 x 2e9 / 1e8 = 18 epochs of x were fitted, and y was never repeated."""
    assert fit.most_epochs is not None
    np.testing.assert_allclose(fit.most_epochs, [[18, 0]])
    mixtures, stock = [[0.3, 0.7], [0.8, 0.2]], Inventory({"x": 5e7, "y": 2e8})
    few, many = fit.extrapolations(mixtures, 2e9, inventory=stock)
    assert [str(one) for one in few] == ["7 epochs of y, where nothing fitted was repeated"]
    assert [str(one) for one in many] == [
        "32 epochs of x above the 18 fitted",
        "2 epochs of y, where nothing fitted was repeated",
    ]
    assert fit.extrapolates(mixtures, 2e9, inventory=stock).tolist() == [[True], [True]]
    assert fit.extrapolations(mixtures, 2e9) == fit.extrapolations(mixtures, 2e9, inventory=STOCK) == [(), ()]


@pytest.mark.parametrize("stock", [STOCK, Inventory({"x": 1e6})], ids=["near", "harm beyond the losses fitted"])
def test_inside_a_transform_it_says_the_same_and_has_slopes(fit: AutoFit, stock: Inventory) -> None:
    goal = bimixjax.objective(fit, budget=Budget(volume=2e9), inventory=stock)
    r = np.array([0.8, 0.2])
    on_host = goal.on_host(r[None])
    assert on_host is not None
    with jax.enable_x64(True):
        value, slope = jax.jit(jax.value_and_grad(goal))(jnp.asarray(r))
    assert on_host[0][0] == pytest.approx(float(value), rel=1e-10)
    np.testing.assert_allclose(on_host[1]()[0], slope, rtol=1e-7)
    ahead, behind = (float(goal(r + way * np.array([1e-5, -1e-5]))) for way in (1, -1))
    assert float(slope[0] - slope[1]) == pytest.approx((ahead - behind) / 2e-5, rel=1e-5)

    def loss(unique: jax.Array) -> jax.Array:
        return fit.predict(r, 2e9, inventory=unique)[0]

    with jax.enable_x64(True):
        at, step = jnp.array([1e8, jnp.inf]), jnp.array([1e3, 0.0])
        change = (float(loss(at + step)) - float(loss(at - step))) / 2e3
        assert float(jax.grad(loss)(at)[0]) == pytest.approx(change, rel=1e-5)


def test_its_file_has_what_it_predicts_by(fit: AutoFit, tmp_path: Path) -> None:
    fit.save(tmp_path / "fit.json")
    again = AutoFit.load(tmp_path / "fit.json")
    for ask in (fit.predict, fit.interval):
        other = getattr(again, ask.__name__)
        asked = ([0.9, 0.1], 2e9)
        np.testing.assert_array_equal(ask(*asked, inventory=STOCK), other(*asked, inventory=STOCK))


def test_resamples_and_draws_read_them(fit: AutoFit) -> None:
    for found in (
        bimixjax.sample(fit, key=0, count=5),
        bimixjax.bootstrap(FEW, Observations.from_frame(table()), key=0, count=5),
    ):
        limited, free = (found.predict([0.9, 0.1], 2e9, inventory=stock) for stock in (STOCK, None))
        assert limited.shape == (5, 1)
        assert np.isfinite(limited).all()
        assert (np.median(limited, 0) > np.median(free, 0)).all()


def test_folds_predict_each_row_with_its_own_stock() -> None:
    observations = Observations.from_frame(table())
    runs = np.array(observations.runs)
    weights = np.array([observations.run != run for run in runs[[2, 7]]], float)
    found = auto_folds(observations, weights, settings=FEW)
    for fold, weight in enumerate(weights):
        out = np.flatnonzero(weight == 0)
        one = bimixjax.fit(FEW, observations.take(np.flatnonzero(weight)))
        assert observations.tokens is not None
        assert observations.unique is not None
        where = observations.proportions[out], observations.tokens[out]
        expected = one.predict(*where, inventory=observations.unique[out])
        # Idle members are left out of a fit that is kept.
        np.testing.assert_allclose(found.predicted[fold, out], expected, rtol=1e-4)


def test_in_steps_they_are_not_read_and_a_note_says_so() -> None:
    frame = table().rename(columns={"tokens": "step"})
    found = bimixjax.fit(Auto(members=("offset", "mean")), Observations.from_frame(frame))
    assert "the columns unique/<domain> are not read: they are in tokens, and the volume is not" in found.notes


def test_a_donor_reads_the_stock_as_well() -> None:
    """The larger size has fewer mixtures, so that the smaller one is its donor."""
    frame = table()
    small = frame.assign(model_size=1e7, run="small-" + frame["run"])
    few = frame[frame["mixture/x"].isin([0.3, 0.9])]
    large = few.assign(model_size=1e8, run="large-" + few["run"], **{"loss/x": 0.9 * few["loss/x"]})
    observations = Observations.from_frame(pd.concat([small, large]))
    found = bimixjax.fit(FEW, observations)
    assert found.donors == {1e8: 1e7}
    r, where = np.array([0.7, 0.3]), {"volume": 2e9, "model_size": 1e8, "inventory": STOCK}
    expected = 0.9 * (0.7**-0.08 * (100 * 2e9**-0.25 + 2) + 2 * np.log(14 / 8) ** 2)
    assert float(found.predict(r, **where)[0]) == pytest.approx(expected, rel=0.02)
    lower, upper = (float(np.asarray(end)[0]) for end in found.interval(r, **where))
    assert lower < expected < upper
    with jax.enable_x64(True):
        inside = np.asarray(jax.jit(lambda mixture: found.predict(mixture, **where))(jnp.asarray(r)))
    assert float(inside[0]) == pytest.approx(float(found.predict(r, **where)[0]), rel=1e-10)
    observed = observations.unique
    assert observed is not None
    whole = auto_folds(observations, np.ones((1, len(observations))), settings=FEW)
    row = len(observations) - 1
    where = {"volume": observations.volumes("tokens")[row], "model_size": 1e8, "inventory": observed[row]}
    one = found.predict(observations.proportions[row], **where)
    np.testing.assert_allclose(whole.predicted[0, row], one, rtol=1e-4)
