"""What a folder of the loop was begun with: a later call must go on with the same, not mix two loops."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bimixjax import __version__
from bimixjax._base.checks import InputError, fields
from bimixjax._base.records import read_json, to_plain, write_json


def settle(path: Path, settings: Mapping[str, Any]) -> None:
    """Write the settings that a folder is begun with, or compare them with those written.

    Raises:
        InputError: where they differ; it names which.
    """
    plain = to_plain({"version": __version__, **settings})
    if not path.exists():
        write_json(path, plain, hashed=True)
        return
    begun = fields(read_json(path), plain, path)
    differ = [name for name in plain if _given(begun[name]) != _given(plain[name])]
    if differ:
        raise InputError(f"{path.parent} was begun with another {', '.join(differ)} (see {path}); use another folder")


def _given(value: Any) -> Any:
    """Leave out what is None: an option that is not given, and that a folder begun before there was one lacks."""
    if not isinstance(value, Mapping):
        return value
    return {name: _given(part) for name, part in value.items() if part is not None}
