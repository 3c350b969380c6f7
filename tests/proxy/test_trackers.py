import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bimixjax._base.checks import InputError
from bimixjax.proxy import SwarmConfig, TrainConfig
from bimixjax.proxy.metrics import reporting


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What stand-ins of the packages are called with."""
    found: list[tuple[Any, ...]] = []

    def of(name: str) -> Any:
        return lambda *given, **named: found.append((name, *given, *named.values()))

    def writer(folder: str) -> Any:
        found.append(("writer", Path(folder).name))
        return SimpleNamespace(add_scalar=of("scalar"), close=of("close"))

    monkeypatch.setitem(sys.modules, "tensorboard.summary", SimpleNamespace(Writer=writer))
    for name in ("wandb", "trackio"):
        kind = SimpleNamespace(init=of(f"{name} init"), log=of(f"{name} log"), finish=of(f"{name} finish"))
        monkeypatch.setitem(sys.modules, name, kind)
    return found


def test_reports_go_to_each_tracker(calls: list[tuple[Any, ...]], tmp_path: Path) -> None:
    config = SwarmConfig(trackers=("tensorboard", "wandb", "trackio"))
    with reporting(tmp_path, config.train, 3, None, config.trackers) as metrics:
        metrics.say("measured", 7, loss=2.5, host="name")
    begun, told = calls[:3], calls[3:]
    assert [call[:3] for call in begun[1:]] == [
        (f"{name} init", "bimix", tmp_path.name) for name in ("wandb", "trackio")
    ]
    assert begun[1][3]["batch"] == TrainConfig().batch
    assert told[:3] == [("scalar", "loss", 2.5, 7), ("wandb log", {"loss": 2.5}, 7), ("trackio log", {"loss": 2.5}, 7)]
    assert told[3:] == [("close",), ("wandb finish",), ("trackio finish",)]


def test_a_tracker_that_is_not_installed_is_one_error_that_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(InputError, match=r"needs the package wandb, .*: pip install 'bimixjax\[wandb\]'"):
        SwarmConfig(trackers=("wandb",))
