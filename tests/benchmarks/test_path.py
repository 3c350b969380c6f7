"""The counts of `benchmarks/path.py`, on made-up code whose numbers are known."""

import ast
import importlib
import sys
from types import ModuleType

import pytest

SOURCE = '''"""A module."""

import os  # not a line of its own


class A:
    """A class.

    Of three lines."""

    def _used(self):
        """Called twice."""
        return """
        text"""


def _short():
    return A()._used()


def _long():
    # why
    a = 1
    b = 2
    c = 3
    d = 4
    return a, b, c, d, A()._used()


def public():
    return _short(), _long()
'''


@pytest.fixture(scope="module")
def path() -> ModuleType:
    return importlib.import_module("benchmarks.path")


def test_lines_with_code_are_without_docstrings_comments_and_blanks(path: ModuleType) -> None:
    assert path.lines_with_code(SOURCE, ast.parse(SOURCE)) == 1 + 1 + 3 + 2 + 6 + 2


def test_private_functions_have_their_lines_and_how_often_they_are_named(path: ModuleType) -> None:
    found = sorted(path.private_functions(ast.parse(SOURCE)))
    assert found == [("_long", 7, 1), ("_short", 2, 1), ("_used", 4, 2)]


def test_a_walk_sees_types_functions_and_the_deepest_stack(path: ModuleType, tmp_path) -> None:
    """Named tuples, dataclasses and plain classes alike; functions of other files are not ours."""
    package = tmp_path / "bimixjax"
    package.mkdir()
    source = (
        "import dataclasses, typing\n"
        "class P(typing.NamedTuple):\n    x: int\n"
        "@dataclasses.dataclass\nclass D:\n    x: int\n"
        "class C:\n    def __init__(self): self.x = 1\n"
        "class Unmade(C): pass\n"
        "def inner(): return P(1), D(2), C()\n"
        "def outer(call): return call(inner)\n"
    )
    names: dict = {"__name__": "bimixjax.made_up"}
    exec(compile(source, str(package / "made_up.py"), "exec"), names)
    seen = path.Seen(package)
    sys.setprofile(seen)
    try:
        names["outer"](lambda function: function())
    finally:
        sys.setprofile(None)
    assert seen.types == {f"bimixjax.made_up.{name}" for name in "PDC"}
    assert seen.functions == {f"made_up.py: {name}" for name in ("outer", "inner", "C.__init__")}
    assert seen.stack == [f"made_up.py: {name}" for name in ("outer", "inner", "C.__init__")]
