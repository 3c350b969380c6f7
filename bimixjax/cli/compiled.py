"""Where the command line keeps compiled programs: a fit takes a second, its compilation half a minute.

JAX's own cache, which its variables steer: JAX_COMPILATION_CACHE_DIR names another folder, and
JAX_ENABLE_COMPILATION_CACHE=0 turns it off.
"""

import hashlib
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

# What was not used longest is removed beyond so many bytes.
_MOST_BYTES = 1 << 30


def variables(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables to set before JAX is imported; none where the user has set the folder."""
    if "JAX_COMPILATION_CACHE_DIR" in environment:
        return {}
    root = Path(environment.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    # Programs run on the kind of processor that they were compiled for; machines may share a home.
    kind = hashlib.sha256(_processor().encode()).hexdigest()[:12]
    wanted = {
        "JAX_COMPILATION_CACHE_DIR": str(root / "bimixjax" / f"jaxlib-{version('jaxlib')}-{kind}"),
        "JAX_COMPILATION_CACHE_MAX_SIZE": str(_MOST_BYTES),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    return {name: value for name, value in wanted.items() if name not in environment}


def _processor() -> str:
    """Identify a kind of processor: on Linux by the instructions that it knows."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    kind = {line for line in lines if line.startswith(("flags", "Features", "model name"))}
    return "\n".join([platform.machine(), platform.processor(), *sorted(kind)])
