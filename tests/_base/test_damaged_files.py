"""Damaged files: one `InputError` that names file and field, and nothing that predicts numbers that are not finite."""

import importlib
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from bimixjax import FitResult, InputError, Observations, OptimalMixture, Resampled
from bimixjax._base.records import read_json, write_json
from bimixjax.cli import run
from bimixjax.cli.console import BAD_INPUT
from bimixjax.corpus import FileTokenizer
from bimixjax.proxy import Design, storage

ROOT = Path(__file__).resolve().parents[2]
INPUTS = 200


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    """The benchmark that damages ten thousand of each."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT)
        return importlib.import_module("benchmarks.damaged_files")


@pytest.fixture(scope="module")
def readers(bench: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return dict(bench.readers(tmp_path_factory.mktemp("files")))


@pytest.fixture
def path(three_domain_fit: FitResult, tmp_path: Path) -> Path:
    three_domain_fit.save(tmp_path / "fit.json")
    return tmp_path / "fit.json"


def test_damage_is_refused_in_one_line_or_does_no_harm(bench: ModuleType, readers: dict[str, Any]) -> None:
    found = {}
    with bench.quiet():
        for name, reader in readers.items():
            ends, words = bench.count(reader, INPUTS, seed=1)
            found[name] = (ends[bench.FAILED] + ends[bench.NOT_FINITE], words)
            assert ends[bench.REFUSED] > INPUTS / 4
    assert found == dict.fromkeys(readers, (0, []))


def test_a_digit_changed_in_silence_is_told_and_how_to_keep_it(path: Path) -> None:
    value = json.loads(path.read_text())["values"][0][0]
    path.write_text(path.read_text().replace(str(value), str(value * 1.01)))
    with pytest.raises(InputError, match=r"fit\.json was changed after it was written.*remove the field sha256"):
        FitResult.load(path)
    write_json(path, {key: item for key, item in json.loads(path.read_text()).items() if key != "sha256"})
    assert FitResult.load(path).values[0, 0] == value * 1.01


def test_a_hash_holds_for_the_content_not_for_the_layout(path: Path, three_domain_fit: FitResult) -> None:
    found = json.loads(path.read_text())
    path.write_text(json.dumps(dict(sorted(found.items()))))
    assert np.array_equal(FitResult.load(path).values, three_domain_fit.values)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"values": None}, r"fit\.json: values is null; allowed: lists \[3 x 4\] of numbers"),
        ({"values": [[1.0] * 4] * 2}, r"fit\.json: values is a list of 2; allowed: lists \[3 x 4\]"),
        ({"values": [[1.0, 2.0, "x", 1.0]] * 3}, r'values is "x"; allowed'),
        ({"values": [[1.0, 2.0, 10**400, 1.0]] * 3}, "values is a whole number of many digits"),
        ({"values": [[1.0, 2.0, 300.0, 0.5]] * 3}, r"alpha = 300 .* allowed: 0 to 10, the bounds of the law bimix"),
        ({"values": [[None, 2.0, 0.1, 0.5]] * 3}, r"values\[0\] is null; allowed: numbers, since the lane has rows"),
        ({"own": [0, 0, 0]}, r"own is a list of 3; allowed: \[0, 1, 2\], the place of each target"),
        (
            {"domains": ["web", "web", "code"]},
            "domains is a list of 3; allowed: names, none of them blank or there twice",
        ),
        ({"targets": ["web", 1, "code"]}, r"targets\[1\] is 1; allowed: a text"),
        ({"status": [0, 9, 0]}, "status is 9; allowed: .*whole numbers from 0 to 4"),
        ({"identified": [[1] * 4] * 3}, "identified is 1; allowed: .*true or false"),
        ({"volume_unit": "epochs"}, 'volume_unit is "epochs"; allowed: tokens, steps'),
        ({"remark": 1}, "has the unknown field 'remark'; known: "),
        ({"law": ["bimix"]}, "the law of .* is "),
    ],
)
def test_each_field_is_checked_and_named(path: Path, change: dict[str, Any], message: str) -> None:
    write_json(path, {**json.loads(path.read_text()), **change}, hashed=True)
    with pytest.raises(InputError, match=message):
        FitResult.load(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff\xfe{}", "not UTF-8 at byte 0"),
        (b'{"a": 1', "not JSON at line 1"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a": ' + b"9" * 5000 + b"}", "not strict JSON: .*digits"),
        (b'{"a": NaN}', "NaN is no number there"),
        (b'{"a": 1, "a": 2}', "an object names 'a' twice"),
    ],
)
def test_what_is_not_strict_json_is_said_in_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(InputError, match=rf"x\.json: .*{message}"):
        read_json(tmp_path / "x.json")
    with pytest.raises(InputError, match="no such file"):
        read_json(tmp_path / "none.json")
    with pytest.raises(InputError, match="cannot be read"):
        read_json(tmp_path)


def test_a_null_certificate_is_a_number_that_is_not_finite(readers: dict[str, Any]) -> None:
    path = readers["optimal mixture"].path
    found = json.loads(path.read_text())
    write_json(path.with_name("null.json"), {**found, "gap": None}, hashed=True)
    assert np.isnan(OptimalMixture.load(path.with_name("null.json")).gap)


@pytest.mark.parametrize(
    "text",
    [
        b"\xff",
        b"table: [1, 2]",
        b"table: 2001-13-41",
        b"priors: maybe\ntable: x.csv",
        b"table: " + b"9" * 5000,
        b"[" * 5000,
        b"targets: &a [x]\nunit: [*a, [*a, *a]]",
        b'table: "a\\0b"',
    ],
)
def test_a_damaged_config_is_refused_in_one_line(
    text: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "c.yaml").write_bytes(text)
    assert run(["fit", "--config", str(tmp_path / "c.yaml")]) == BAD_INPUT
    said = capsys.readouterr().err
    assert said.startswith(f"bimix: {tmp_path / 'c.yaml'}: ")
    assert said.count("\n") == 1


def test_a_tokenizer_without_its_unknown_token_is_named(tmp_path: Path) -> None:
    import tokenizers

    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0}, unk_token="[UNK]"))
    words.add_special_tokens(["<end>"])
    words.save(str(tmp_path / "words.json"))
    tokenizer = FileTokenizer.load(tmp_path / "words.json", separator="<end>")
    with pytest.raises(InputError, match=r"words\.json .*cannot encode every text.*unknown token.*\[UNK\]"):
        tokenizer.encode(["b"])


def test_tables_of_a_swarm_that_are_damaged_are_named(tmp_path: Path) -> None:
    table, header = tmp_path / "observations.csv", ["run", "step", "loss/web"]
    for text, message in (
        (b"run,loss/web,step\n", "line 1: not the columns of this swarm"),
        (b"run,step,loss/web\na,5\n", "line 2: not a row of 3 cells with a step"),
        (b"run,step,loss/web\na,5,2\nb,x,2\n", "line 3: not a row"),
        (b"run,step,loss/web\na,\xff,2\n", "not UTF-8 at byte 20"),
    ):
        table.write_bytes(text)
        with pytest.raises(InputError, match=rf"observations\.csv.*{message}"):
            storage.begin_table(table, header, 10)


def test_a_design_and_a_table_that_are_no_text_are_named(tmp_path: Path) -> None:
    for name, read in (("design.csv", Design.read), ("table.csv", Observations.read)):
        (tmp_path / name).write_bytes(b"run,mixture/a\nx,\xff\xfe\n")
        with pytest.raises(InputError, match=name):
            read(tmp_path / name)


def test_text_in_a_parquet_file_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    columns = pa.table({"run": ["aaaa", "bbbb"], "mixture/x": [1.0, 1.0], "loss/x": [2.5, 2.0]})
    parquet.write_table(columns, tmp_path / "t.parquet", compression="none", use_dictionary=False)
    whole = (tmp_path / "t.parquet").read_bytes()
    (tmp_path / "t.parquet").write_bytes(whole.replace(b"aaaa", b"a\xffaa"))
    with pytest.raises(InputError, match=r"t\.parquet: not a readable parquet file.*UTF8"):
        Observations.read(tmp_path / "t.parquet")


def test_a_coefficient_of_a_resample_out_of_bounds_is_refused(three_domain_fit: FitResult, tmp_path: Path) -> None:
    path = tmp_path / "resampled.json"
    values = np.stack([three_domain_fit.values] * 2)
    Resampled(fit=three_domain_fit, values=values, status=np.zeros(values.shape[:2], int)).save(path)
    assert Resampled.load(path).values.shape == values.shape
    changed = values.copy()
    changed[1, 0, list(three_domain_fit.names).index("alpha")] = 1e83
    Resampled(fit=three_domain_fit, values=changed, status=np.zeros(values.shape[:2], int)).save(path)
    with pytest.raises(InputError, match=r"resampled\.json: values has alpha = 1e\+83 .*the bounds of the law"):
        Resampled.load(path)


def test_what_pandas_says_of_a_parquet_file_is_not_needed(tmp_path: Path) -> None:
    """Its metadata may be damaged where the columns are not."""
    import pyarrow as pa
    from pyarrow import parquet

    columns = pa.table({"run": ["a", "b"], "mixture/x": [0.25, 1.0], "mixture/y": [0.75, 0.0], "loss/x": [2.5, 2.0]})
    parquet.write_table(columns.replace_schema_metadata({"pandas": '{"columns": 7'}), tmp_path / "t.parquet")
    assert Observations.read(tmp_path / "t.parquet").losses.tolist() == [[2.5], [2.0]]
