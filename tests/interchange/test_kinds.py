"""Every format gives the same two runs, recognized and told, whatever the order of its rows."""

from pathlib import Path

import pytest

from benchmarks import foreign_files as foreign
from benchmarks.foreign_files import FORMATS, Foreign
from bimixjax import Imported, import_runs


def same_runs(found: Imported, one: Foreign) -> None:
    table = found.observations.to_frame()
    table = table.sort_values(["run", "step"] if one.steps else ["run"])
    rows = [(run, step) for run in foreign.SHARES for step in one.steps or foreign.STEPS[-1:]]
    assert table["run"].tolist() == [run for run, _ in rows]
    for domain in foreign.DOMAINS:
        assert table[f"mixture/{domain}"].tolist() == pytest.approx([foreign.SHARES[run][domain] for run, _ in rows])
    if one.steps:
        assert table["step"].tolist() == [step for _, step in rows]
    for target, domain in one.targets.items():
        expected = [foreign.loss(run, step, domain) for run, step in rows]
        assert table[f"loss/{target}"].tolist() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_is_recognized_and_gives_the_same_runs(name: str, tmp_path: Path) -> None:
    if name == "tensorboard":
        pytest.importorskip("tensorboard")
    one = FORMATS[name]
    paths = one.make(tmp_path)
    found = import_runs(paths, **one.options)
    assert dict(found.kinds) == dict(zip(map(str, paths), one.kinds, strict=True))
    same_runs(found, one)
