"""Whether files still are what they say of themselves, and what they were made from still is what it was."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from bimixjax._base import provenance, schema
from bimixjax._base.checks import InputError
from bimixjax._base.records import read_json, read_origin
from bimixjax._base.sidecars import ENDING, sidecar
from bimixjax.corpus.layout import SIDECAR

VERIFIED, CHANGED, NONE = "verified", "changed since", "no provenance"
INPUT_CHANGED, INPUT_MISSING = "input changed", "input missing"

# Named even where nothing says what made them.
_TABLES = (".csv", ".tsv", ".csv.gz", ".tsv.gz", ".parquet")
_ORIGIN: dict[str, schema.Kind] = {
    "command": schema.maybe(schema.text()),
    "inputs": schema.each(schema.record({"name": schema.text(), "sha256": schema.text()})),
    "versions": schema.record(dict.fromkeys(("bimixjax", "jax", "python"), schema.maybe(schema.text()))),
}
_BESIDE: dict[str, schema.Kind] = {"file": schema.text(), "content": schema.text()}

Digest = Callable[[Path], str]
# The file that is spoken of, what made it, and what does not hold of its content.
Said = tuple[Path, dict[str, Any] | None, tuple[str, ...]]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What became of a file since it was written.

    Attributes:
        file: its path, from the folder that was looked at.
        state: "verified", where its content and all its inputs are what they were; "changed since", "input changed" or
            "input missing", where they are not; "no provenance", where nothing says what made it.
        why: what does not hold, a phrase each.
        command: what made it, where that is known.
        inputs: names of what it was made from.
        versions: of bimixjax, jax and Python then.
    """

    file: str
    state: str
    why: tuple[str, ...]
    command: str | None
    inputs: tuple[str, ...]
    versions: Mapping[str, str | None]

    @property
    def holds(self) -> bool:
        """Whether nothing speaks against the file."""
        return self.state in (VERIFIED, NONE)


def verify(place: str | Path) -> tuple[Verdict, ...]:
    r"""Compute anew the SHA-256 of a file, or of all files in a folder that say what made them, and of their inputs.

    Tables and files of ours without provenance are named as such, unless they are an input of another. An input is
    looked for where it lay, from the folder of the file, and then beside the file.

    Args:
        place: a file or folder.

    Returns:
        One verdict for each file, in the order of their paths, by its content and its own inputs. Nothing but hashes
        speaks for a file: who can write it can write its hash anew.

    Raises:
        InputError: where there is no such file or folder.

    Example:
        >>> import bimixjax
        >>> from pathlib import Path
        >>> _ = Path("runs.csv").write_text("run,mixture/web,loss/web\na,1,3.1\n")
        >>> [(one.file, one.state) for one in bimixjax.verify(".")]
        [('runs.csv', 'no provenance')]
    """
    place = Path(place)
    if not place.exists():
        raise InputError(f"{place}: no such file or folder")
    root = place if place.is_dir() else place.parent
    paths = _files(place) if place.is_dir() else [path for path in (place, sidecar(place)) if path.exists()]
    digest: Digest = cache(provenance.digest)
    used, verdicts = set[Path](), dict[Path, Verdict]()
    for path in paths:
        if (said := _said(path, digest)) is not None:
            verdicts[said[0]] = _verdict(said, root, digest, used)
    # The tables that a user began with are judged as inputs.
    kept = [path for path in sorted(verdicts) if verdicts[path].state != NONE or path.resolve() not in used]
    return tuple(verdicts[path] for path in kept)


def _files(folder: Path) -> list[Path]:
    """Return the files of a folder and of those in it, but for hidden ones."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return sorted(path for path in found if not any(name.startswith(".") for name in path.relative_to(folder).parts))


def _said(path: Path, digest: Digest) -> Said | None:
    """Return what a file says of itself, or a sidecar of the file beside it; None for a file that is none of ours."""
    if path.name.endswith(ENDING):
        of = path.with_name(path.name.removesuffix(ENDING))
        try:
            origin, stated = read_origin(path)[0], schema.read(read_json(path, sealed=True), _BESIDE, path)["content"]
        except InputError as error:
            return of, None, (str(error),)
        wrong = "it is gone" if not of.exists() else "its content is another" if digest(of) != stated else ""
        return of, origin, (wrong,) if wrong else ()
    if sidecar(path).exists():
        return None
    if path.suffix != ".json":
        return (path, None, ()) if path.name.endswith(_TABLES) else None
    try:
        origin, intact = read_origin(path)
    except InputError as error:
        # Nothing tells whose it was: better one alarm too many than a file of ours that was cut off.
        return path, None, (str(error),)
    if origin is None and intact is None:
        return None
    wrong = () if intact else ("it is not what its field sha256 says" if intact is False else "it has no field sha256",)
    if path.name == SIDECAR and not wrong:
        wrong = _of_store(path.parent)
    return path, origin, wrong


def _of_store(folder: Path) -> tuple[str, ...]:
    """Read the tokens of a store, whose SHA-256 stand in its sidecar."""
    from bimixjax.corpus import TokenStore

    try:
        TokenStore.open(folder).verify()
    except InputError as error:
        return (str(error),)
    return ()


def _verdict(said: Said, root: Path, digest: Digest, used: set[Path]) -> Verdict:
    """Judge a file by what is said of it, and by its inputs; add those that are there to `used`."""
    path, given, wrong = said
    origin = {"command": None, "inputs": (), "versions": {}}
    if given is not None:
        try:
            origin = schema.read(given, _ORIGIN, path)
        except InputError as error:
            wrong = (*wrong, str(error))
    changed, missing = [], []
    for source in origin["inputs"]:
        there = [place for place in _places(source["name"], path.parent) if place.exists()]
        used.update(place.resolve() for place in there)
        if not there:
            missing.append(f"{source['name']} is missing")
        elif not any(digest(place) == source["sha256"] for place in there):
            changed.append(f"{source['name']} has changed")
    state = CHANGED if wrong else INPUT_CHANGED if changed else INPUT_MISSING if missing else VERIFIED
    return Verdict(
        file=path.relative_to(root).as_posix(),
        state=NONE if state == VERIFIED and given is None else state,
        why=(*wrong, *changed, *missing),
        command=origin["command"],
        inputs=tuple(source["name"] for source in origin["inputs"]),
        versions=origin["versions"],
    )


def _places(name: str, folder: Path) -> tuple[Path, ...]:
    """Return where an input may lie: where it lay, and beside the file that was made from it."""
    if name.startswith(provenance.OURS):
        return (provenance.PACKAGE / name.removeprefix(provenance.OURS),)
    return folder / name, folder / Path(name).name
