"""Held-out checks against a law that is known, and the statistics of a proof against their textbook form."""

import numpy as np
import pandas as pd
import pytest

import bimixjax
from bimixjax import InputError, Observations
from bimixjax.loop.designs import run_id
from bimixjax.loop.evidence import extrapolate, generalize
from bimixjax.loop.proof import Proof, judged
from bimixjax.loop.proposals import Proposal, Proposals

SEEDS = (1, 2, 3)


def exact(r: np.ndarray, step: float) -> np.ndarray:
    """Losses of BiMix without noise."""
    return r ** -np.array([0.05, 0.1, 0.2]) * (30 * step**-0.5 + np.array([3.0, 2.0, 1.0]))


def table(mixtures: dict[str, np.ndarray], noise: float = 0.0) -> Observations:
    random, rows = np.random.default_rng(0), []
    for run, r in mixtures.items():
        for step in (1000, 2000, 4000, 8000, 16000):
            losses = exact(r, step) * np.exp(noise * random.standard_normal(3))
            row = {"run": run, "step": step, **{f"mixture/{d}": r[i] for i, d in enumerate("abc")}}
            rows.append(row | {f"loss/{d}": losses[i] for i, d in enumerate("abc")})
    return Observations.from_frame(pd.DataFrame(rows))


@pytest.fixture(scope="module")
def runs() -> dict[str, np.ndarray]:
    drawn = np.random.default_rng(0).dirichlet([4.0, 4.0, 4.0], 7)
    return {f"r{i}": r for i, r in enumerate(drawn)}


def test_a_true_law_extrapolates_better_than_the_last_loss(runs: dict[str, np.ndarray]) -> None:
    check = extrapolate("bimix", table(runs))
    assert set(check.held_out.step.tolist()) == {16000}  # pyright: ignore[reportOptionalMemberAccess]
    assert check.fit.volume_range.max() == 8000
    assert (check.error < 2e-3).all()
    ratio = exact(np.full(3, 1 / 3), 8000) / exact(np.full(3, 1 / 3), 16000) - 1
    assert check.naive == pytest.approx(ratio)


def test_a_true_law_predicts_mixtures_that_it_has_not_seen(runs: dict[str, np.ndarray]) -> None:
    check = generalize("bimix", table(runs), ["r2", "r5"])
    assert check.held_out.runs == ("r2", "r5")
    assert check.fit.rows.tolist() == [25, 25, 25]
    assert (check.error < 2e-3).all()
    assert (check.naive > 5 * check.error).all()


def proposals(fit: bimixjax.FitResult, compared: dict[str, np.ndarray]) -> Proposals:
    """What a law promises at the last step."""
    of = tuple(
        Proposal(name=name, proportions=mixture, losses=np.asarray(fit.predict(mixture, 16000)))
        for name, mixture in compared.items()
    )
    weights = np.full(3, 1 / 3)
    return Proposals(domains=fit.domains, targets=fit.targets, weights=weights, volume=16000, unit="steps", of=of)


def proof(losses: np.ndarray) -> Proof:
    names = tuple("abcd"[: len(losses)])
    return Proof(mixtures=names, targets=("x",), steps=1.0, losses=losses[..., None], predicted=losses[:, :1])


def test_noise_leaves_out_what_mixtures_and_seeds_do() -> None:
    random = np.random.default_rng(0)
    noise = 0.01 * random.standard_normal((4, 3))
    found = proof(20.0 + 0.1 * np.arange(4)[:, None] + 0.2 * np.arange(3) + noise)
    assert found.noise == pytest.approx(proof(20 + noise).noise)
    # The residual mean square of the two-way layout, from its least-squares fit.
    rows, columns = np.indices((4, 3)).reshape(2, -1)
    layout = np.column_stack([rows[:, None] == np.arange(4), columns[:, None] == np.arange(1, 3)]).astype(float)
    left = np.linalg.lstsq(layout, noise.ravel(), rcond=None)[1][0]
    assert proof(20 + noise).noise == pytest.approx(np.sqrt(left / 6))
    assert found.standard_error == pytest.approx(found.noise * np.sqrt(2 / 3))


def test_noise_is_the_spread_of_runs_on_average() -> None:
    random = np.random.default_rng(1)
    squares = [proof(90 + 0.3 * random.standard_normal((4, 3))).noise ** 2 for _ in range(2000)]
    assert np.mean(squares) == pytest.approx(0.09, rel=0.05)


def test_noise_of_bad_mixtures_does_not_count() -> None:
    losses = np.array([[2.0, 2.01, 2.02], [2.05, 2.04, 2.06], [2.2, 3.9, 1.9]])
    assert proof(losses).noise == pytest.approx(proof(losses[:2]).noise)


def test_differences_are_counted_from_one_mixture() -> None:
    found = proof(np.array([[2.0, 2.2], [1.0, 1.3], [3.0, 3.1]]))
    assert found.ranked == ("b", "a", "c")
    gap, errors = found.differences("a")["b"]
    assert gap == pytest.approx(-0.95)
    assert errors == pytest.approx(gap / found.standard_error)
    assert set(found.differences("a")) == {"b", "c"}


def test_a_mixture_that_lacks_a_run_is_not_ranked() -> None:
    losses = np.array([[2.0, 2.2], [1.0, np.nan], [3.0, 3.1]])
    found, without = proof(losses), proof(losses[[0, 2]])
    assert found.ranked == ("a", "c")
    assert found.noise == pytest.approx(without.noise)
    assert found.differences("b") == {}
    assert set(found.differences("a")) == {"c"}


def test_one_whole_mixture_says_nothing_of_noise() -> None:
    found = proof(np.array([[2.0, 2.2], [1.0, np.nan]]))
    assert np.isnan(found.noise)
    assert found.ranked == ("a",)


def test_a_proof_joins_runs_by_id_and_takes_the_last_step(runs: dict[str, np.ndarray]) -> None:
    fit = bimixjax.fit("bimix", table(runs), volume="steps")
    compared = {"even": np.full(3, 1 / 3), "odd": np.array([0.2, 0.3, 0.5])}
    whole = {run_id(name, seed): compared[name] for seed in SEEDS for name in ("odd", "even")}
    found = judged(proposals(fit, compared), table(whole, noise=0.01), SEEDS)
    assert (found.mixtures, found.steps, found.losses.shape) == (("even", "odd"), 16000, (2, 3, 3))
    assert found.losses[1] == pytest.approx(np.tile(exact(compared["odd"], 16000), (3, 1)), rel=0.05)
    assert found.predicted[0] == pytest.approx(exact(compared["even"], 16000), rel=2e-3)
    assert found.ranked == ("even", "odd")


def test_a_run_that_is_not_there_is_missing(runs: dict[str, np.ndarray]) -> None:
    fit = bimixjax.fit("bimix", table(runs), volume="steps")
    compared = {"even": np.full(3, 1 / 3)}
    found = judged(proposals(fit, compared), table({run_id("even", 1): compared["even"]}), (1, 2))
    assert np.isfinite(found.losses[0, 0]).all()
    assert np.isnan(found.losses[0, 1]).all()


def test_a_table_without_steps_is_refused(runs: dict[str, np.ndarray]) -> None:
    frame = table(runs).to_frame().rename(columns={"step": "tokens"})
    with pytest.raises(InputError, match="no column 'step'"):
        extrapolate("bimix", Observations.from_frame(frame))
