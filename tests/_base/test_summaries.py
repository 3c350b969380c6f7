"""What results say of themselves: a short `repr`, and a `summary` with the numbers that matter."""

import dataclasses

import jax
import numpy as np
import pytest

import bimixjax
from bimixjax import Budget, FitResult, Observations


@pytest.fixture(scope="module")
def resampled(three_domains: Observations) -> bimixjax.Resampled:
    return bimixjax.bootstrap("bimix", three_domains, key=0, count=8, targets=["web", "code"])


@pytest.fixture(scope="module")
def drawn(three_domains: Observations) -> bimixjax.AutoResampled:
    settings = bimixjax.Auto(members=("offset",))
    return bimixjax.sample(bimixjax.fit(settings, three_domains, targets=["web", "code"]), key=0, count=4)


def test_reprs_are_short_and_say_what_it_is(
    three_domains: Observations,
    three_domain_fit: FitResult,
    resampled: bimixjax.Resampled,
    drawn: bimixjax.AutoResampled,
) -> None:
    best = bimixjax.optimize(three_domain_fit, budget=Budget(volume=16_000))
    both = bimixjax.optimize_resamples(resampled, budget=Budget(volume=16_000))
    found = bimixjax.compare(["bimix"], three_domains, targets=["web"], level=None)
    for result, words in (
        (three_domains, ("Observations(", "runs", "domains web, books, code", "steps")),
        (three_domain_fit, ("FitResult(law bimix", "targets web, books, code", "volume in steps")),
        (resampled, ("Resampled(FitResult(law bimix", "8 resamples of the runs")),
        (drawn.fit, ("AutoFit(targets web, code",)),
        (drawn, ("AutoResampled(AutoFit(", "4 draws from its posterior")),
        (best, ("OptimalMixture(", f"code {best.as_dict()['code']:.3f}", f"{best.objective:.4f} nats per token")),
        (both, ("OptimalResamples(OptimalMixture(", "8 resamples")),
        (found, ("Comparison(laws bimix", "targets web", "rows held out")),
    ):
        said = repr(result)
        assert all(word in said for word in words), said
        assert "\n" not in said
        assert "array" not in said
        assert len(said) < 300


def test_a_repr_needs_no_numbers(three_domain_fit: FitResult) -> None:
    """Inside a transformation there are none."""
    said = []
    jax.jit(lambda fit: said.append(repr(fit)) or fit.values.sum())(three_domain_fit)
    assert said == [repr(three_domain_fit)]


def test_many_names_are_cut_and_counted(three_domain_fit: FitResult) -> None:
    many = dataclasses.replace(three_domain_fit, targets=tuple(f"target{i}" for i in range(99)))
    assert "target7, ... (99 in all)" in repr(many)


def test_a_fit_sums_up_coefficients_and_statuses(three_domain_fit: FitResult) -> None:
    lines = three_domain_fit.summary().splitlines()
    assert lines[0] == "Law bimix; volume in steps; coefficients ± standard errors"
    alpha, error = three_domain_fit.coefficients["alpha"][1], three_domain_fit.standard_errors["alpha"][1]
    start = next(i for i, line in enumerate(lines) if line.startswith("books: "))
    assert lines[start].endswith(three_domain_fit.sentences[1])
    assert f"  alpha {alpha:.4g} ± {error:.2g}" in lines[start : start + 6]
    assert lines[-len(three_domain_fit.notes) :] == list(three_domain_fit.notes)


def test_an_error_that_is_not_known_is_a_question_mark(three_domain_fit: FitResult) -> None:
    unknown = dataclasses.replace(three_domain_fit, covariance=np.full_like(three_domain_fit.covariance, np.nan))
    assert unknown.summary().count("± ?") == 12


def test_a_fit_of_sizes_names_them(three_domains: Observations) -> None:
    sizes = np.where(np.isin(three_domains.run, three_domains.runs[::2]), 7e7, 4e8)
    sized = dataclasses.replace(three_domains, model_size=sizes)
    said = bimixjax.fit("bimix", sized, targets=["web"]).summary()
    assert "web at 7e+07: " in said
    assert "web at 4e+08: " in said
    assert "\nweb: " in bimixjax.fit("bimix_sized", sized, targets=["web"]).summary()


def test_auto_sums_up_its_lanes(drawn: bimixjax.AutoResampled) -> None:
    said = drawn.fit.summary()
    assert said.startswith("auto, an average of laws; volume in steps\nweb: ")
    assert all(sentence in said for sentence in drawn.fit.sentences)
    assert drawn.summary() == f"{said}\n4 draws from its posterior"


def test_resamples_sum_up_deviations(resampled: bimixjax.Resampled) -> None:
    said = resampled.summary()
    assert said.startswith(resampled.fit.summary())
    assert f"alpha {resampled.standard_errors['alpha'][0]:.2g}" in said.splitlines()[-2]


def test_an_optimum_sums_up_shares_losses_and_the_search(
    three_domain_fit: FitResult, resampled: bimixjax.Resampled
) -> None:
    limits = bimixjax.Limits(upper={"books": 0.3})
    best = bimixjax.optimize(three_domain_fit, budget=Budget(volume=64_000, unit="steps"), limits=limits)
    lines = best.summary().splitlines()
    assert lines[0] == "Mixture, volume 64000 steps"
    assert "books  0.3000  at its upper limit" in lines
    assert any(line.startswith("web") and line.endswith("extrapolated") for line in lines)
    assert lines[-2] == f"weighted mean {best.objective:.4f}"
    assert lines[-1].startswith("search (dual) converged; KKT residual ")
    both = bimixjax.optimize_resamples(resampled, budget=Budget(volume=16_000))
    low, high = both.interval()
    assert f"{low[0]:.4f}  to {high[0]:.4f}" in both.summary()


def test_a_comparison_sums_up_laws(three_domains: Observations) -> None:
    found = bimixjax.compare(["bimix", "bimix_offset"], three_domains, targets=["web"], level=None)
    said = found.summary()
    frame = found.to_frame()
    assert all(any(line.startswith(name) for line in said.splitlines()) for name in frame["law"])
    laws = frame[~frame["baseline"]]
    for law, error in zip(laws["law"], laws["error"], strict=True):
        assert any(line.split()[0] == law and f"{100 * error:.2f}" in line.split() for line in said.splitlines())
