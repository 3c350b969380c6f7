"""Trackers of experiments that reports go to as well: TensorBoard, W&B and Trackio, imported only where asked for."""

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from bimixjax._base.checks import InputError, choice

# The module of each, which an extra of the same name installs.
MODULES = {"tensorboard": "tensorboard.summary", "wandb": "wandb", "trackio": "trackio"}
PROJECT = "bimix"


class Tracker(Protocol):
    """Where reports go."""

    def log(self, numbers: Mapping[str, float], step: int, /) -> None:
        """Take numbers of one step."""
        ...

    def close(self) -> None:
        """Write what is left."""
        ...


class TensorBoard:
    """Event files in `folder`/tensorboard (tensorflow/tensorboard, tensorboard/summary/_writer.py)."""

    def __init__(self, module: Any, folder: Path, settings: Mapping[str, Any]) -> None:
        self._writer = module.Writer(str(folder / "tensorboard"))

    def log(self, numbers: Mapping[str, float], step: int) -> None:
        """Add a scalar for each number."""
        for name, number in numbers.items():
            self._writer.add_scalar(name, number, step)

    def close(self) -> None:
        """Close the file."""
        self._writer.close()


class Run:
    """A run named like the folder, of W&B or of Trackio, which has its interface (gradio-app/trackio, README.md)."""

    def __init__(self, module: Any, folder: Path, settings: Mapping[str, Any]) -> None:
        self._module = module
        module.init(project=PROJECT, name=folder.resolve().name, config=dict(settings))

    def log(self, numbers: Mapping[str, float], step: int) -> None:
        """Log the numbers."""
        self._module.log(dict(numbers), step=step)

    def close(self) -> None:
        """Finish the run."""
        self._module.finish()


def require(names: Sequence[str]) -> None:
    """Raise `InputError` unless each tracker is one, and is installed.

    Example:
        >>> require([])
        >>> require(["tensorbord"])  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        bimixjax._base.checks.InputError: tracker is 'tensorbord'; allowed: tensorboard, wandb, trackio. ...
    """
    for name in names:
        module = MODULES[choice("tracker", name, MODULES)]
        try:
            importlib.import_module(module)
        except ImportError as error:
            remedy = f"pip install 'bimixjax[{name}]'"
            raise InputError(
                f"tracker {name} needs the package {module.partition('.')[0]}, which is not there: {remedy}"
            ) from error


def opened(names: Sequence[str], folder: Path, settings: Mapping[str, Any]) -> list[Tracker]:
    """Return the trackers of these names, ready to take reports of the swarm in `folder`."""
    kinds = [TensorBoard if name == "tensorboard" else Run for name in names]
    modules = [importlib.import_module(MODULES[name]) for name in names]
    return [kind(module, folder, settings) for kind, module in zip(kinds, modules, strict=True)]
