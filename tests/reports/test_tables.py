"""Tables say what the results hold, in words that a reader can use."""

import dataclasses
import io
import math

import numpy as np
import pandas as pd
import pytest
from rich.console import Console, RenderableType

import bimixjax
from bimixjax import LAWS, AutoFit, Budget, FitResult, Limits, Observations, OptimalMixture
from bimixjax.auto.one_size import AutoSize, Lent
from bimixjax.mixtures import uniform
from bimixjax.optimization import OptimalResamples
from bimixjax.reports import coefficients, documents, tables
from bimixjax.reports.predictions import Predictions


def text(*parts: RenderableType, width: int = 120) -> str:
    console = Console(width=width, file=io.StringIO(), highlight=False)
    with console.capture() as captured:
        console.print(*parts)
    return captured.get()


@pytest.fixture
def best(three_domain_fit: FitResult) -> OptimalMixture:
    limits = Limits(lower={"web": 0.1}, upper={"code": 0.25})
    return bimixjax.optimize(three_domain_fit, budget=Budget(volume=16000, unit="steps"), limits=limits)


@pytest.fixture
def baselines(three_domain_fit: FitResult) -> Predictions:
    return Predictions.of(three_domain_fit, {"uniform": uniform(3)}, Budget(volume=16000))


@pytest.fixture
def draws(best: OptimalMixture) -> OptimalResamples:
    """Eleven draws, whose shares of web are from 5 % above that of the mixture chosen to 5 % below it."""
    off = np.linspace(-0.05, 0.05, 11)[:, None] * [1.0, -1.0, 0.0]
    converged = np.arange(11) < 9
    return OptimalResamples(
        best=best, proportions=best.proportions + off, regret=np.arange(11) / 1e3, converged=converged
    )


def test_coefficients_name_each_lane_with_counts_and_errors(three_domain_fit: FitResult) -> None:
    shown = text(tables.coefficients(three_domain_fit))
    for word in ("Law bimix", "web", "books", "code", "alpha", "beta", "r = 0", "missing", "A = 1", "volume in steps"):
        assert word in shown
    code = next(line for line in shown.splitlines() if line.startswith(" code"))
    assert code.split()[-6:-3] == ["36", "6", "0"]
    assert f"{three_domain_fit.coefficients['alpha'][2]:.5f} ± " in code


def test_a_law_with_cross_domain_terms_has_a_matrix_that_says_who_helps_whom(three_domains: Observations) -> None:
    fit = bimixjax.fit("bimix_transfer", three_domains.take(np.flatnonzero(three_domains.volumes("steps") < 9000)))
    lines = text(tables.coefficients(fit)).splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("T, by domain and target"))
    head, rows = lines[start + 2].split(), {line.split()[0]: line[1:] for line in lines[start + 4 : start + 7]}
    assert head == ["domain", "\\", "target", *fit.targets]
    assert list(rows) == ["web", "books", "code"]
    for i, domain in enumerate(fit.domains):
        cells = rows[domain].removeprefix(domain).split("  ")
        values = [float(cell.split()[0]) for cell in cells if cell.strip()]
        assert values == pytest.approx(fit.coefficients[f"T[{domain}]"].tolist(), rel=0.1)
        assert values[i] == 1.0
    assert "T: worth of a share of the domain to the target, beside one of the target's own" in " ".join(lines)
    assert not any("T[" in line for line in lines[: start + 8])


def test_a_law_with_model_size_has_one_row_per_target_for_all_sizes() -> None:
    shares = list(enumerate(np.random.default_rng(0).random(6)))
    rows = [(f"{n:g}-{i}", n, s, r) for n in (1e6, 1e7) for i, r in shares for s in (100, 400, 1600)]
    run, size, step, share = (np.array(column) for column in zip(*rows, strict=True))
    table = {"run": run, "model_size": size, "step": step, "mixture/x": share, "mixture/y": 1 - share}
    table["loss/x"] = share**-0.1 * (1 + 100 * size**-0.5 + 3 * step**-0.5)
    fit = bimixjax.fit("bimix_sized", Observations.from_frame(pd.DataFrame(table)))
    shown = text(tables.coefficients(fit), tables.statuses(fit), width=200)
    assert sum(line.startswith(" x") for line in shown.splitlines()) == 1
    assert len(documents.fitted(fit)["lanes"]) == 1


def test_every_coefficient_with_a_value_per_domain_says_how_to_read_it() -> None:
    unsaid = [(law.name, c.name) for law in LAWS.values() for c in law.coefficients if c.per_domain and not c.meaning]
    assert not unsaid


def average(*weights: float, lent: float | None = None, runs: int = 8) -> AutoFit:
    """A fit of `auto` to a target and to another without losses, as much of it as a table reads."""
    nothing = np.zeros(0)
    blank = dict.fromkeys(("mixture", "volume", "scale", "center", "spread", "correlation"), nothing)
    blank |= dict.fromkeys(("proportion_range", "volume_range", "log_range", "varies"), nothing)

    def size(parameters: float, lent: Lent | None = None) -> AutoSize:
        return AutoSize(
            member_names=("offset", "transfer_loose", "share_additive", "joint")[: len(weights)],
            model_size=np.asarray(parameters),
            fitted=(),
            weights=np.column_stack([weights, np.zeros(len(weights))]),
            left_out_error=np.array([0.0123, np.nan]),
            rows=np.array([40.0, 0.0]),
            mask=np.tile([1.0, 0.0], (runs, 5, 1)),
            lent=lent,
            **blank,
        )

    sizes = (size(1.0),) if lent is None else (size(lent), size(10 * lent, Lent(size=size(lent), center=nothing)))
    return AutoFit(
        domains=("x", "y"),
        targets=("x", "y"),
        own=(0, 1),
        volume_unit="steps",
        model_sizes=() if lent is None else (lent, 10 * lent),
        sentences=(),
        notes=(),
        sizes=sizes,
    )


def test_an_average_names_its_two_largest_laws_within_80_columns() -> None:
    shown = text(tables.members(average(0.2, 0.65, 0.1, 0.05)), width=80)
    rows = [line.split(maxsplit=4) for line in shown.splitlines() if line.startswith((" x", " y"))]
    assert rows[0][1:4] == ["40", "1.23", "%"]
    assert rows[0][4].rstrip() == "transfer_loose 65 %, offset 20 %, 2 others 15 %"
    assert " ".join(rows[1][1:]).split() == ["0", "-", "no", "usable", "observation"]
    assert "volume in steps" in shown


def test_a_single_run_has_no_error_of_cross_validation() -> None:
    (row,) = (line.split() for line in text(tables.members(average(1.0, runs=1))).splitlines() if line[:2] == " x")
    assert row[1:] == ["40", "-", "offset", "100", "%"]


def test_an_average_leaves_out_what_rounds_to_nothing() -> None:
    shown = text(tables.members(average(0.998, 0.002)))
    assert "offset 100 %" in shown
    assert "transfer" not in shown
    assert "2 others" not in text(tables.members(average(0.5, 0.3, 0.2)))
    assert "1 other 20 %" in text(tables.members(average(0.5, 0.3, 0.2)))


def test_small_weights_are_counted_among_the_others() -> None:
    shown = text(tables.members(average(0.6, 0.392, 0.004, 0.004)))
    assert "60 %" in shown
    assert "39 %, 2 others 1 %" in shown


def test_an_average_says_which_size_learns_from_which() -> None:
    shown = text(tables.members(average(0.5, 0.5, lent=70e6)), width=80)
    assert "700M uses the predictions of 70M" in " ".join(shown.split())
    assert [line.split()[1] for line in shown.splitlines() if line.startswith(" x")] == ["70M", "700M"]


def test_statuses_are_said_once_for_all_that_share_them(three_domain_fit: FitResult) -> None:
    assert text(tables.statuses(three_domain_fit)).strip() == "Status, all targets: converged."


def test_predictions_star_what_is_extrapolated(three_domain_fit: FitResult) -> None:
    mixtures = {"even": uniform(3), "odd": np.array([0.98, 0.01, 0.01])}
    predicted = Predictions.of(three_domain_fit, mixtures, Budget(volume=16000))
    shown = text(tables.predictions(predicted))
    assert "at 16K steps" in shown
    web = next(line for line in shown.splitlines() if line.startswith(" web"))
    assert web.count("*") == 1
    assert "* extrapolated" in shown


def test_more_mixtures_than_targets_run_down(three_domain_fit: FitResult) -> None:
    mixtures = {f"m{i}": uniform(3) for i in range(4)}
    shown = text(tables.predictions(Predictions.of(three_domain_fit, mixtures, Budget(volume=16000))))
    assert sum(line.startswith(" m") for line in shown.splitlines()) == 4
    assert "extrapolated" not in shown


def test_proportions_say_which_limits_hold(best: OptimalMixture, baselines: Predictions) -> None:
    lines = text(tables.proportions(best, baselines)).splitlines()
    code = next(line for line in lines if line.startswith(" code"))
    assert code.split()[1:3] == ["0.2500", "0.3333"]
    assert code.rstrip().endswith("at its upper limit")


def test_losses_end_with_the_weighted_mean(best: OptimalMixture, baselines: Predictions) -> None:
    lines = text(tables.losses(best, baselines)).splitlines()
    mean = next(line for line in lines if "weighted mean" in line)
    assert mean.split()[2:] == [f"{best.objective:.4f}", f"{baselines.losses[0].mean():.4f}"]


def test_certificate_states_residual_and_gap(best: OptimalMixture) -> None:
    shown = text(tables.certificate(best))
    assert "Search (dual) converged" in shown
    assert f"KKT residual {best.kkt_residual:.1e}" in shown
    assert "no mixture within the limits is better" in shown


def test_certificate_of_a_search_from_several_starts_speaks_of_nearby_mixtures(best: OptimalMixture) -> None:
    searched = dataclasses.replace(best, method="softmax", convex=False, starts=12, agreed=11, second=0.01)
    shown = " ".join(text(tables.certificate(searched)).split())
    assert "Search (softmax) converged" in shown
    assert "no small change gains more" in shown
    assert "11 of 12 descents ended here, and the next best minimum is higher by 1.0e-02 nats per token" in shown
    assert "no mixture within the limits" not in shown


def test_certificate_names_what_binds_and_what_no_average_of_runs_is(best: OptimalMixture) -> None:
    shown = " ".join(
        text(tables.certificate(dataclasses.replace(best, held=("web", "near"), beyond_hull=0.12))).split()
    )
    assert "Limits that bind, beside those of shares: web, near." in shown
    assert "No average of measured mixtures is nearer to it than 0.12 in total variation." in shown
    inside = text(tables.certificate(dataclasses.replace(best, beyond_hull=0.0)))
    assert "average" not in inside
    assert "bind" not in inside


def test_what_is_not_stationary_is_not_headed_as_found(best: OptimalMixture, baselines: Predictions) -> None:
    lost = dataclasses.replace(best, converged=False)
    assert text(tables.certificate(lost)).startswith("Not found: ")
    for shown in (text(tables.proportions(lost, baselines)), text(tables.losses(lost, baselines))):
        assert "not found" in shown
        assert "optimized" not in shown
    assert text(tables.proportions(lost, baselines)).startswith("Not found: ")


def test_baselines_outside_the_limits_are_marked_with_the_nearest_inside(
    best: OptimalMixture, three_domain_fit: FitResult
) -> None:
    mixtures = {"uniform": uniform(3), "inside": np.array([0.4, 0.4, 0.2])}
    predicted = Predictions.of(three_domain_fit, mixtures, Budget(volume=16000)).beside(best, three_domain_fit)
    np.testing.assert_allclose(predicted.mixtures["uniform, nearest allowed"], [0.375, 0.375, 0.25])
    for shown in (text(tables.proportions(best, predicted)), text(tables.losses(best, predicted))):
        assert "uniform†" in shown
        assert "inside†" not in shown
        assert "† outside the limits" in shown
    marked = {one["run"]: one["within_limits"] for one in documents.optimum(best, predicted)["baselines"]}
    assert marked == {"uniform": False, "inside": True, "uniform, nearest allowed": True}


def test_a_domain_with_one_share_only_reads_fixed(best: OptimalMixture, baselines: Predictions) -> None:
    fixed = dataclasses.replace(best, lower=np.array([0.1, 0.0, 0.25]))
    code = next(line for line in text(tables.proportions(fixed, baselines)).splitlines() if line.startswith(" code"))
    assert code.rstrip().endswith("fixed")


def test_proportions_have_limits_over_draws_within_80_columns(
    best: OptimalMixture, baselines: Predictions, draws: OptimalResamples
) -> None:
    shown = text(tables.proportions(best, baselines, draws), width=80)
    web, code = (next(line for line in shown.splitlines() if line.startswith(f" {name}")) for name in ("web", "code"))
    share = best.proportions[0]
    assert web.split()[1:5] == [f"{share:.4f}", f"{share - 0.045:.3f}", "to", f"{share + 0.045:.3f}"]
    assert code.split()[1:5] == ["0.2500", "0.250", "to", "0.250"]
    assert code.rstrip().endswith("at its upper limit")
    assert "90 % of draws" in shown


def test_the_regret_is_said_with_searches_that_did_not_end(draws: OptimalResamples) -> None:
    fit = average(1.0)
    shown = " ".join(text(tables.regret(draws, fit)).split())
    assert "Over 11 draws" in shown
    assert "by 5.0e-03 nats per token in the mean, and by less than 9.0e-03 in 90 % of them" in shown
    assert "did NOT converge in 2 of them" in shown
    ended = dataclasses.replace(draws, converged=np.ones(11, bool))
    assert "NOT" not in text(tables.regret(ended, fit))


def test_the_regret_says_what_is_held_of_other_sizes(draws: OptimalResamples) -> None:
    fit = average(1.0, lent=1e6)
    sized = {
        size: dataclasses.replace(draws, best=dataclasses.replace(draws.best, budget=Budget(model_size=size)))
        for size in fit.model_sizes
    }
    small, large = (" ".join(text(tables.regret(each, fit)).split()) for each in sized.values())
    assert "kept fixed" not in small
    assert "Predictions taken from other model sizes are kept fixed" in large


@pytest.mark.parametrize(
    ("value", "error", "words"),
    [
        (2.36886, 0.0075, "2.3689 ± 0.0075"),
        (1398.7, 153.2, "1399 ± 153"),
        (159.21, 9.2, "159.2 ± 9.2"),
        (2.0, 0.0, "2"),
        (1.5, math.nan, "1.5 ± ?"),
        (math.nan, math.nan, "?"),
    ],
)
def test_a_number_has_the_digits_that_its_error_leaves(value: float, error: float, words: str) -> None:
    assert coefficients.with_error(value, error) == words
