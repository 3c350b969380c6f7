"""The study of repetition: which rows are fitted in which layout, and laws with other priors."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bimixjax.laws import BiMixOffset, WithEpochs
from experiments.repetition import run
from experiments.repetition.config import LAST, MOVED, Moved


def write(folder: Path) -> None:
    """Two shares at a shorter training in each layout, and at the longest."""
    rows = [
        {"run": f"{tokens}-{unique}-{share}", "model_size": 1e8, "step": 10, "tokens": tokens, "unique_tokens": unique}
        | {"epochs": 1.0, "learning_rate": 1e-3, "mixture/web": share, "mixture/hq": 1 - share, "loss/hq": 3 + share}
        for tokens, unique in ((LAST // 2, 1e8), (LAST // 2, 5e7), (LAST, 1e8))
        for share in (0.9, 0.6)
    ]
    pd.DataFrame(rows).to_csv(folder / "repetition.csv", index=False)


def test_each_layout_is_judged_at_the_longest_training(tmp_path: Path) -> None:
    write(tmp_path)
    found = {name: (fitted, last) for name, fitted, last in run.layouts(tmp_path)}
    assert list(found) == ["whole", "subsampled"]
    for name, unique in (("whole", 1e8), ("subsampled", 5e7)):
        fitted, last = found[name]
        assert set(fitted["tokens"]) == {LAST // 2}
        assert set(fitted["unique/hq"]) == {unique}
        assert last["mixture/web"].tolist() == [0.6, 0.9]
        table = run.observed(fitted, in_epochs=True)
        assert table.unique is not None
        assert table.unique[:, table.domains.index("hq")].tolist() == [unique] * 2
        assert np.isinf(table.unique[:, table.domains.index("web")]).all()
        assert run.observed(fitted, in_epochs=False).unique is None


def test_a_law_with_another_prior_is_another_law_with_the_same_formula() -> None:
    plain = WithEpochs(BiMixOffset())
    for moved in MOVED:
        priors = {c.name: c.prior for c in plain.coefficients}
        others = {c.name: c.prior for c in moved.coefficients}
        assert {name for name in priors if priors[name] != others[name]} == {moved.coefficient}
        assert others[moved.coefficient][0] == moved.median
        assert moved != plain
    assert len({law.name for law in MOVED}) == len(MOVED)
    assert Moved(median=20.0) != Moved(median=25.0)


def test_a_folder_without_the_table_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(run.InputError, match=r"no repetition.csv at .*; name its folder with --observations"):
        run.main(run.Options(observations=tmp_path, out=tmp_path))
