"""What made a file: recorded within a work, named from the file's folder, and the same bytes for the same work."""

import hashlib
import json
from contextlib import suppress
from pathlib import Path

import pytest

from bimixjax import recording
from bimixjax._base import provenance
from bimixjax._base.checks import InputError
from bimixjax._base.files import write_text
from bimixjax._base.records import read_json, read_origin, write_json


def sha256(path: str) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def work(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write a file of each kind from one input, all with relative paths."""
    folder.mkdir()
    monkeypatch.chdir(folder)
    Path("runs.csv").write_text("run\n")
    with recording("bimix try", ["runs.csv"]):
        write_json("out/a.json", {"x": 1}, hashed=True)
        write_json("out/plain.json", {"x": 1})
        write_text("out/t.csv", "1\n")
        write_text("out/removed.csv", "1\n")
        Path("out/removed.csv").unlink()


def test_files_say_what_made_them_inside_or_beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work(tmp_path / "a", monkeypatch)
    found = sorted(path.name for path in Path("out").iterdir())
    assert found == ["a.json", "plain.json", "plain.json.provenance.json", "t.csv", "t.csv.provenance.json"]
    assert read_json("out/a.json") == {"x": 1}
    assert json.loads(Path("out/plain.json").read_text()) == {"x": 1}
    origin, intact = read_origin("out/a.json")
    assert intact
    assert origin is not None
    assert origin["command"] == "bimix try"
    assert origin["inputs"] == [{"name": "../runs.csv", "sha256": sha256("runs.csv")}]
    assert set(origin["versions"]) == {"bimixjax", "jax", "python"}
    assert read_json("out/t.csv.provenance.json", sealed=True) == {"file": "t.csv", "content": sha256("out/t.csv")}
    assert read_origin("out/t.csv.provenance.json") == (origin, True)


def test_the_same_work_elsewhere_writes_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for place in ("a", "b"):
        work(tmp_path / place, monkeypatch)
    names = {path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file()}
    assert len(names) == 6
    assert all((tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in names)


def test_a_step_of_a_work_may_be_given_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("runs.csv").write_text("run\n")
    with provenance.given(Path("runs.csv")):
        write_json("alone.json", {"x": 1}, hashed=True)
    with recording("bimix try", []):
        with provenance.given(Path("runs.csv")):
            write_json("fit.json", {"x": 1}, hashed=True)
        write_json("other.json", {"x": 1}, hashed=True)
    inputs = {name: (read_origin(f"{name}.json")[0] or {})["inputs"] for name in ("alone", "fit", "other")}
    assert inputs == {"alone": [], "fit": [{"name": "runs.csv", "sha256": sha256("runs.csv")}], "other": []}


def test_outside_of_any_work_there_are_versions_and_nothing_beside(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"x": 1}, hashed=True)
    write_text(tmp_path / "t.csv", "1\n")
    assert {path.name for path in tmp_path.iterdir()} == {"a.json", "t.csv"}
    origin, _ = read_origin(tmp_path / "a.json")
    assert origin is not None
    assert (origin["command"], origin["inputs"]) == (None, [])


def test_a_work_that_fails_puts_nothing_beside(tmp_path: Path) -> None:
    with suppress(InputError), recording("bimix try"):
        write_text(tmp_path / "t.csv", "1\n")
        raise InputError("no")
    assert [path.name for path in tmp_path.iterdir()] == ["t.csv"]
    assert provenance.under_way() is None


def test_files_of_before_are_read_and_what_was_changed_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"x": 1}')
    assert read_json(path) == {"x": 1}
    assert read_origin(path) == (None, None)
    with pytest.raises(InputError, match="no field sha256"):
        read_json(path, sealed=True)
    write_json(path, {"x": 1}, hashed=True)
    whole = json.loads(path.read_text())
    whole["provenance"]["command"] = "another"
    path.write_text(json.dumps(whole))
    with pytest.raises(InputError, match="was changed after it was written"):
        read_json(path)
    del whole["sha256"]
    path.write_text(json.dumps(whole))
    assert read_json(path) == {"x": 1}


def test_the_digest_of_a_folder_is_of_names_and_contents(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/x.txt").write_text("1")
    first = provenance.digest(tmp_path)
    (tmp_path / "a/x.txt").rename(tmp_path / "a/y.txt")
    second = provenance.digest(tmp_path)
    (tmp_path / "a/y.txt").write_text("2")
    assert len({first, second, provenance.digest(tmp_path)}) == 3
