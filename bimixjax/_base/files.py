"""Write files whole or not at all: beside their place, then renamed into it."""

import contextlib
import hashlib
import os
import platform
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bimixjax._base import provenance
from bimixjax._base.checks import InputError

# What is not yet in its place: .bimix-<start of the name>-<machine>-<random><suffix>
_UNFINISHED = re.compile(r"\.bimix-(?P<name>.*)-(?P<machine>[0-9a-f]{8})-[0-9a-f]{16}(?P<suffix>\.[^.]*)?", re.DOTALL)
_NAME_LENGTH = 40

# After so long, what another machine left unfinished in a shared folder counts as abandoned: its lock may not reach us.
_DAY = 86_400.0


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`; on success it takes the place of `path`, on failure it goes.

    The folder is made where it is missing. The suffix is kept, since writers choose formats by it. What a killed
    process left unfinished in the folder is removed.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in unfinished(path.parent):
        if left.is_file():
            left.unlink(missing_ok=True)
    temporary, handle = _made(path)
    try:
        yield temporary
        os.fsync(handle)
        temporary.replace(path)
        if work := provenance.under_way():
            work.written.add(path)
    finally:
        temporary.unlink(missing_ok=True)
        os.close(handle)


def read_text(path: str | Path) -> str:
    """Read the text of a file that the user names, or raise an `InputError` that says why there is none."""
    try:
        return Path(path).read_bytes().decode("utf-8")
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 at byte {error.start}") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from error


def write_text(path: str | Path, text: str) -> None:
    """Write `text` to `path` in one step."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def require_local(path: str | Path) -> None:
    """Raise `InputError` for an address such as gs://bucket/name, of which `Path` makes a folder `gs:`.

    Example:
        >>> require_local("s3://bucket/swarm")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        bimixjax._base.checks.InputError: s3://bucket/swarm is in an object store, ...
    """
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", str(path)):
        kind = "is in an object store, which can neither lock a folder nor append to a file"
        allowed = "a folder of a file system, which may be a network's; copy it to the store afterwards"
        raise InputError(f"{re.sub(':/+', '://', str(path), count=1)} {kind}; allowed: {allowed}")


def hidden_name(path: Path) -> str:
    """Make a name that no other process takes, for what is not yet at `path`."""
    return f".bimix-{path.stem[:_NAME_LENGTH]}-{_machine()}-{secrets.token_hex(8)}{path.suffix}"


def is_meant_for(hidden: Path, path: Path) -> bool:
    """Tell whether what `unfinished` found was to become `path`."""
    match = _UNFINISHED.fullmatch(hidden.name)
    return match is not None and (match["name"], match["suffix"] or "") == (path.stem[:_NAME_LENGTH], path.suffix)


def unfinished(folder: Path) -> Iterator[Path]:
    """Find the files and folders that processes that are gone left in `folder` under a `hidden_name`."""
    with os.scandir(folder) as entries:
        found = [
            (Path(entry.path), match["machine"]) for entry in entries if (match := _UNFINISHED.fullmatch(entry.name))
        ]
    for path, machine in found:
        with contextlib.suppress(OSError), opened(path) as handle:
            free, old = lock(handle), time.time() - os.fstat(handle).st_mtime > _DAY
            if free is not False and (old or (free and machine == _machine())):
                yield path


@contextmanager
def opened(path: Path) -> Iterator[int]:
    """Open a file or a folder, to lock it."""
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        yield handle
    finally:
        os.close(handle)


def lock(handle: int) -> bool | None:
    """Lock an open file until it is closed: False where another process holds it, None where nothing can be locked."""
    import fcntl

    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _made(path: Path) -> tuple[Path, int]:
    """Make a file beside `path`, with the permissions of any new file, locked for as long as the handle is open."""
    while True:
        temporary = path.with_name(hidden_name(path))
        handle = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        # Between these lines another process may have taken it for abandoned: then try another name.
        if lock(handle) is not False and os.fstat(handle).st_nlink:
            return temporary, handle
        os.close(handle)


def _machine() -> str:
    return hashlib.sha256(platform.node().encode()).hexdigest()[:8]
