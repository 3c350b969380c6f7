"""What made a file: the command, what it was given, and the versions.

Neither a date nor the machine is part of it, so that the same work writes the same bytes again.
"""

import hashlib
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from bimixjax import __version__

# The field of a file of ours that says what made it.
PROVENANCE = "provenance"
# Before the name of a file that every installation carries.
OURS = "bimixjax:"
PACKAGE = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, kw_only=True)
class Recording:
    """The work that is under way, and the files that it has written so far.

    Attributes:
        command: what was asked for, in the words of who asked.
        inputs: SHA-256 of each file that it was given.
        written: files that are in their place.
        inside: those of them that say themselves what made them.
    """

    command: str
    inputs: dict[Path, str]
    written: set[Path] = field(default_factory=set)
    inside: set[Path] = field(default_factory=set)


_UNDER_WAY: ContextVar[Recording | None] = ContextVar("bimixjax_recording", default=None)


@contextmanager
def let(work: Recording) -> Iterator[None]:
    """Let the files that are written meanwhile be of this work."""
    token = _UNDER_WAY.set(work)
    try:
        yield
    finally:
        _UNDER_WAY.reset(token)


@contextmanager
def given(*paths: Path) -> Iterator[None]:
    """Let the files that say themselves what made them, and are written meanwhile, be made of these, too."""
    found = under_way()
    if found is None:
        yield
        return
    with let(replace(found, inputs=found.inputs | {path: digest(path) for path in paths})):
        yield


def under_way() -> Recording | None:
    """Return the work within which this is called, if any."""
    return _UNDER_WAY.get()


def of(path: str | Path) -> dict[str, Any]:
    """Return what a file says of its origin: command, inputs by name and SHA-256, and versions.

    Inputs are named as they lie from the folder of the file, so that a tree may move as a whole. Outside of any
    recorded work there is no command, and no input is known.
    """
    found, folder = under_way(), Path(path).parent
    given = {} if found is None else {_named(source, folder): sha256 for source, sha256 in found.inputs.items()}
    return {
        "command": None if found is None else found.command,
        "inputs": [{"name": name, "sha256": given[name]} for name in sorted(given)],
        "versions": {"bimixjax": __version__, "jax": _version("jax"), "python": platform.python_version()},
    }


def _named(source: Path, folder: Path) -> str:
    whole = source.resolve()
    if whole.is_relative_to(PACKAGE):
        return OURS + whole.relative_to(PACKAGE).as_posix()
    return Path(os.path.relpath(source, folder)).as_posix()


def digest(path: str | Path) -> str:
    """Return the SHA-256 of a file; of a folder, that of the names and digests of all files in it.

    Example:
        >>> from pathlib import Path
        >>> _ = Path("empty.csv").write_text("")
        >>> digest("empty.csv")[:8]
        'e3b0c442'
    """
    path = Path(path)
    if path.is_dir():
        files = sorted(each.relative_to(path).as_posix() for each in path.rglob("*") if each.is_file())
        lines = [f"{digest(path / name)}  {name}\n" for name in files]
        return hashlib.sha256("".join(lines).encode()).hexdigest()
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
