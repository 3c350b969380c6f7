"""A comparison's table says every law and reason, and its figures show every law, group and cell."""

import dataclasses
import io

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.console import Console, RenderableType

from bimixjax.comparison import Comparison
from bimixjax.reports import comparisons

LAWS, TARGETS, RUNS = ("auto", "bimix", "joint"), ("x", "y"), 6


def made(groups=(2.0, 4.0)) -> Comparison:
    """Three laws, two folds in each group, six held-out runs each; auto is off by 1 %, bimix by 2 %, joint by 3 %."""
    folds = 2 * len(groups)
    cells = folds * RUNS
    measured = 3 + np.arange(cells * 2).reshape(cells, 2) / cells
    factor = np.array([1.01, 0.98, 1.03])[:, None, None]
    predicted = measured * factor
    predicted[1, 0, 0] = np.inf
    return Comparison(
        laws=LAWS,
        targets=TARGETS,
        level=0.9,
        grouped_by="runs",
        beyond="",
        group=np.repeat(groups, 2),
        block=np.arange(folds),
        fold=np.repeat(np.arange(folds), RUNS),
        run=np.tile(np.array([f"r{i}" for i in range(RUNS)], object), folds),
        mixture=np.tile(np.arange(RUNS), folds),
        model_size=np.ones(cells),
        volume=np.ones(cells),
        outside=np.zeros(cells, bool),
        absent=np.isposinf(predicted[1]),
        measured=measured,
        predicted=predicted,
        lower=predicted * 0.975,
        upper=predicted * 1.025,
        at_bound=np.zeros((3, folds)),
        unconverged=np.zeros((3, folds)),
    )


def text(*parts: RenderableType, width: int = 120) -> str:
    console = Console(width=width, file=io.StringIO(), highlight=False)
    with console.capture() as captured:
        console.print(*parts)
    return captured.get()


def panels(figure: Figure) -> list[Axes]:
    return [axes for axes in figure.axes if axes.get_subplotspec() is not None]


def test_the_table_has_the_best_law_of_each_group_first() -> None:
    shown = text(comparisons.summary(made()))
    rows = [line.split() for line in shown.splitlines() if line.strip().startswith(LAWS)]
    assert [(row[0], row[1]) for row in rows] == [(law, k) for k in ("2", "4") for law in LAWS]
    assert rows[0][2:5] == ["1.00", "±", "0.00"]
    assert rows[0][5:] == ["best", "100"]
    assert rows[1][5:8] == ["1.00", "±", "0.00"]
    assert "runs" in shown


def test_a_table_of_the_longest_names_fits_80_columns() -> None:
    found = dataclasses.replace(made(), laws=("auto", "bimix_transfer_linear", "exponential_m1_volume"))
    lines = text(comparisons.summary(found), width=80).splitlines()
    rows = [line.split() for line in lines if line.strip().startswith(found.laws)]
    assert [len(row) for row in rows] == [7, 9, 9] * 2
    assert all(f"\n{word}: " in "\n".join(lines) for word in ("error %", "gap %", "inside %"))
    decided = text(comparisons.decisions(found), width=80).splitlines()
    rows = [line.split() for line in decided if line.strip().startswith(found.laws)]
    assert [len(row) for row in rows] == [8] * 6
    assert all(f"\n{word}: " in "\n".join(decided) for word in ("regret", "nats", "top 3", "rank"))


def with_baselines(groups=(2.0, 4.0)) -> Comparison:
    """The same, with a zero-run order that is the wrong way round, and a best run that is 1 % above the least loss."""
    found = made(groups)
    order, best = -found.measured.mean(1), np.repeat(1.01 * found.measured.mean(1)[::RUNS], RUNS)
    return dataclasses.replace(found, orders={"zero-run": order}, missing={"natural": "no tokens"}, best_run=best)


def test_choices_stand_in_the_order_of_their_regret_with_what_is_missing() -> None:
    shown = text(comparisons.decisions(with_baselines()))
    rows = [line.split("  ")[0].strip() for line in shown.splitlines() if line.startswith((" auto", " zero", " best"))]
    assert rows == ["auto", "best run", "zero-run"] * 2
    zero = next(line.split() for line in shown.splitlines() if line.startswith(" zero-run"))
    assert zero[2] == "2.000"
    assert zero[-1] == "-1.000"
    assert "no row natural: no tokens" in shown
    assert "zero-run" not in text(comparisons.summary(with_baselines()))


@pytest.mark.parametrize("groups", [(2.0, 4.0), (5.0,)])
def test_choices_are_drawn_for_laws_and_baselines(groups) -> None:
    figure = comparisons.choices(with_baselines(groups))
    left, _ = panels(figure)
    if len(groups) > 1:
        assert [text.get_text() for text in figure.legends[0].get_texts()] == [*LAWS, "zero-run", "best run"]
    else:
        assert {label.get_text() for label in left.get_yticklabels()} == {*LAWS, "zero-run", "best run"}


def test_no_intervals_need_no_column() -> None:
    assert "inside" in text(comparisons.summary(made()))
    assert "inside" not in text(comparisons.summary(dataclasses.replace(made(), level=None)))


def test_one_group_needs_no_column() -> None:
    shown = text(comparisons.summary(made(groups=(5.0,))))
    assert "2 folds (5 runs fitted)" in shown
    assert " 5 " not in shown.replace("(5 runs", "")


def test_each_reason_is_said_once_with_whom_it_is_of() -> None:
    said = [part.plain for part in comparisons.trust(made())]
    assert "Caution, bimix (2): not predicted at a share of zero: 1 of 24 losses." in said
    assert "Caution, joint (2), joint (4): 90% intervals cover 0%." in said
    assert len(said) == len(set(said))


def test_a_reason_of_all_laws_of_a_group_names_the_group_only() -> None:
    found = made()
    outside = np.repeat([True, False], 2 * RUNS)
    said = [part.plain for part in comparisons.trust(dataclasses.replace(found, outside=outside))]
    assert "Caution, all (2): 100% of rows outside the fitted proportions." in said
    said = [part.plain for part in comparisons.trust(dataclasses.replace(found, outside=~found.outside))]
    assert "Caution, all: 100% of rows outside the fitted proportions." in said


def test_a_document_has_an_object_for_each_law_and_group() -> None:
    found = comparisons.document(made())
    assert [(row["law"], row["group"]) for row in found["laws"]] == [(law, k) for k in (2.0, 4.0) for law in LAWS]
    assert found["targets"] == TARGETS


@pytest.mark.parametrize("draw", [comparisons.errors, comparisons.calibration])
def test_laws_are_lines_over_groups(draw) -> None:
    for axes in panels(draw(made())):
        lines = [
            line for line in axes.lines if len(np.atleast_1d(line.get_xdata())) == 2 and line.get_marker() != "None"
        ]
        assert [np.asarray(line.get_xdata()).tolist() for line in lines] == [[2.0, 4.0]] * 3
        assert axes.get_xlabel() == "Runs fitted"


@pytest.mark.parametrize("draw", [comparisons.errors, comparisons.calibration])
def test_laws_are_points_of_one_group(draw) -> None:
    left, right = panels(draw(made(groups=(5.0,))))
    assert [label.get_text() for label in left.get_yticklabels()] == list(LAWS)
    assert left.get_xlabel()
    assert right.get_xlabel()


def test_agreement_has_losses_and_misses_of_each_law_in_the_last_group() -> None:
    drawn = panels(comparisons.agreement(made()))
    assert [axes.get_title() for axes in drawn] == [*LAWS, "", "", ""]
    losses, misses = drawn[0].lines[:2], drawn[3 + LAWS.index("joint")].lines[:2]
    assert [len(np.asarray(line.get_xdata())) for line in losses] == [2 * RUNS] * 2
    assert np.asarray(misses[1].get_ydata()) == pytest.approx(np.full(2 * RUNS, 0.03))


def test_many_laws_are_told_apart() -> None:
    styles = [comparisons.style(i, f"law{i}") for i in range(12)]
    assert len({(s["color"], s["marker"], s["linestyle"]) for s in styles}) == 12
    assert comparisons.style(0, "auto")["color"] == "black"
