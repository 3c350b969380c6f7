"""Compiled programs are kept between command lines."""

import os
import subprocess
import sys
from pathlib import Path

from bimixjax import Observations
from bimixjax.cli.compiled import variables


def fit(folder: Path, **given: str) -> None:
    unset = ("JAX_COMPILATION_CACHE_DIR", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS")
    environment = {name: value for name, value in os.environ.items() if name not in unset} | given
    command = [
        sys.executable,
        "-c",
        "from bimixjax.cli import main; main()",
        "fit",
        "my.csv",
        "--law",
        "bimix",
        "--json",
    ]
    subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True, timeout=300)


def kept(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*-cache")}


def test_a_second_command_finds_what_the_first_compiled(three_domains: Observations, tmp_path: Path):
    three_domains.write(tmp_path / "my.csv")
    fit(tmp_path, XDG_CACHE_HOME=str(tmp_path))
    first = kept(tmp_path / "bimixjax")
    fit(tmp_path, XDG_CACHE_HOME=str(tmp_path))
    assert first
    assert kept(tmp_path / "bimixjax") == first


def test_what_the_user_has_set_stays(tmp_path: Path):
    assert variables({"JAX_COMPILATION_CACHE_DIR": "/elsewhere"}) == {}
    mine = variables({"XDG_CACHE_HOME": str(tmp_path), "JAX_COMPILATION_CACHE_MAX_SIZE": "5"})
    assert set(mine) == {"JAX_COMPILATION_CACHE_DIR", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"}
    assert Path(mine["JAX_COMPILATION_CACHE_DIR"]).is_relative_to(tmp_path)
