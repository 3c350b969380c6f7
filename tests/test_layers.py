"""Imports run one way, down eight floors; read from the source, so that imports inside functions count too."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "bimixjax"

# From the ground up. Rooms of one floor may use each other, but not in a circle.
FLOORS = (
    {"_base", "laws"},
    {"observations", "datasets", "mixtures", "metrics", "solve", "corpus", "proxy"},
    {"fitting"},
    {"auto"},
    {"estimation", "comparison", "optimization", "planning"},
    {"loop", "interchange"},
    {"reports"},
    {"cli", "__main__"},
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
MOST_ENTRIES, MOST_ROOMS = 22, 22

ANYWHERE = {"jax", "jaxtyping", "numpy"}
THIRD_PARTY = {
    "optax": {"mixtures", "solve", "optimization", "proxy"},
    "pandas": {"observations", "metrics", "comparison", "proxy", "interchange", "loop", "planning", "reports"},
    "scipy": {"solve", "loop", "optimization", "planning"},
    "lightgbm": {"loop"},
    "threadpoolctl": {"fitting"},
    "pyarrow": {"observations", "corpus", "interchange"},
    "tokenizers": {"corpus"},
    "zstandard": {"corpus"},
    "flax": {"proxy"},
    "orbax": {"proxy"},
    "yaml": {"interchange", "cli", "observations"},
    "rich": {"reports", "cli"},
    "matplotlib": {"reports"},
    "tyro": {"cli"},
    "tensorboard": {"interchange"},
}
# They work where JAX is not loaded: tables are read, and help is printed, at once.
NO_JAX = {"observations", "datasets", "metrics", "reports", "cli", "__main__"}


def imports(source: str, package: str) -> set[str]:
    """The absolute dotted names that a module of `package` imports."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            whole = ".".join([*base, *([node.module] if node.module else [])])
            names |= {f"{whole}.{alias.name}" for alias in node.names} if whole == "bimixjax" else {whole}
    return names


def violation(room: str, name: str) -> str | None:
    """Why a room (a module or package right under `bimixjax`) may not import `name`, or None if it may."""
    top, _, rest = name.partition(".")
    if top in sys.stdlib_module_names:
        return None
    if top == "bimixjax":
        return _inner_violation(room, rest.partition(".")[0])
    if top == "jax" and room in NO_JAX:
        return f"{room} imports jax; it must work without"
    if top in ANYWHERE or room in THIRD_PARTY.get(top, set()):
        return None
    return f"{room} imports {name}, which is not allowed there"


def _inner_violation(room: str, other: str) -> str | None:
    if other in {room, "__version__"} or (other == "" and FLOOR[room] == len(FLOORS) - 1):
        return None
    if other not in FLOOR:
        return f"{room} imports bimixjax.{other}, which is no room of any floor"
    if {room, other} == {"laws", "solve"}:
        return f"{room} imports {other}: a solver sees functions, a law sees no solver"
    return None if FLOOR[other] <= FLOOR[room] else f"{room} imports {other}, which lies above it"


def sources() -> list[tuple[str, str, Path]]:
    """Room, package and path of each file of the package, `__init__` of the package aside."""
    files = [path for path in sorted(PACKAGE.rglob("*.py")) if path != PACKAGE / "__init__.py"]
    parts = [(path.relative_to(PACKAGE).with_suffix("").parts, path) for path in files]
    return [(names[0], ".".join(["bimixjax", *names[:-1]]), path) for names, path in parts]


def arrows() -> dict[str, set[str]]:
    """For each room, the other rooms that it imports."""
    found: dict[str, set[str]] = {}
    for room, package, path in sources():
        inner = [name for name in imports(path.read_text(encoding="utf-8"), package) if name.startswith("bimixjax.")]
        found.setdefault(room, set()).update({name.split(".")[1] for name in inner} & FLOOR.keys() - {room})
    return found


def test_every_room_has_a_floor_and_there_are_few() -> None:
    rooms = {room for room, _, _ in sources()}
    assert not rooms - FLOOR.keys()
    assert len(rooms) <= MOST_ROOMS
    entries = [path for path in PACKAGE.iterdir() if path.name != "__pycache__"]
    assert len(entries) <= MOST_ENTRIES, sorted(path.name for path in entries)


def test_imports_run_down_the_floors() -> None:
    """All violations at once, each with its file."""
    found = [
        f"{path.relative_to(ROOT)}: {why}"
        for room, package, path in sources()
        for name in imports(path.read_text(encoding="utf-8"), package)
        if room in FLOOR and (why := violation(room, name))
    ]
    assert not found, "\n".join(found)


def test_rooms_are_in_no_circle() -> None:
    graph = arrows()

    def below(room: str, seen: frozenset[str] = frozenset()) -> frozenset[str]:
        for other in graph.get(room, set()) - seen:
            seen = below(other, seen | {other})
        return seen

    assert not [room for room in graph if room in below(room)]


def test_the_package_itself_imports_nothing_at_run_time() -> None:
    """`__init__` re-exports lazily: beyond the standard library it imports under TYPE_CHECKING only."""
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    eager = {name for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom) for name in _names(node)}
    assert {name.partition(".")[0] for name in eager} <= set(sys.stdlib_module_names)


def _names(node: ast.Import | ast.ImportFrom) -> set[str]:
    return imports(ast.unparse(node), "bimixjax")


@pytest.mark.parametrize(
    ("room", "line"),
    [
        ("observations", "from bimixjax.fitting import fit"),
        ("observations", "import jax"),
        ("mixtures", "def f():\n    from bimixjax.fitting import FitResult"),
        ("laws", "from bimixjax.solve import VarPro"),
        ("solve", "from bimixjax import laws"),
        ("solve", "from bimixjax.laws import LAWS"),
        ("proxy", "from bimixjax.fitting import fit"),
        ("reports", "from bimixjax.cli import main"),
        ("fitting", "from bimixjax import fit"),
        ("fitting", "import bimixjax.reports.tables"),
        ("fitting", "import experiments"),
        ("fitting", "import tests.conftest"),
        ("fitting", "import benchmarks.solver"),
        ("fitting", "from rich.table import Table"),
        ("optimization", "import matplotlib"),
        ("loop", "import tyro"),
        ("metrics", "import torch"),
    ],
)
def test_a_bad_import_is_caught(room: str, line: str) -> None:
    """The rules above are themselves tested on made-up violations."""
    assert any(violation(room, name) for name in imports(line, "bimixjax"))


def test_relative_imports_are_resolved() -> None:
    """`from ..fitting import fit` inside laws/ is the same as the absolute form."""
    assert imports("from ..fitting import fit", "bimixjax.laws") == {"bimixjax.fitting"}
    assert imports("from .. import fitting", "bimixjax.laws") == {"bimixjax.fitting"}
    assert imports("from . import bimix", "bimixjax.laws") == {"bimixjax.laws"}


@pytest.mark.parametrize(
    ("room", "line"),
    [
        ("cli", "from bimixjax.reports import tables"),
        ("fitting", "from bimixjax.laws import LAWS\nfrom bimixjax.solve import VarPro"),
        ("optimization", "from bimixjax.fitting import FitResult"),
        ("comparison", "from bimixjax.estimation import fit"),
        ("observations", "import pandas as pd\nimport csv"),
        ("laws", "from bimixjax.laws.law import Law"),
    ],
)
def test_a_good_import_passes(room: str, line: str) -> None:
    """Down the floors, along a floor, inside a room, and the allowed third parties."""
    assert not any(violation(room, name) for name in imports(line, "bimixjax"))
