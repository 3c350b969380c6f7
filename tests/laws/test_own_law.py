"""A law of one's own, without touching a solver: the documented snippet, and a law that forgets its units."""

import doctest

import numpy as np
import pandas as pd
import pytest

import bimixjax.laws
from bimixjax import InputError, Observations, fit
from bimixjax.laws import BiMix, Law, WithVolume


def test_the_documented_law_fits_as_shown():
    examples = doctest.DocTestParser().get_doctest(bimixjax.laws.__doc__ or "", {}, "laws", None, None)
    assert any("class Saturating(Law)" in example.source for example in examples.examples)
    report: list[str] = []
    assert doctest.DocTestRunner().run(examples, out=report.append).failed == 0, "".join(report)


def observations() -> Observations:
    share, step = np.repeat([0.25, 0.5], 3), np.tile([1.0, 4.0, 16.0], 2)
    frame = pd.DataFrame({"run": share.astype(str), "step": step, "mixture/x": share, "mixture/y": 1 - share})
    return Observations.from_frame(frame.assign(**{"loss/x": share**-0.5 * (1 + 2 * step**-0.5)}))


def test_a_law_that_forgets_its_units_is_refused():
    class Forgetful(BiMix):
        name = "forgetful"
        with_units = Law.with_units

    with pytest.raises(InputError, match="'forgetful' gives .* its with_units must say"):
        fit(Forgetful(), observations(), priors=False)


def test_a_wrapped_law_takes_the_facts_of_its_inner_law():
    law = WithVolume(BiMix())
    assert (law.name, law.own_proportion, law.diverges_at_zero) == ("bimix_volume", True, True)
    assert law == WithVolume(BiMix())
    assert hash(law) == hash(WithVolume(BiMix()))
