"""Importing the package or its command line loads nothing heavy, and neither does asking for help."""

import subprocess
import sys

import jax
import pytest

import bimixjax
from bimixjax.cli import COMMANDS

HEAVY = {"jax", "pandas", "flax", "matplotlib", "pyarrow", "optax", "orbax"}
COMMAND_LINE = {"tyro", "rich", "yaml", "matplotlib"}


def loaded_by(code: str, among: set[str] = HEAVY) -> set[str]:
    """Which of some modules a fresh interpreter has loaded after running `code`."""
    script = f"{code}\nimport sys\nprint('loaded:', *sorted(set({sorted(among)}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split()[1:])


@pytest.mark.parametrize("module", ["bimixjax", "bimixjax.cli", "bimixjax._base.checks"])
def test_import_is_light(module: str) -> None:
    assert loaded_by(f"import {module}") == set()


def test_the_probe_sees_heavy_modules() -> None:
    assert "jax" in loaded_by("import bimixjax; bimixjax.fit")


def test_fitting_needs_no_command_line() -> None:
    code = "import bimixjax; bimixjax.fit, bimixjax.optimize, bimixjax.mixtures, bimixjax.metrics"
    assert loaded_by(code, COMMAND_LINE) == set()


@pytest.mark.parametrize("names", ["Observations, bimixjax.Budget, bimixjax.InputError", "interchange"])
def test_tables_and_files_of_others_need_no_jax(names: str) -> None:
    assert "jax" not in loaded_by(f"import bimixjax; bimixjax.{names}")


@pytest.mark.parametrize("command", [None, *COMMANDS])
def test_help_is_light(command: str | None) -> None:
    arguments = [command, "--help"] if command else ["--help"]
    assert loaded_by(f"from bimixjax.cli import run\nassert run({arguments}) == 0") == set()


def test_every_public_name_is_there() -> None:
    assert all(getattr(bimixjax, name) is not None for name in bimixjax.__all__)
    assert set(bimixjax.__all__) <= set(dir(bimixjax))


PUBLIC_MODULES = (
    *(
        "cli",
        "comparison",
        "corpus",
        "datasets",
        "estimation",
        "fitting",
        "interchange",
        "laws",
        "loop",
        "metrics",
        "mixtures",
    ),
    *("observations", "optimization", "proxy", "reports", "solve"),
)


def test_public_modules_are_attributes_of_the_package() -> None:
    """In a fresh interpreter, in which nothing else has imported them."""
    found = "import bimixjax\nassert bimixjax.{0}.__name__ == 'bimixjax.{0}'"
    assert not [name for name in PUBLIC_MODULES if name not in dir(bimixjax)]
    assert loaded_by("\n".join(found.format(name) for name in PUBLIC_MODULES)) >= {"jax"}


def test_modules_add_no_public_names() -> None:
    """`from bimixjax import *` gives what it gave."""
    assert {"metrics", "mixtures", "fit", "compare"} <= set(bimixjax.__all__)
    assert not (set(PUBLIC_MODULES) - {"metrics", "mixtures"}) & set(bimixjax.__all__)


def test_the_package_runs_as_a_command() -> None:
    done = subprocess.run([sys.executable, "-m", "bimixjax", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"bimix {bimixjax.__version__}\n"
    wrong = subprocess.run([sys.executable, "-m", "bimixjax", "fit", "none.csv"], capture_output=True, text=True)
    assert (wrong.returncode, wrong.stderr) == (2, "bimix: none.csv: no such file\n")


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'fitt'"):
        _ = bimixjax.fitt  # pyright: ignore[reportAttributeAccessIssue]


def test_tests_see_eight_devices() -> None:
    assert jax.device_count() == 8
