"""Documents read from text, JSON lines and Parquet, plain or compressed, in bounded memory."""

import codecs
import gzip
import json
import zlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

from bimixjax._base.checks import InputError

PIECE = 1 << 20
_ROWS = 1024
_COMPRESSED = (".gz", ".zst")


@dataclass(frozen=True, kw_only=True)
class Document:
    """A text and its source.

    Attributes:
        source: name by whose hash the text falls into training or validation.
        text: the text.

    Example:
        >>> Document(source="notes.txt", text="Hello.").source
        'notes.txt'
    """

    source: str
    text: str


# Names of the field with the text and of the one with the source, or None for the place in the file.
Fields = tuple[str, str | None]


def read_documents(path: str | Path, *, text_field: str = "text", id_field: str | None = None) -> Iterator[Document]:
    r"""Stream the documents of one file, or of every known file below one folder, in the order of their paths.

    `.txt` is one document per file, or per 2^20 characters of a longer file, cut at a line end; the pieces share
    their source. `.jsonl` is one per line, `.parquet` one per row. `.txt` and `.jsonl` may be compressed (`.gz`,
    `.zst`). A source is the path below `path`, with `:row` for lines and rows, so that a folder may be moved without
    a change to the split.

    Args:
        path: a file or a folder.
        text_field: the field or column with the text; null there is an empty text.
        id_field: the field or column to take the source from instead, for example a URL or a book that fills
            several rows: documents of one source never part.

    Raises:
        InputError: nothing to read, an unknown format, damaged or truncated content, no such field or column, or
            text that is not UTF-8; names the file and the line or row. Content errors are raised while reading.

    Example:
        >>> import pathlib, tempfile
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> _ = (folder / "a.jsonl").write_text('{"text": "one"}\n{"text": "two"}\n')
        >>> [(document.source, document.text) for document in read_documents(folder)]
        [('a.jsonl:1', 'one'), ('a.jsonl:2', 'two')]
    """
    path = Path(path)
    root = path if path.is_dir() else path.parent
    files = [(file, file.relative_to(root).as_posix()) for file in _known_files(path)]
    return chain.from_iterable(_READERS[_format(file)](file, source, (text_field, id_field)) for file, source in files)


def _known_files(path: Path) -> list[Path]:
    if not path.exists():
        raise InputError(f"{path}: no such file or folder")
    candidates = sorted(path.rglob("*")) if path.is_dir() else [path]
    files = [file for file in candidates if file.is_file() and _format(file) in _READERS]
    if not files:
        raise InputError(f"{path}: nothing to read; known: {', '.join(_READERS)}, .txt and .jsonl also as .gz or .zst")
    return files


def _format(path: Path) -> str:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    compressed = bool(suffixes) and suffixes[-1] in _COMPRESSED
    return suffixes[-2] if compressed and len(suffixes) > 1 else "".join(suffixes[-1:])


def _read_text(path: Path, source: str, fields: Fields) -> Iterator[Document]:
    decoder = codecs.getincrementaldecoder("utf-8")()
    pending, offset = "", 0
    for chunk in chain(_chunks(path), [b""]):
        try:
            pending += decoder.decode(chunk, final=not chunk)
        except UnicodeDecodeError as error:
            raise InputError(f"{path}: not UTF-8 at about byte {offset + error.start}") from error
        offset += len(chunk)
        while len(pending) >= PIECE or (pending and not chunk):
            last = not chunk and len(pending) <= PIECE
            end = len(pending) if last else pending.rfind("\n", 0, PIECE) + 1 or PIECE
            yield Document(source=source, text=pending[:end])
            pending = pending[end:]


def _read_jsonl(path: Path, source: str, fields: Fields) -> Iterator[Document]:
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{where}: not JSON: {error}") from error
        if not isinstance(row, dict):
            raise InputError(f"{where}: {type(row).__name__} where an object belongs")
        yield _document(row, fields, f"{source}:{number}", where)


def _read_parquet(path: Path, source: str, fields: Fields) -> Iterator[Document]:
    import pyarrow as pa
    from pyarrow import parquet

    columns = [name for name in fields if name is not None]
    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            _require_fields(fields, file.schema_arrow.names, str(path))
            for batch in file.iter_batches(batch_size=_ROWS, columns=columns):
                for row in batch.to_pylist():
                    number += 1
                    yield _document(row, fields, f"{source}:{number}", f"{path}, row {number}")
    except InputError:
        raise
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise InputError(f"{path}: damaged or not Parquet: {' '.join(str(error).split())}") from error


_READERS = {".txt": _read_text, ".jsonl": _read_jsonl, ".parquet": _read_parquet}


def _document(row: Mapping[str, Any], fields: Fields, source: str, where: str) -> Document:
    _require_fields(fields, row, where)
    text_field, id_field = fields
    text = "" if row[text_field] is None else row[text_field]
    if not isinstance(text, str):
        raise InputError(f"{where}: field {text_field!r} is {type(text).__name__}; allowed: text")
    source = source if id_field is None else str(row[id_field])
    for field, written in ((text_field, text), (id_field, source)):
        if not written.isascii() and any("\ud800" <= character <= "\udfff" for character in written):
            raise InputError(f"{where}: field {field!r} holds half a surrogate pair, which UTF-8 cannot write")
    return Document(source=source, text=text)


def _require_fields(fields: Fields, present: Collection[str], where: str) -> None:
    missing = [name for name in fields if name is not None and name not in present]
    if missing:
        raise InputError(f"{where}: no field {', '.join(map(repr, missing))}; fields: {', '.join(present)}")


def _lines(path: Path) -> Iterator[bytes]:
    pending: list[bytes] = []
    for chunk in _chunks(path):
        *whole, rest = chunk.split(b"\n")
        for line in whole:
            yield b"".join([*pending, line])
            pending = []
        pending.append(rest)
    yield b"".join(pending)


def _chunks(path: Path) -> Iterator[bytes]:
    """Yield the uncompressed content of a file in pieces."""
    suffix = path.suffix.lower()
    with path.open("rb") as file:
        if suffix == ".zst":
            yield from _unzstandarded(file, path)
            return
        try:
            with gzip.open(file) if suffix == ".gz" else file as content:
                yield from iter(lambda: content.read(PIECE), b"")
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise InputError(f"{path}: damaged or truncated gzip: {error}") from error


def _unzstandarded(file: BinaryIO, path: Path) -> Iterator[bytes]:
    # Not `stream_reader`: it takes the end of a truncated file for the end of the text, without a word.
    import zstandard

    frame, complete = zstandard.ZstdDecompressor().decompressobj(), False
    try:
        for chunk in iter(lambda: file.read(PIECE), b""):
            data = chunk
            while data:
                if complete:
                    frame = zstandard.ZstdDecompressor().decompressobj()
                yield frame.decompress(data)
                data, complete = frame.unused_data, frame.eof
    except zstandard.ZstdError as error:
        raise InputError(f"{path}: damaged zstandard: {error}") from error
    if not complete:
        raise InputError(f"{path}: truncated zstandard: the last frame has no end")
