"""Sweeps and fronts as tables, figures and documents."""

import io

import numpy as np
import pytest
from rich.console import Console

from bimixjax import Sweep
from bimixjax.reports import sweeps

SHARES = np.linspace(0.2, 0.8, 12)


def found(**other) -> Sweep:
    """Twelve volumes, of which one was not found."""
    values = {
        "of": "volume",
        "unit": "tokens",
        "values": np.geomspace(1e9, 1e12, 12),
        "domains": ("web", "code"),
        "proportions": np.column_stack([SHARES, 1 - SHARES]),
        "targets": ("web", "task"),
        "losses": np.column_stack([4 - SHARES, 2 + SHARES]),
        "objective": np.full(12, 3.0),
        "converged": np.arange(12) != 11,
    }
    return Sweep(**{**values, **other})


def text(value: Sweep) -> str:
    console = Console(width=100, file=io.StringIO(), highlight=False)
    with console.capture() as captured:
        console.print(sweeps.swept(value))
    return captured.get()


def test_of_many_points_some_are_shown_with_both_ends() -> None:
    shown = text(found())
    rows = [line.split() for line in shown.splitlines() if line.rstrip().endswith("3.0000")]
    assert len(rows) == 9
    assert rows[0] == ["1B", "0.2000", "0.8000", "3.0000"]
    assert rows[-1] == ["1T", "not", "found", "0.8000", "0.2000", "3.0000"]
    assert "12 points, 9 of them shown" in shown


def test_a_front_shows_both_losses() -> None:
    shown = text(found(of="weight of task", unit=None, values=np.linspace(0.1, 0.9, 12)))
    assert "Front of web and task" in shown
    assert "loss of task" in shown
    assert "0.100" in shown


@pytest.mark.parametrize("epochs", [None, np.column_stack([SHARES, 3 * SHARES])])
def test_a_sweep_is_drawn_with_losses_or_epochs(epochs) -> None:
    figure = sweeps.sweep_figure(found(epochs=epochs))
    upper, lower = figure.axes
    assert len(upper.collections) == 2
    drawn = [np.asarray(line.get_ydata()) for line in lower.lines if len(np.asarray(line.get_ydata())) == 12]
    expected = [found().objective] if epochs is None else list(epochs.T)
    assert np.array(drawn) == pytest.approx(np.array(expected))
    assert lower.get_ylabel() == ("Mean loss (nats per token)" if epochs is None else "Epochs")


def test_a_front_is_drawn_as_losses_and_shares() -> None:
    left, right = sweeps.front_figure(found(of="weight of web", unit=None, values=np.linspace(0.1, 0.9, 12))).axes
    assert np.asarray(left.lines[0].get_ydata()) == pytest.approx(2 + SHARES)
    assert len(right.lines) == 2


def test_a_document_has_an_object_for_each_point() -> None:
    document = sweeps.document(found(epochs=np.column_stack([SHARES, SHARES])))
    assert len(document) == 12
    assert document[0]["volume"] == pytest.approx(1e9)
    assert document[0]["mixture"] == {"web": pytest.approx(0.2), "code": pytest.approx(0.8)}
    assert document[-1]["converged"] is False
    assert document[0]["epochs"]["web"] == pytest.approx(0.2)
