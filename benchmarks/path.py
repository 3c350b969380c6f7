"""How much of the package a table passes through on its way to a mixture, and how much of the package there is.

The way, in a fresh process, after all modules are imported: `Observations.read` of a CSV, `fit` of BiMix, `optimize`
within limits; 8 runs x 5 volumes x 3 targets. What JAX traces is on the way. Counted with `sys.setprofile`, in all
threads:

- types: classes of ours with an instance made by `__init__` or `__new__`, written or generated. What exists from import
  on, such as the laws and the members of enums, and copies that JAX makes, are not seen.
- frames: how many frames of ours the deepest stack holds, those of other packages between them not counted.
- functions: distinct functions of ours that ran. Up to Python 3.11 comprehensions have frames of their own: they
  and generator expressions count, in frames too, and are also given apart.

The code, read from the source:

- lines with code on them: no docstrings, comments or blank lines;
- files above 350 lines, all lines counted;
- private functions, those named once in their file beside their definition, and of these such of at most 5 lines.

Run: `python benchmarks/path.py`; `--before FOLDER` counts another checkout too, `--list` says what was counted.
"""

import argparse
import ast
import importlib
import io
import json
import os
import pkgutil
import subprocess
import sys
import tempfile
import threading
import tokenize
from collections import Counter
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

HERE = Path(__file__).resolve().parent
MOST_LINES, SHORT = 350, 5
COMPREHENSIONS = ("<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>")
NO_CODE = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)


class Seen:
    """What a profiler sees of the package whose files lie in `root`."""

    def __init__(self, root: Path) -> None:
        self.root = f"{root}{os.sep}"
        self.types: set[str] = set()
        self.functions: set[str] = set()
        self.stack: list[str] = []

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        if event != "call":
            return
        self._see_type(frame)
        if frame.f_code.co_filename.startswith(self.root):
            self.functions.add(self._name(frame.f_code))
            stack = self._stack(frame)
            self.stack = max(self.stack, stack, key=len)

    def _see_type(self, frame: FrameType) -> None:
        code = frame.f_code
        first = code.co_varnames[0] if code.co_argcount else ""
        # The `__new__` of a named tuple is a lambda of `_cls`.
        if code.co_name in ("__init__", "__new__") or (code.co_name == "<lambda>" and first == "_cls"):
            made = frame.f_locals.get(first)
            cls = made if isinstance(made, type) else type(made)
            if cls.__module__.partition(".")[0] == "bimixjax":
                self.types.add(f"{cls.__module__}.{cls.__qualname__}")

    def _stack(self, frame: FrameType | None) -> list[str]:
        found = []
        while frame is not None:
            if frame.f_code.co_filename.startswith(self.root):
                found.append(self._name(frame.f_code))
            frame = frame.f_back
        return found[::-1]

    def _name(self, code: CodeType) -> str:
        return f"{code.co_filename.removeprefix(self.root)}: {code.co_qualname}"


def write_table(path: Path) -> None:
    """Losses that follow the law with .5 % noise."""
    import numpy as np
    import pandas as pd

    random, domains = np.random.default_rng(0), ("web", "books", "code")
    alpha, floor = np.array([0.05, 0.10, 0.15]), np.array([2.8, 2.4, 1.0])
    rows = []
    for run, shares in enumerate(random.dirichlet([3, 3, 3], size=8)):
        for step in (2_000, 4_000, 8_000, 16_000, 32_000):
            losses = shares**-alpha * (30 / step**0.5 + floor) * np.exp(0.005 * random.standard_normal(3))
            row = {"run": run, "step": step}
            row |= {f"mixture/{name}": share for name, share in zip(domains, shares, strict=True)}
            rows.append(row | {f"loss/{name}": loss for name, loss in zip(domains, losses, strict=True)})
    pd.DataFrame(rows).to_csv(path, index=False)


def walk() -> dict[str, list[str]]:
    """From a CSV to a mixture under the profiler, in this process: the types, functions and deepest stack."""
    import bimixjax

    for module in pkgutil.walk_packages(bimixjax.__path__, "bimixjax."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    # Names of the package are loaded when first used.
    read, fit, optimize = bimixjax.Observations.read, bimixjax.fit, bimixjax.optimize
    budget, limits = bimixjax.Budget, bimixjax.Limits
    seen = Seen(Path(bimixjax.__file__).resolve().parent)
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "table.csv"
        write_table(table)
        threading.setprofile(seen)
        sys.setprofile(seen)
        try:
            found = fit("bimix", read(table), volume="steps")
            optimize(found, budget=budget(volume=64_000, unit="steps"), limits=limits(upper={"books": 0.4}))
        finally:
            sys.setprofile(None)
            threading.setprofile(None)
    return {"types": sorted(seen.types), "frames": seen.stack, "functions": sorted(seen.functions)}


def walked(checkout: Path) -> dict[str, list[str]]:
    """`walk` of the package in a checkout, in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(checkout), "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, str(Path(__file__).resolve()), "--walk"]
    done = subprocess.run(command, env=environment, cwd=checkout, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def lines_with_code(source: str, tree: ast.Module) -> int:
    """Lines that hold a token which is neither of a docstring nor a comment."""
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in NO_CODE:
            lines |= set(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            lines -= set(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    return len(lines)


def private_functions(tree: ast.Module) -> list[tuple[str, int, int]]:
    """Name, lines (docstring included) and how often it is named elsewhere in its file, of each private function."""
    named: Counter[str] = Counter()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name | ast.Attribute):
            named[node.id if isinstance(node, ast.Name) else node.attr] += 1
    return [
        (node.name, (node.end_lineno or 0) - node.lineno + 1, named[node.name])
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and node.name.startswith("_") and not node.name.startswith("__")
    ]


def code(checkout: Path) -> dict[str, Any]:
    """What the source of the package in a checkout holds."""
    package = checkout / "bimixjax"
    found: dict[str, Any] = {"lines": 0, "long_files": [], "private": 0, "named_once": 0, "short": []}
    for path in sorted(package.rglob("*.py")):
        source, name = path.read_text(encoding="utf-8"), path.relative_to(package).as_posix()
        tree = ast.parse(source)
        found["lines"] += lines_with_code(source, tree)
        if (count := len(source.splitlines())) > MOST_LINES:
            found["long_files"].append(f"{name}: {count}")
        functions = private_functions(tree)
        once = [(function, lines) for function, lines, times in functions if times == 1]
        found["private"] += len(functions)
        found["named_once"] += len(once)
        found["short"] += [f"{name}: {function}" for function, lines in once if lines <= SHORT]
    return found


def numbers(way: dict[str, list[str]], source: dict[str, Any]) -> dict[str, int]:
    """The table's column of one checkout."""
    inner = sum(name.rpartition(".")[2] in COMPREHENSIONS for name in way["functions"])
    return {
        "own types made": len(way["types"]),
        "own frames deep": len(way["frames"]),
        "own functions run": len(way["functions"]),
        "of these, comprehensions": inner,
        "lines with code": source["lines"],
        f"files above {MOST_LINES} lines": len(source["long_files"]),
        "private functions": source["private"],
        "of these, named once": source["named_once"],
        f"of these, of <= {SHORT} lines": len(source["short"]),
    }


def main(before: Path | None, listed: bool, out: Path) -> None:
    # Not above: `--walk` runs this file beside another checkout, which may not have what it imports.
    import _report

    checkouts = {**({"before": before.resolve()} if before else {}), "now": HERE.parent}
    found = {name: {"way": walked(folder), "code": code(folder)} for name, folder in checkouts.items()}
    columns = {name: numbers(each["way"], each["code"]) for name, each in found.items()}
    rows = [(row, *(str(column[row]) for column in columns.values())) for row in columns["now"]]
    print(_report.table(("", *columns), rows))
    if listed:
        now = found["now"]
        long, short = now["code"]["long_files"], now["code"]["short"]
        parts = {**now["way"], f"files above {MOST_LINES} lines": long, "short functions named once": short}
        for title, names in parts.items():
            print("\n".join([f"\n{title}:", *names]))
    _report.write(out, columns)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, help="another checkout, to be counted beside this one")
    parser.add_argument("--list", action="store_true", help="print what was counted in this checkout")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "path.json", help="JSON file")
    parser.add_argument("--walk", action="store_true", help="only print the types, frames and functions as JSON")
    options = parser.parse_args()
    if options.walk:
        print(json.dumps(walk()))
    else:
        main(options.before, options.list, options.out)
