"""What every benchmark leaves: a table on the screen, and a JSON file that says where and with what it ran."""

import platform
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any
from unittest import mock

import jax

from bimixjax._base.records import write_json
from bimixjax.fitting import devices as _devices
from bimixjax.fitting.problem import Batch

PACKAGES = ("bimixjax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "scipy")


def environment() -> dict[str, Any]:
    """Return the devices and versions that the numbers depend on."""
    devices = jax.devices()
    return {
        "device": devices[0].device_kind,
        "platform": devices[0].platform,
        "devices": len(devices),
        "cpu": _cpu(),
        "python": platform.python_version(),
        "versions": {name: found for name in PACKAGES if (found := _version(name))},
    }


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return rows under a header in aligned columns, the first to the left."""
    lines = [list(header), *map(list, rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]

    def aligned(line: list[str]) -> str:
        rest = [cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)]
        return "  ".join([line[0].ljust(widths[0]), *rest])

    return "\n".join(map(aligned, lines))


def write(path: str | Path, results: dict[str, Any]) -> None:
    """Write `results` with the environment as JSON."""
    write_json(path, {"environment": environment(), **results})
    print(f"written: {path}")


def solver_call(fit: Callable[[], Any]) -> Batch:
    """What a fit hands to the compiled solver, in its one call of it."""
    calls: list[Batch] = []
    solve = _devices.solve

    def record(batch: Batch) -> Any:
        calls.append(batch)
        return solve(batch)

    with mock.patch.object(_devices, "solve", record):
        fit()
    (call,) = calls
    return call


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{len(names)} x {names[0]}" if names else platform.processor()
