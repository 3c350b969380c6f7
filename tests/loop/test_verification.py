"""`verify` and `bimix verify`: what became of files and of what they were made from."""

import json
import shutil
from pathlib import Path

import pytest

from bimixjax import InputError, Observations, verify
from bimixjax._base.records import write_json
from bimixjax.cli import run
from bimixjax.cli.console import BAD_INPUT, DONE, FAILED
from bimixjax.corpus import Document, tokenize

STOCKED = "out/stocked.parquet"
MADE = ("out/fit.json", "out/predicted.csv", STOCKED)


@pytest.fixture(scope="module")
def made(three_domains: Observations, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study: a table, a fit of it, and two tables of predictions by the fit, one with an inventory."""
    folder = tmp_path_factory.mktemp("study")
    three_domains.write(folder / "my.csv")
    (folder / "stock.yaml").write_text("web: 8e9\nbooks: 1e9\ncode: 1e9\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for line in (
            "fit my.csv --law bimix --out out/fit.json --figure out/fit.png",
            "predict out/fit.json --mixtures my.csv --inventory stock.yaml --out out/stocked.parquet",
            "predict out/fit.json --mixtures my.csv --out out/predicted.csv",
        ):
            assert run([*line.split(), "--json"]) == DONE
    return folder


@pytest.fixture
def study(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, elsewhere."""
    shutil.copytree(made, tmp_path / "study")
    monkeypatch.chdir(tmp_path / "study")
    return tmp_path / "study"


def states(place: str = ".") -> dict[str, str]:
    return {one.file: one.state for one in verify(place)}


def test_what_nobody_touched_is_verified_wherever_the_tree_lies(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert states() == dict.fromkeys(MADE, "verified")
    found = {one.file: one for one in verify("out")}
    assert found["stocked.parquet"].inputs == ("../my.csv", "../stock.yaml", "fit.json")
    assert found["fit.json"].command == "bimix fit my.csv --law bimix --out out/fit.json --figure out/fit.png --json"
    assert run(["verify", "."]) == DONE
    assert "bimix predict" in capsys.readouterr().out
    assert b"bimix fit my.csv" in Path("out/fit.png").read_bytes()


@pytest.mark.parametrize(
    ("touch", "expected"),
    [
        (lambda: Path("out/fit.json").write_text(Path("out/fit.json").read_text().replace("2", "3", 1)),
         {"out/fit.json": "changed since", **dict.fromkeys(("out/predicted.csv", STOCKED), "input changed")}),
        (lambda: Path("out/fit.json").write_text(Path("out/fit.json").read_text()[:-300]),
         {"out/fit.json": "changed since", **dict.fromkeys(("out/predicted.csv", STOCKED), "input changed")}),
        (lambda: Path("out/predicted.csv").write_text("run\n"), {"out/predicted.csv": "changed since"}),
        (lambda: Path("out/predicted.csv").unlink(), {"out/predicted.csv": "changed since"}),
        (lambda: Path("out/predicted.csv.provenance.json").write_text("{}"), {"out/predicted.csv": "changed since"}),
        (lambda: Path("out/predicted.csv.provenance.json").unlink(), {"out/predicted.csv": "no provenance"}),
        (lambda: Path("stock.yaml").write_text("web: 1\n"), {STOCKED: "input changed"}),
        (lambda: Path("stock.yaml").unlink(), {STOCKED: "input missing"}),
        (lambda: Path("my.csv").unlink(), dict.fromkeys(MADE, "input missing")),
    ],
)  # fmt: skip
def test_what_was_touched_is_named(study: Path, touch, expected: dict[str, str]) -> None:
    touch()
    found = states()
    assert {file: state for file, state in found.items() if state != "verified"} == expected
    assert len(found) == 3
    assert run(["verify", ".", "--json"]) == (DONE if set(expected.values()) == {"no provenance"} else FAILED)


def test_inputs_may_lie_beside_what_was_made_from_them(study: Path) -> None:
    Path("my.csv").rename("out/my.csv")
    Path("stock.yaml").rename("out/stock.yaml")
    assert set(states("out").values()) == {"verified"}


def test_one_file_may_be_verified(study: Path) -> None:
    assert states("out/predicted.csv") == {"predicted.csv": "verified"}
    Path("my.csv").unlink()
    assert states("out/predicted.csv") == {"predicted.csv": "input missing"}
    with pytest.raises(InputError, match="no such file or folder"):
        verify("nothing")
    assert run(["verify", "nothing"]) == BAD_INPUT


def test_files_of_before_have_no_provenance_and_nothing_verified_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_json("old.json", {"x": 1}, hashed=True)
    whole = json.loads(Path("old.json").read_text())
    Path("old.json").write_text('{"x": 1, "sha256": "' + whole["sha256"] + '"}')
    assert states() == {"old.json": "changed since"}
    Path("old.json").write_text(
        '{"x": 1, "sha256": "5041bf1f713df204784353e82f6a4a535931cb64f1f4b4a5aeaffcb720918b22"}'
    )
    Path("none of ours.json").write_text('{"x": 1}')
    Path("t.csv").write_text("run\n")
    assert states() == {"old.json": "no provenance", "t.csv": "no provenance"}
    assert run(["verify", "."]) == FAILED
    assert "Nothing in . says what made it." in capsys.readouterr().out


def test_the_tokens_of_a_store_are_read_as_well(tmp_path: Path) -> None:
    texts = [Document(source=str(i), text=f"text {i}") for i in range(16)]
    tokenize(tmp_path / "store", {"web": texts}, validation_fraction=0.5)
    assert states(str(tmp_path)) == {"store/store.json": "verified"}
    file = next((tmp_path / "store").rglob("train.bin"))
    content = bytearray(file.read_bytes())
    content[0] ^= 1
    file.write_bytes(content)
    assert states(str(tmp_path)) == {"store/store.json": "changed since"}
