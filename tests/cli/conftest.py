"""A working folder with texts of two domains, and a token store of them, for the subcommands that train."""

import json
from pathlib import Path

import numpy as np
import pytest

from bimixjax import verify
from bimixjax.cli import run
from bimixjax.cli.console import DONE
from bimixjax.corpus import TokenStore


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with texts of two domains."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    for name, letters in (("web", list("abcd ")), ("code", list("xyz();"))):
        rows = [{"text": "".join(random.choice(letters, 60)), "page": f"{name}{i // 2}"} for i in range(60)]
        Path(f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


@pytest.fixture
def store(folder: Path) -> TokenStore:
    """A token store of those texts, at `store`."""
    assert run(["corpus", "store", "--domain", "web=web.jsonl", "--domain", "code=code.jsonl"]) == DONE
    assert [one.inputs for one in verify(".")] == [("../code.jsonl", "../web.jsonl")]
    return TokenStore.open("store")
