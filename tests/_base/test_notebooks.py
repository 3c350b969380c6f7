"""What a notebook shows of a result: valid HTML with its numbers, and names that are no markup."""

import dataclasses
import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd

import bimixjax
from bimixjax import FitResult, Observations

ODD = "<b>x</b>"


def text(shown: str) -> str:
    """The words of a fragment, in which every element ends where it should."""
    words, opened = [], []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            opened.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert opened.pop() == tag

        def handle_data(self, data: str) -> None:
            words.append(data)

    reader = Reader()
    reader.feed(shown)
    reader.close()
    assert not opened
    return " ".join(words)


def odd_table() -> Observations:
    share = np.array([0.25, 0.4, 0.6, 0.8])
    table = {"run": list("abcd"), f"mixture/{ODD}": share, "mixture/y": 1 - share}
    return Observations.from_frame(pd.DataFrame(table | {f"loss/{ODD}": 2 * share**-0.5, "loss/y": 2 + share}))


def test_a_fit_shows_coefficients_with_errors(three_domain_fit: FitResult) -> None:
    shown = three_domain_fit._repr_html_()
    assert shown.count("<tr>") == 1 + len(three_domain_fit.targets)
    alpha = float(three_domain_fit.coefficients["alpha"][0])
    assert f"{alpha:.4g} ± " in text(shown)
    assert "converged" in text(shown)
    # A law with more coefficients than a screen is wide says where they are.
    many = bimixjax.fit("bimix_transfer", odd_table())
    assert ODD in text(many._repr_html_())


def test_a_mixture_shows_shares_and_losses() -> None:
    best = bimixjax.optimize(bimixjax.fit("bimix", odd_table()))
    shown = text(best._repr_html_())
    assert ODD in shown
    assert f"{best.proportions[0]:.4f}" in shown
    assert f"weighted mean {best.objective:.4f} nats per token" in shown
    assert "Not found" in text(dataclasses.replace(best, converged=False)._repr_html_())


def test_an_average_and_a_comparison_show_their_rows() -> None:
    table = odd_table()
    fit = bimixjax.fit(bimixjax.Auto(members=("offset",)), table)
    assert re.search(rf"{ODD} 4 [\d.]+ % offset 100 %", " ".join(text(fit._repr_html_()).split()))
    found = bimixjax.compare(["bimix"], table, level=None)
    shown = text(found._repr_html_())
    assert ODD in shown
    assert all(name in shown for name in ("bimix", "uniform", "zero-run", "best run"))
