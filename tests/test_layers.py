"""Imports run one way, down the layers; read from the source, so that imports inside functions count too."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "bimixjax"

# Layer by layer from the ground; within a layer, later modules may import earlier ones.
LAYERS = (
    ("_checks", "_stages", "_summaries", "_files", "_records", "_schema", "_float64"),
    ("mixtures", "_tables", "_columns", "observations", "datasets", "metrics"),
    ("laws", "solve", "corpus", "entropy"),
    (
        *(
            "_criterion",
            "_lanes",
            "_dependence",
            "_chunks",
            "_resamples",
            "_kernel",
            "_single",
            "_devices",
            "_coverage",
            "_reach",
            "_fit_file",
            "_fit_result",
            "_resampled",
            "_told",
            "_fit_report",
            "_outliers",
            "_folds",
            "fitting",
            *("_noise", "_cholesky", "_members", "_auto_kernel", "_auto_left", "_auto_cells", "_auto_average"),
            *("_auto_fit", "_auto_outliers", "_auto_beyond", "_auto_donor", "_auto_size", "_auto_files"),
            *("_auto_result", "_auto_build"),
            *("_reweighted", "_auto_draws", "_stack_resampled"),
            "stacking",
            "_objective",
            "_search",
            "optimization",
        ),
        *("_splits", "_intervals", "_scores", "_trust", "comparison", "planning", "proxy", "designs", "interchange"),
    ),
    ("evidence", "workflow", "reports"),
    (
        *("_progress", "_signals", "_law_lines", "_options", "_console", "_cli_compiled", "_cli_training"),
        *("_cli_comparison", "cli", "__main__"),
    ),
)
LAYER = {module: number for number, layer in enumerate(LAYERS) for module in layer}
PLACE = {module: place for place, module in enumerate(LAYER)}

ANYWHERE = {"jax", "jaxtyping", "numpy"}
THIRD_PARTY = {
    "optax": {"mixtures", "solve", "optimization", "stacking", "planning", "proxy"},
    "pandas": {
        *("_columns", "_tables", "observations", "datasets", "_scores", "comparison", "proxy", "interchange"),
        *("evidence", "workflow", "reports"),
    },
    "pyarrow": {"_tables", "corpus", "interchange"},
    "tokenizers": {"corpus"},
    "zstandard": {"corpus"},
    "flax": {"proxy"},
    "orbax": {"proxy"},
    "grain": {"proxy"},
    "yaml": {"interchange", "_console"},
    "rich": {"reports", "_progress", "_console"},
    "matplotlib": {"reports"},
    "tyro": {"_options", "_console", "_cli_training", "_cli_comparison", "cli"},
}
NO_JAX = {
    "_checks",
    "_files",
    "_tables",
    "_columns",
    "observations",
    "metrics",
    "reports",
    "_progress",
    "_signals",
    "_law_lines",
    "_options",
    "_console",
    "_cli_training",
    "_cli_comparison",
    "cli",
    "__main__",
}


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


def violation(module: str, name: str) -> str | None:
    """Why `module` (a top-level name of the package) may not import `name`, or None if it may."""
    top, _, rest = name.partition(".")
    if top in sys.stdlib_module_names:
        return None
    if top == "bimixjax":
        return _inner_violation(module, rest.partition(".")[0])
    if top == "jax" and module in NO_JAX:
        return f"{module} imports jax; it must work without"
    if top in ANYWHERE or module in THIRD_PARTY.get(top, set()):
        return None
    return f"{module} imports {name}, which is not allowed there"


def _inner_violation(module: str, other: str) -> str | None:
    if other in {module, "__version__"} or (other == "" and LAYER[module] == len(LAYERS) - 1):
        return None
    if other not in LAYER:
        return f"{module} imports bimixjax.{other}, which is no module of any layer"
    if {module, other} == {"laws", "solve"}:
        return f"{module} imports {other}: a solver sees functions, a law sees no solver"
    if module == "proxy" and LAYER[other] == LAYER[module]:
        return f"proxy imports {other}: it builds on layers 0 to 2 only"
    return None if PLACE[other] < PLACE[module] else f"{module} imports {other}, which lies above it"


def sources() -> list[tuple[str, str, Path]]:
    """Top-level name, package and path of each file of the package, `__init__` of the package aside."""
    files = [path for path in sorted(PACKAGE.rglob("*.py")) if path != PACKAGE / "__init__.py"]
    parts = [(path.relative_to(PACKAGE).with_suffix("").parts, path) for path in files]
    return [(names[0], ".".join(["bimixjax", *names[:-1]]), path) for names, path in parts]


def test_every_module_belongs_to_a_layer() -> None:
    """A new module gets a place in the list above before anything imports it."""
    strangers = {module for module, _, _ in sources()} - set(LAYER)
    assert not strangers


def test_imports_run_down_the_layers() -> None:
    """All violations at once, each with its file."""
    found = [
        f"{path.relative_to(ROOT)}: {why}"
        for module, package, path in sources()
        for name in imports(path.read_text(encoding="utf-8"), package)
        if module in LAYER and (why := violation(module, name))
    ]
    assert not found, "\n".join(found)


def test_the_package_itself_imports_nothing_at_run_time() -> None:
    """`__init__` re-exports lazily: beyond the standard library it imports under TYPE_CHECKING only."""
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    eager = {name for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom) for name in _names(node)}
    assert {name.partition(".")[0] for name in eager} <= set(sys.stdlib_module_names)


def _names(node: ast.Import | ast.ImportFrom) -> set[str]:
    return imports(ast.unparse(node), "bimixjax")


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("observations", "from bimixjax.fitting import fit"),
        ("observations", "import jax"),
        ("mixtures", "def f():\n    from bimixjax.observations import Observations"),
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
        ("workflow", "import tyro"),
        ("metrics", "import scipy"),
    ],
)
def test_a_bad_import_is_caught(module: str, line: str) -> None:
    """The rules above are themselves tested on made-up violations."""
    assert any(violation(module, name) for name in imports(line, "bimixjax"))


def test_relative_imports_are_resolved() -> None:
    """`from ..fitting import fit` inside laws/ is the same as the absolute form."""
    assert imports("from ..fitting import fit", "bimixjax.laws") == {"bimixjax.fitting"}
    assert imports("from .. import fitting", "bimixjax.laws") == {"bimixjax.fitting"}
    assert imports("from . import bimix", "bimixjax.laws") == {"bimixjax.laws"}


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("cli", "from bimixjax.reports import tables"),
        ("fitting", "from bimixjax.laws import LAWS\nfrom bimixjax.solve import VarPro"),
        ("optimization", "from bimixjax.fitting import FitResult"),
        ("observations", "import pandas as pd\nimport csv"),
        ("laws", "from bimixjax.laws._law import Law"),
    ],
)
def test_a_good_import_passes(module: str, line: str) -> None:
    """Down a layer, earlier within a layer, inside a package, and the allowed third parties."""
    assert not any(violation(module, name) for name in imports(line, "bimixjax"))
