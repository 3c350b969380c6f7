"""The local default corpus: real text that is in every Python installation with this package's dependencies."""

import ast
import importlib.metadata
import importlib.util
import os
import sysconfig
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from bimixjax._base.checks import InputError
from bimixjax.corpus.documents import Document
from bimixjax.corpus.store import TokenStore
from bimixjax.corpus.tokenization import tokenize

# A fixed list of import names, so that neither other installed packages nor a user's own code get in.
PACKAGES = (
    *("flax", "jax", "jaxlib", "jaxtyping", "matplotlib", "numpy", "optax", "orbax", "pandas", "pyarrow", "rich"),
    *("tokenizers", "tyro", "yaml", "zstandard"),
)
# Distributions with another name.
_DISTRIBUTIONS = {"orbax": "orbax-checkpoint", "yaml": "PyYAML"}
LEAST_BYTES = 200_000
_LARGEST_FILE = 1 << 18
_C_SUFFIXES = (".c", ".cc", ".cpp", ".h", ".hh", ".hpp")
_DATA_SUFFIXES = (".afm", ".csv", ".json", ".mplstyle", ".toml", ".yaml", ".yml")
_NOT_LIBRARY = {"__pycache__", "dist-packages", "idle_test", "pydoc_data", "site-packages", "test", "tests"}
_EQUATIONS_PER_DOCUMENT = 100
_SEED = 20240514

Roots = dict[str, Path]


@dataclass(frozen=True, kw_only=True)
class _Domain:
    """Source of a domain, and the unit of text of which repeats are dropped.

    Attributes:
        searched: what was searched, in words.
        documents: reads the documents.
        unit: separates the units.
        long: shortest unit, in characters, whose repeats are dropped.
    """

    searched: str
    documents: Callable[[], Iterable[Document]]
    unit: str = "\n\n"
    long: int = 100


def local_corpus(path: str | Path, *, cap: int = 4_000_000, validation_fraction: float = 0.1) -> TokenStore:
    """Write the local default corpus to `path`: byte tokens of five domains, offline, the same for one installation.

    `python`: source of the standard library. `cpp`: C and C++ headers and sources of the dependencies and of Python.
    `prose`: English paragraphs of the language reference, of READMEs and of documentation strings of the dependencies.
    `data`: CSV, JSON, TOML, YAML and font metrics of the dependencies. `arithmetic`: generated equations, seeded.

    Args:
        path: the folder to make; see `writing`.
        cap: bytes after which a domain takes no further document.
        validation_fraction: expected share of the source files that become validation.

    Raises:
        InputError: a domain yields less than 200 kB; names what was searched.
        OSError: `path` cannot be written.

    Example:
        >>> import tempfile
        >>> local_corpus(tempfile.mkdtemp() + "/local", cap=1_000_000, validation_fraction=0.2).domains
        ('python', 'cpp', 'prose', 'data', 'arithmetic')
    """
    return tokenize(path, local_documents(cap=cap), validation_fraction=validation_fraction)


def local_documents(*, cap: int = 4_000_000) -> dict[str, list[Document]]:
    """Read the documents of `local_corpus` by domain, at most about `cap` bytes of each, in the order of their hash.

    A paragraph of 100 characters or more, in `prose` any paragraph and in `data` any line of 20 characters or more,
    is kept where it first occurs, in whatever domain, and dropped elsewhere: licence headers, copied documentation
    and tables would otherwise be in training and validation at once. Files with a NUL byte, not in UTF-8, or above
    256 KiB are passed over.

    Raises:
        InputError: as `local_corpus`.

    Example:
        >>> documents = local_documents(cap=20_000)["arithmetic"]
        >>> documents[0].source
        'arithmetic/0'
    """
    if cap < 1:
        raise InputError(f"cap is {cap}; allowed: 1 byte or more")
    known: set[bytes] = set()
    return {name: _harvest(name, domain, cap, known) for name, domain in _domains().items()}


def _domains() -> dict[str, _Domain]:
    library = {"stdlib": Path(sysconfig.get_path("stdlib"))}
    found = {name: importlib.util.find_spec(name) for name in PACKAGES}
    packages = {
        name: Path(next(iter(spec.submodule_search_locations)))
        for name, spec in found.items()
        if spec is not None and spec.submodule_search_locations
    }
    headers = packages | {"include": Path(sysconfig.get_path("include"))}

    def files(suffixes: tuple[str, ...], roots: Roots, skipped: Collection[str] = (), **unit: Any) -> _Domain:
        searched = f"{' '.join(suffixes)} in {', '.join(map(str, roots.values()))}"
        return _Domain(searched=searched, documents=lambda: _texts(roots, suffixes, skipped), **unit)

    prose = f"the language reference, READMEs, and {files(('.py',), packages).searched}"
    return {
        "python": files((".py",), library, _NOT_LIBRARY),
        "cpp": files(_C_SUFFIXES, headers),
        "prose": _Domain(searched=prose, documents=lambda: _prose(packages), long=0),
        "data": files(_DATA_SUFFIXES, packages, unit="\n", long=20),
        "arithmetic": _Domain(searched="a generator", documents=_arithmetic),
    }


def _harvest(name: str, domain: _Domain, cap: int, known: set[bytes]) -> list[Document]:
    """Return documents of a domain up to `cap` bytes, without the units whose digests are in `known`; adds theirs."""
    chosen: list[Document] = []
    size = 0
    for document in domain.documents():
        kept = []
        for part in document.text.split(domain.unit):
            digest = blake2b(part.strip().encode(), digest_size=16).digest()
            if len(part) < domain.long or digest not in known:
                kept.append(part)
                known.add(digest)
        text = domain.unit.join(kept)
        if text.strip():
            chosen.append(Document(source=document.source, text=text))
            size += len(text.encode())
        if size >= cap:
            return chosen
    if size < LEAST_BYTES:
        found = f"found {size} bytes; at least {LEAST_BYTES} are needed; searched: {domain.searched}"
        raise InputError(f"local corpus: domain {name!r} {found}")
    return chosen


def _texts(roots: Roots, suffixes: tuple[str, ...], skipped: Collection[str] = ()) -> Iterator[Document]:
    """Yield the files below the roots that are text and not too large."""
    for source, path in _files(roots, suffixes, skipped):
        try:
            raw = path.read_bytes()
            if len(raw) <= _LARGEST_FILE and b"\0" not in raw:
                yield Document(source=source, text=raw.decode().replace("\r\n", "\n"))
        except (OSError, UnicodeDecodeError):
            continue


def _files(roots: Roots, suffixes: tuple[str, ...], skipped: Collection[str]) -> list[tuple[str, Path]]:
    """Return files below the roots as (source, path), in the order of the hash of the source, which is repeatable."""
    found: list[tuple[str, Path]] = []
    for label, root in roots.items():
        for folder, children, names in os.walk(root):
            children[:] = [child for child in children if child not in skipped]
            paths = [Path(folder, name) for name in names if name.endswith(suffixes)]
            found += [(f"{label}/{path.relative_to(root).as_posix()}", path) for path in paths]
    # Personalized: with the hash that splits, the first files by order would all be validation.
    return sorted(found, key=lambda item: blake2b(item[0].encode(), digest_size=8, person=b"order").digest())


def _prose(packages: Roots) -> Iterator[Document]:
    """Yield the paragraphs of the documentation that are sentences: eight words or more, letters for the most part."""
    for document in _documentation(packages):
        paragraphs = []
        for paragraph in document.text.split("\n\n"):
            letters = sum(character.isalpha() or character.isspace() for character in paragraph)
            if len(paragraph.split()) >= 8 and ">>>" not in paragraph and letters >= 0.85 * len(paragraph):
                paragraphs.append(paragraph)
        yield Document(source=document.source, text="\n\n".join(paragraphs))


def _documentation(packages: Roots) -> Iterator[Document]:
    """Yield the language reference, then READMEs, then documentation strings."""
    from pydoc_data.topics import topics

    yield from (Document(source=f"topics/{name}", text=topics[name]) for name in sorted(topics))
    for name in packages:
        try:
            readme = importlib.metadata.metadata(_DISTRIBUTIONS.get(name, name)).json.get("description", "")
        except importlib.metadata.PackageNotFoundError:
            continue
        yield Document(source=f"readme/{name}", text=str(readme))
    for document in _texts(packages, (".py",), _NOT_LIBRARY):
        # Parsing is the slow part, so only files that are mostly documentation are parsed.
        if sum(map(len, document.text.split('"""')[1::2])) > len(document.text) / 4:
            yield Document(source=document.source, text="\n\n".join(_docstrings(document.text)))


def _docstrings(source: str) -> Iterator[str]:
    try:
        with warnings.catch_warnings(action="ignore"):
            tree = ast.parse(source)
    except SyntaxError:
        return
    pending: list[ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef] = [tree]
    while pending:
        node = pending.pop()
        yield ast.get_docstring(node) or ""
        pending += [n for n in node.body if isinstance(n, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))]


def _arithmetic() -> Iterator[Document]:
    """Yield distinct equations such as `731 * 64 = 46784`, 100 to a document, some 5 MB in all."""
    rng = np.random.default_rng(_SEED)
    count = 300_000
    left, right = (rng.integers(1, 10 ** rng.integers(1, digits + 1, size=count)) for digits in (6, 4))
    operators = rng.integers(0, 4, size=count)
    _, first = np.unique((left * 10**4 + right) * 4 + operators, return_index=True)
    order = np.sort(first)
    lines = []
    for i in order.tolist():
        a, b = int(left[i]), int(right[i])
        symbol, result = (("+", a + b), ("-", a - b), ("*", a * b), ("%", a % b))[operators[i]]
        lines.append(f"{a} {symbol} {b} = {result}")
    for start in range(0, len(lines), _EQUATIONS_PER_DOCUMENT):
        text = "\n".join(lines[start : start + _EQUATIONS_PER_DOCUMENT]) + "\n"
        yield Document(source=f"arithmetic/{start // _EQUATIONS_PER_DOCUMENT}", text=text)
