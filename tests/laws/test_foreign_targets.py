"""Targets that are no domain: a law with cross-domain terms learns them, and says so where it learned nothing."""

import jax
import numpy as np
import pandas as pd
import pytest

from bimixjax import FitResult, Observations, fit
from bimixjax.fitting.result import target_loss
from bimixjax.laws import LAWS, Law

CROSS = [name for name, law in LAWS.items() if not law.own_proportion and law.local_minima > 2 and name != "kaplan"]
# The families whose amplitude vanished at equal starts; the others take long to compile.
QUICK = ("log_linear", "exponential_volume", "additive")


def coefficients(law: Law, domains: int, random: np.random.Generator) -> np.ndarray:
    """About the medians of the priors, different for each domain."""

    def one(name: str, mean: float, width: float, count: int, *, logarithmic: bool) -> np.ndarray:
        noise = random.normal(size=count)
        if name in ("c", "E", "C", "b") and count == 1:
            return np.full(count, 1.5)
        return mean * np.exp(0.7 * width * noise) if logarithmic else mean + 0.7 * width * noise

    return np.concatenate(
        [
            np.full(1, 0.7)
            if c.linear and c.name not in ("c", "E", "C", "b")
            else np.clip(
                one(c.name, c.prior[0], min(c.prior[1], c.spread or 1.0), c.size(domains), logarithmic=c.logarithmic),
                c.lower,
                c.upper,
            )
            for c in law.ordered()
        ]
    )


def table(law: Law, targets: int = 4, noise: float = 0.002) -> tuple[Observations, np.ndarray]:
    """Losses by the law itself in 16 runs of 3 domains, and the cost of the truth."""
    random = np.random.default_rng(3)
    steps = (1000, 4000, 16000) if any(c.volumes > 1 for c in law.coefficients) else (1000,)
    sizes = (1e6, 4e6, 16e6) if law.sized else (1e6,)
    mixtures = random.dirichlet(np.ones(3), 16)
    rows = [(f"{i}-{n:g}", r, s, n) for n in sizes for i, r in enumerate(mixtures) for s in steps]
    r, s, n = (np.array([row[k] for row in rows]) for k in (1, 2, 3))
    truth = np.stack([coefficients(law, 3, random) for _ in range(targets)])
    with jax.enable_x64(True):
        loss = jax.vmap(jax.vmap(target_loss(law), (0, None, None, None, None)), (None, None, 0, 0, 0))
        exact = np.asarray(loss(truth, -1, r, s / s.max(), n / n.max()))
    measured = exact * np.exp(noise * random.normal(size=exact.shape))
    frame = pd.DataFrame({"run": [row[0] for row in rows], "step": s} | ({"model_size": n} if law.sized else {}))
    frame = frame.assign(**{f"mixture/d{j}": r[:, j] for j in range(3)})
    frame = frame.assign(**{f"loss/task{t}": measured[:, t] for t in range(targets)})
    return Observations.from_frame(frame), ((exact / measured - 1) ** 2).sum(0)


@pytest.mark.parametrize("priors", [True, False])
@pytest.mark.parametrize(
    "law", [pytest.param(law, marks=() if law in QUICK else pytest.mark.exhaustive) for law in CROSS]
)
def test_a_law_recovers_losses_of_its_own_making(law: str, priors: bool) -> None:
    observations, cost = table(LAWS[law])
    result = fit(law, observations, priors=priors)
    assert result.converged.all(), result.sentences
    # Priors pull coefficients towards their medians, at most as far as a few hundredths of a percent of loss are worth.
    assert (result.cost < (3 if priors else 1.001) * cost).all()


def constant(**losses: np.ndarray) -> FitResult:
    random = np.random.default_rng(0)
    shares = random.dirichlet(np.ones(3), 12)
    frame = pd.DataFrame({"run": range(12)} | {f"mixture/d{j}": shares[:, j] for j in range(3)})
    own = {f"loss/{name}": values if np.ndim(values) else np.full(12, values) for name, values in losses.items()}
    return fit("bimix", Observations.from_frame(frame.assign(**own)))


def test_a_law_that_is_no_better_than_a_constant_has_not_converged() -> None:
    random = np.random.default_rng(0)
    shares = random.dirichlet(np.ones(3), 12)
    # A loss that rises with its own share is beyond BiMix, whose exponent then stands at 0.
    result = constant(d0=2 + shares[:, 0], d1=2 * shares[:, 1] ** -0.1)
    assert result.converged.tolist() == [False, True]
    assert result.sentences[0].startswith("no better than a constant: it tells no mixture from another; ")


def test_losses_that_are_the_same_say_so() -> None:
    result = constant(d0=np.full(12, 3.0), d1=np.full(12, 2.0))
    assert result.converged.all()
    assert all(said.startswith("converged; the losses are the same for all mixtures") for said in result.sentences)
