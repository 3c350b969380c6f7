"""Readers: every format gives the same documents, and damage is named with file and row."""

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pytest
import zstandard
from hypothesis import given, settings, strategies as st
from pyarrow import parquet

from bimixjax._base.checks import InputError
from bimixjax.corpus import documents as module, read_documents

ROWS = [{"text": "one é", "url": "x"}, {"text": "two\nlines", "url": "y"}, {"text": None, "url": "x"}]
TEXTS = ["one é", "two\nlines", ""]
JSONL = "".join(json.dumps(row) + "\n" for row in ROWS).encode()


def _write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def _write_parquet(path: Path, rows: list[dict]) -> Path:
    parquet.write_table(pa.Table.from_pylist(rows), path)
    return path


@pytest.fixture(params=["a.jsonl", "a.jsonl.gz", "a.jsonl.zst", "a.parquet"])
def rows_file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / request.param
    if path.suffix == ".parquet":
        return _write_parquet(path, ROWS)
    compress = {".jsonl": bytes, ".gz": gzip.compress, ".zst": zstandard.compress}[path.suffix]
    return _write(path, compress(JSONL))


def test_rows_are_documents_in_every_format(rows_file: Path) -> None:
    read = list(read_documents(rows_file))
    assert [document.text for document in read] == TEXTS
    assert [document.source for document in read] == [f"{rows_file.name}:{row}" for row in (1, 2, 3)]


def test_an_id_field_names_the_source(rows_file: Path) -> None:
    assert [document.source for document in read_documents(rows_file, id_field="url")] == ["x", "y", "x"]


def test_a_missing_field_names_the_ones_there(rows_file: Path) -> None:
    with pytest.raises(InputError, match=r"no field 'content'; fields: text, url"):
        list(read_documents(rows_file, text_field="content"))


def test_a_folder_is_read_below_in_order_of_paths(tmp_path: Path) -> None:
    _write(tmp_path / "b.txt", b"second")
    _write(tmp_path / "a" / "z.jsonl", b'{"text": "first"}')
    _write(tmp_path / "README.md", b"not read")
    read = [(document.source, document.text) for document in read_documents(tmp_path)]
    assert read == [("a/z.jsonl:1", "first"), ("b.txt", "second")]


@pytest.mark.parametrize("suffix", [".txt", ".txt.gz", ".txt.zst"])
def test_text_is_kept_byte_for_byte(tmp_path: Path, suffix: str) -> None:
    text = "a\r\nb\n\n é\u2028 end"
    compress = {".txt": bytes, ".txt.gz": gzip.compress, ".txt.zst": zstandard.compress}[suffix]
    (document,) = read_documents(_write(tmp_path / f"a{suffix}", compress(text.encode())))
    assert (document.source, document.text) == (f"a{suffix}", text)


@given(text=st.text(alphabet="ab\né😀", max_size=60), piece=st.integers(1, 9), chunk=st.integers(1, 5))
@settings(max_examples=60, deadline=None)
def test_pieces_of_a_long_text_join_to_it(
    tmp_path_factory: pytest.TempPathFactory, text: str, piece: int, chunk: int
) -> None:
    path = _write(tmp_path_factory.mktemp("pieces") / "a.txt", text.encode())
    raw = text.encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "PIECE", piece)
        patch.setattr(module, "_chunks", lambda _: (raw[i : i + chunk] for i in range(0, len(raw), chunk)))
        read = list(read_documents(path))
    assert "".join(document.text for document in read) == text
    assert all(0 < len(document.text) <= piece for document in read)
    assert {document.source for document in read} <= {"a.txt"}


def test_a_long_text_is_cut_at_a_line_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PIECE", 8)
    path = _write(tmp_path / "a.txt", b"12345\n12345\n1234567890")
    assert [document.text for document in read_documents(path)] == ["12345\n", "12345\n", "12345678", "90"]


@given(lines=st.lists(st.text(alphabet="ab é", max_size=12), max_size=8), piece=st.integers(1, 30))
@settings(max_examples=40, deadline=None)
def test_lines_survive_any_chunks(tmp_path_factory: pytest.TempPathFactory, lines: list[str], piece: int) -> None:
    content = "\n".join(json.dumps({"text": line}) for line in lines).encode()
    path = _write(tmp_path_factory.mktemp("lines") / "a.jsonl", content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "PIECE", piece)
        assert [document.text for document in read_documents(path)] == lines


def test_frames_of_zstandard_one_after_another_are_all_read(tmp_path: Path) -> None:
    frames = b"".join(zstandard.compress(line.encode()) for line in ('{"text": "one"}\n', '{"text": "two"}\n'))
    path = _write(tmp_path / "a.jsonl.zst", frames)
    assert [document.text for document in read_documents(path)] == ["one", "two"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b'{"text": "x"}\n\n{"text": ', r"a\.jsonl, line 3: not JSON"),
        ("a.jsonl", b'{"text": "\xff"}', r"a\.jsonl, line 1: not JSON.*utf-8"),
        ("a.jsonl", b"[1]", "line 1: list where an object belongs"),
        ("a.jsonl", b'{"text": 3}', "line 1: field 'text' is int; allowed: text"),
        ("a.jsonl", b'{"text": "\\ud800"}', "line 1: .* half a surrogate pair"),
        ("a.jsonl", b"{}", "line 1: no field 'text'; fields: "),
        ("a.txt", b"ab\xff", r"a\.txt: not UTF-8 at about byte 2"),
        ("a.txt", "é".encode()[:1], r"a\.txt: not UTF-8"),
        ("a.jsonl.gz", gzip.compress(JSONL, mtime=0)[:-9], r"a\.jsonl\.gz: damaged or truncated gzip"),
        ("a.jsonl.gz", JSONL, "damaged or truncated gzip: Not a gzipped file"),
        ("a.jsonl.zst", zstandard.compress(JSONL)[:-3], r"a\.jsonl\.zst: truncated zstandard"),
        ("a.jsonl.zst", JSONL, r"a\.jsonl\.zst: damaged zstandard"),
        ("a.parquet", JSONL, r"a\.parquet: damaged or not Parquet"),
    ],
)
def test_damage_is_one_error_that_names_the_place(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        list(read_documents(_write(tmp_path / name, content)))


def test_a_parquet_column_of_numbers_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\.parquet, row 1: field 'text' is int"):
        list(read_documents(_write_parquet(tmp_path / "a.parquet", [{"text": 1}])))


def test_nothing_to_read_is_an_error_before_reading(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file or folder"):
        read_documents(tmp_path / "none")
    with pytest.raises(InputError, match=r"nothing to read; known: \.txt, \.jsonl, \.parquet"):
        read_documents(tmp_path)
    with pytest.raises(InputError, match="nothing to read"):
        read_documents(_write(tmp_path / "a.docx", b""))
