"""The transfer law in fits: what is held, targets that are no domain, shrinkage to a common mean, and searches."""

import jax
import numpy as np
import pandas as pd
import pytest

from bimixjax import Budget, FitResult, Observations, fit, optimize
from bimixjax.fitting.problem import start_grid
from bimixjax.laws import BiMixTransfer, Joint
from bimixjax.solve import LBFGS

DOMAINS = ("x", "y", "z")


def table(transfer=(0.3, 0.05)) -> Observations:
    """Losses without noise of x, which learns from y and z, and of `law`, which is no domain and learns as x does."""
    mixtures = np.random.default_rng(0).dirichlet(np.ones(3), 10)
    mixtures[0] = [0.0, 0.5, 0.5]
    rows = []
    for k, r in enumerate(mixtures):
        rho = np.sum([1.0, *transfer] * np.sqrt(r))
        for s in (1e3, 3e3, 9e3):
            loss = rho**-0.3 * (40 * s**-0.5 + 2)
            shares = {f"mixture/{d}": x for d, x in zip(DOMAINS, r, strict=True)}
            rows.append({"run": f"{k}", "step": s, **shares, "loss/x": loss, "loss/law": 1.5 * loss})
    return Observations.from_frame(pd.DataFrame(rows))


@pytest.fixture(scope="module")
def exact() -> FitResult:
    return fit("bimix_transfer", table(), priors=False)


def test_the_own_coefficient_is_held_and_the_others_are_found(exact):
    found = {name: exact.coefficients[name][0] for name in exact.names}
    assert found["T[x]"] == 1.0
    assert [found["T[y]"], found["T[z]"], found["g"]] == pytest.approx([0.3, 0.05, 0.5], rel=1e-6)
    assert exact.sentences[0] == "converged"
    assert exact.identified[0].all()


def test_rows_without_the_own_domain_are_fitted(exact):
    assert exact.zero.tolist() == [0, 0]
    assert exact.rows.tolist() == [30, 30]
    assert np.isfinite(exact.predict([0.0, 0.5, 0.5], 3e3)).all()


def test_a_target_that_is_no_domain_is_known_up_to_a_common_factor(exact):
    assert "T[x], T[y], T[z] not identified" in exact.sentences[1]
    transfer = np.array([exact.coefficients[f"T[{d}]"][1] for d in DOMAINS])
    np.testing.assert_allclose(transfer / transfer[0], [1.0, 0.3, 0.05], rtol=1e-5)
    losses = exact.predict([[0.2, 0.3, 0.5]], 2e3)[0]
    assert float(losses[1] / losses[0]) == pytest.approx(1.5, rel=1e-8)


def test_the_gradient_solver_agrees(exact):
    gradient = fit("bimix_transfer", table(), targets=["x"], priors=False, solver=LBFGS(tolerance=0.0))
    np.testing.assert_allclose(gradient.coefficients["T[y]"], [0.3], rtol=1e-3)


def test_priors_keep_transfers_about_their_common_mean():
    alone = Observations.from_frame(table().to_frame().query("run == '3'"))
    result = fit("bimix_transfer", alone, targets=["x"])
    assert "set by the prior" in result.sentences[0]
    # One mixture tells nothing apart: what it asks of the T is asked of their mean, and they stay together.
    found = [result.coefficients[f"T[{d}]"][0] for d in "yz"]
    assert np.log(found[0] / found[1]) == pytest.approx(0.0, abs=0.05)


def test_a_search_reads_every_domain(exact):
    best = optimize(exact, budget=Budget(volume=9e3), weights={"x": 1.0})
    # The optimum of rho over the simplex for g = 1/2: shares go as the squares of the transfers.
    share = np.array([1.0, 0.3, 0.05]) ** 2
    np.testing.assert_allclose(best.proportions, share / share.sum(), atol=1e-5)
    assert best.kkt_residual < 1e-4


@pytest.mark.parametrize(("method", "tolerance"), [("dual", 1e-8), ("softmax", 1e-4)])
def test_an_offset_is_searched_by_the_dual_of_shifted_shares(method, tolerance):
    r = np.random.default_rng(1).dirichlet(np.ones(3), 12)
    frame = pd.DataFrame(
        {"run": [f"{k}" for k in range(12)], **{f"mixture/{d}": r[:, i] for i, d in enumerate(DOMAINS)}}
    )
    scale, eps = np.array([2.0, 1.0, 0.1]), np.array([0.05, 0.1, 0.3])
    result = fit(
        "bimix_offset",
        Observations.from_frame(
            frame.assign(**{f"loss/{d}": scale[i] * (r[:, i] + eps[i]) ** -0.5 for i, d in enumerate(DOMAINS)})
        ),
        priors=False,
    )
    best = optimize(result, method=method)
    assert best.kkt_residual < tolerance
    # Stationarity by hand where shares are inside: scale (r + eps)^-1.5 is the price; z does not pay it.
    inside = scale * (best.proportions + eps) ** -1.5
    assert inside[0] == pytest.approx(inside[1], rel=10 * tolerance + 1e-4)
    assert best.proportions[2] == pytest.approx(0.0, abs=tolerance)
    assert inside[2] < inside[0]


def test_draws_are_the_same_in_every_fit_and_inside_the_bounds():
    law = Joint()
    starts = start_grid(law, 3)
    assert len(starts) == law.draws + 2
    np.testing.assert_array_equal(starts, start_grid(law, 3))
    spread = [c for c in law.part(linear=False) for _ in range(c.size(3))]
    assert (starts >= [c.lower for c in spread]).all()
    assert (starts <= [c.upper for c in spread]).all()
    assert len(start_grid(BiMixTransfer(), 3)) == 8


def test_losses_of_a_fit_are_differentiable_in_the_mixture_with_x64_off(exact):
    slope = jax.grad(lambda r: exact.predict(r, 3e3)[0])(jax.numpy.array([0.0, 0.5, 0.5]))
    assert np.isfinite(slope).all()
