"""Figures show every lane and row that they should, and write whole files without pyplot."""

import dataclasses
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bimixjax import FitResult, InputError, Observations
from bimixjax.loop.proof import Proof
from bimixjax.reports import figures
from bimixjax.reports.lanes import Curve, FittedLosses, Lane


@pytest.fixture
def losses(three_domains: Observations, three_domain_fit: FitResult) -> FittedLosses:
    return FittedLosses.of(three_domain_fit, three_domains)


def panels(figure: Figure) -> list[Axes]:
    return [axes for axes in figure.axes if axes.get_title()]


def dots(axes: Axes) -> np.ndarray:
    return np.asarray(axes.collections[0].get_offsets())


def many(count: int) -> FittedLosses:
    """Lanes of a made-up law, as many as a real table may have."""
    volume = np.geomspace(1e3, 1e5, 5)
    lane = Lane(
        target="t",
        model_size=None,
        run=np.full(5, "a", object),
        volume=volume,
        own=np.full(5, 0.1),
        measured=3 + 1 / volume,
        predicted=3 + 1 / volume,
        curves=(Curve(own=0.1, volume=volume, loss=3 + 1 / volume),),
    )
    lanes = tuple(dataclasses.replace(lane, target=f"t{i}") for i in range(count))
    return FittedLosses(law="made-up", volume_unit="steps", lanes=lanes)


def test_loss_curves_draw_each_run_and_row(losses: FittedLosses) -> None:
    drawn = panels(figures.loss_curves(losses))
    assert [axes.get_title() for axes in drawn] == ["web", "books", "code"]
    assert [len(axes.lines) for axes in drawn] == [7, 7, 6]
    assert [len(dots(axes)) for axes in drawn] == [42, 41, 36]
    assert drawn[0].lines[0].get_ydata() == pytest.approx(losses.lanes[0].curves[0].loss)
    assert np.asarray(drawn[0].lines[0].get_ydata())[[0, -1]] == pytest.approx(losses.lanes[0].predicted[[0, 5]])


def test_residuals_are_relative(losses: FittedLosses) -> None:
    web = panels(figures.residuals(losses))[0]
    assert dots(web)[:, 1] == pytest.approx(losses.lanes[0].predicted / losses.lanes[0].measured - 1)


def test_agreement_puts_predicted_over_measured(losses: FittedLosses) -> None:
    web = panels(figures.agreement(losses))[0]
    assert dots(web) == pytest.approx(np.stack([losses.lanes[0].measured, losses.lanes[0].predicted], -1))


@pytest.mark.parametrize("ends", [(1e3, 1e5), (900, 1100), (3, 7), (1, 1e12), (2.1e9, 2.2e9)])
def test_few_labels_on_a_log_axis(ends: tuple[float, float]) -> None:
    ticks = figures.log_ticks(*ends, most=4)
    assert 2 <= len(ticks) <= 5
    assert ends[0] <= min(ticks) < max(ticks) <= ends[1]


@pytest.mark.parametrize("count", [1, 22])
def test_labels_of_ticks_do_not_overlap(count: int) -> None:
    for figure in (figures.loss_curves(many(count)), figures.residuals(many(count)), figures.agreement(many(count))):
        figure.draw_without_rendering()
        for axes in panels(figure):
            boxes = [label.get_window_extent() for label in axes.get_xticklabels() if label.get_text()]
            low, high = axes.get_window_extent().x0 - 1, axes.get_window_extent().x1 + 1
            shown = sorted((box.x0, box.x1) for box in boxes if low <= (box.x0 + box.x1) / 2 <= high)
            assert all(left[1] < right[0] for left, right in pairwise(shown))
            assert shown


def test_a_mixture_has_one_color_in_all_figures() -> None:
    names = ("uniform", "optimized", "my own", "natural", "conditional-entropy")
    losses = np.random.default_rng(0).normal(3, 0.1, (5, 3, 2))
    found = Proof(mixtures=names, targets=("a", "b"), steps=60.0, losses=losses, predicted=losses[:, 0])
    colors = figures.mixture_colors(names)
    assert len(set(colors.values())) == 5
    (axes,) = figures.proof(found).axes
    rows = {label.get_text(): i for i, label in enumerate(axes.get_yticklabels())}
    for name, row in rows.items():
        dots = [line for line in axes.lines if line.get_marker() == "o" and len(np.atleast_1d(line.get_ydata()))]
        drawn = {line.get_color() for line in dots if np.all(np.asarray(line.get_ydata()) == row)}
        assert drawn == {colors[name]}
    (axes,) = figures.proportions(("x", "y"), {name: [0.5, 0.5] for name in reversed(names)}).axes
    assert {line.get_label(): line.get_color() for line in axes.lines} == colors
    assert figures.mixture_colors(["natural"]) == {"natural": colors["natural"]}


def test_axes_are_labeled_with_units(losses: FittedLosses) -> None:
    figure = figures.loss_curves(losses)
    assert figure.get_supxlabel() == "Training volume (steps)"
    assert figure.get_supylabel() == "Loss (nats per token)"


@pytest.mark.parametrize("count", [1, 5, 22, 88])
def test_panels_stay_large_enough_to_read(count: int) -> None:
    figure = figures.loss_curves(many(count))
    drawn = panels(figure)
    assert len(drawn) == count
    if count <= 22:
        figure.draw_without_rendering()
        boxes = [axes.get_window_extent().transformed(figure.dpi_scale_trans.inverted()) for axes in drawn]
        assert min(min(box.width, box.height) for box in boxes) > 1.0


def test_proportions_put_the_largest_on_top() -> None:
    mixtures = {"optimized": [0.2, 0.7, 0.1], "uniform": [1 / 3] * 3}
    axes = figures.proportions(("web", "code", "books"), mixtures).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["books", "web", "code"]
    assert axes.lines[0].get_xdata() == pytest.approx([0.1, 0.2, 0.7])


def test_limits_are_bars_in_the_rows_of_their_domains() -> None:
    limits = {"90 % of draws": (np.array([0.1, 0.6, 0.05]), np.array([0.3, 0.9, 0.15]))}
    axes = figures.proportions(("web", "code", "books"), {"optimized": [0.2, 0.7, 0.1]}, limits).axes[0]
    (bars,) = [drawn for drawn in axes.collections if drawn.get_label() == "90 % of draws"]
    ends = np.concatenate([np.ravel(path.vertices) for path in bars.get_paths()])
    assert ends == pytest.approx(np.array([0.05, 0, 0.15, 0, 0.1, 1, 0.3, 1, 0.6, 2, 0.9, 2]))


@pytest.mark.parametrize("suffix", [".png", ".pdf", ".svg"])
def test_saved_figures_are_whole(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / "new" / f"figure{suffix}"
    figures.save(figures.proportions(("a", "b"), {"uniform": [0.5, 0.5]}), path)
    start = {".png": b"\x89PNG", ".pdf": b"%PDF", ".svg": b"<?xml"}[suffix]
    assert path.read_bytes().startswith(start)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_an_unknown_format_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"suffix is '\.bmp'"):
        figures.save(Figure(), tmp_path / "figure.bmp")


def test_agreement_says_which_rows_it_shows(losses: FittedLosses) -> None:
    title = figures.agreement(losses, "last step held out").get_suptitle()
    assert title == "Loss: the law bimix against measurement, last step held out"
    assert figures.agreement(losses).get_suptitle() == "Loss: the law bimix against measurement"


def test_a_proof_shows_runs_means_and_predictions_the_best_on_top() -> None:
    losses = np.array([[[3.0, 3.2], [2.8, 3.0]], [[2.0, 2.2], [1.8, 2.0]], [[1.0, 1.0], [np.nan, 1.0]]])
    found = Proof(
        mixtures=("worse", "better", "diverged"), targets=("a", "b"), steps=60.0, losses=losses, predicted=losses[:, 0]
    )
    (axes,) = figures.proof(found).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["worse", "better"]
    drawn = {str(line.get_label()): np.asarray(line.get_xdata()) for line in axes.lines}
    assert drawn["mean"] == pytest.approx([3.0, 2.0])

    def of_size(size: int) -> np.ndarray:
        return np.sort(np.concatenate([line.get_xdata() for line in axes.lines if line.get_markersize() == size]))

    assert of_size(9) == pytest.approx([2.1, 3.1])
    assert of_size(4) == pytest.approx([1.9, 2.1, 2.9, 3.1])


def test_a_fit_of_one_volume_gets_agreement_instead_of_curves(
    three_domains: Observations, three_domain_fit: FitResult, tmp_path: Path
) -> None:
    last = FittedLosses.of(three_domain_fit, three_domains.select(volume=(32000, None), unit="steps"))
    figures.save_fit(last, curves=tmp_path / "curves.png", residual=tmp_path / "residuals.png")
    assert {path.name for path in tmp_path.iterdir()} == {"curves.png", "residuals.png"}
    figures.save(figures.agreement(last), tmp_path / "agreement.png")
    assert (tmp_path / "curves.png").read_bytes() == (tmp_path / "agreement.png").read_bytes()


def test_no_pyplot_and_its_global_state() -> None:
    code = "import sys, bimixjax.reports.figures; sys.exit('matplotlib.pyplot' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
