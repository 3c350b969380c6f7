"""Mixtures that are lines of Python: written, and read back without running them."""

import ast
import warnings
from collections.abc import Mapping
from typing import Any

from bimixjax._base.checks import InputError
from bimixjax.interchange.recipe import Recipe, Source, Stage
from bimixjax.interchange.trainers import parsing


def calls(found: Any, function: str, keyword: str) -> bool:
    """Tell whether Python source calls a function with a keyword."""
    try:
        return isinstance(found, str) and _call(_tree(found, ""), function, keyword) is not None
    except InputError:
        return False


def read(found: Any, function: str, keyword: str, names: Mapping[str, str], where: str) -> Recipe:
    """Read the numbers of a call such as `interleave_datasets([a, b], probabilities=[0.3, 0.7])`.

    The numbers are a list, `list(SHARES.values())` of a table of numbers by name, or the name of either; paths are
    those of a table of texts with the same names.

    Raises:
        InputError: where there is no such call, or it has numbers that only running the source would tell.
    """
    tree = _tree(found, where)
    if (call := _call(tree, function, keyword)) is None:
        raise InputError(f"{where} does not call {function}(..., {keyword}=...); allowed: Python that does")
    tables = {
        target.id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    given = next(each.value for each in call.keywords if each.arg == keyword)
    value, by_name = _table(given, tables)
    allowed = f"{where}: {keyword} of {function} must be a list of numbers, or list(NAME.values()) of a table of them"
    if isinstance(value, list | tuple):
        elements = call.args[0].elts if call.args and isinstance(call.args[0], ast.List | ast.Tuple) else []
        if len(elements) != len(value):
            raise InputError(f"{allowed}, and the first argument a list of as many datasets ({len(value)})")
        domains = [ast.unparse(element) for element in elements]
        domains = [f"{domain} #{i + 1}" if domains.count(domain) > 1 else domain for i, domain in enumerate(domains)]
        value = dict(zip(domains, value, strict=True))
    if not isinstance(value, dict) or (not by_name and not isinstance(given, ast.List | ast.Tuple | ast.Name)):
        raise InputError(allowed)
    written = parsing.numbers(value, f"{where}: {keyword}")
    paths: dict[str, str] = {}
    for table, _ in (_table(node, tables) for node in tables.values()):
        if isinstance(table, dict) and set(table) >= set(written) and all(isinstance(p, str) for p in table.values()):
            paths = {domain: parsing.text(table[domain], f"{where}: path of {domain}") for domain in written}
    sources = []
    for domain, number in written.items():
        path = paths.get(domain)
        name = domain if path is None else names.get(path, domain)
        sources.append(Source(domain=name, written=number, paths=() if path is None else (path,)))
    return Recipe(stages=(Stage(sources=tuple(sources)),))


def write(recipe: Recipe, snippet: str, *, whole: bool = False) -> str:
    """Put the tables SHARES and PATHS into a snippet."""
    sources = recipe.stages[0].sources
    shares = {s.domain: int(s.written) if whole else s.written for s in sources}
    tables = [_lines("SHARES", shares), _lines("PATHS", {s.domain: s.paths[0] for s in sources})]
    return snippet.format(tables="\n".join(tables))


def _lines(name: str, table: Mapping[str, Any]) -> str:
    return "\n".join([f"{name} = {{", *(f"    {key!r}: {value!r}," for key, value in table.items()), "}"])


def _tree(found: Any, where: str) -> ast.Module:
    try:
        with warnings.catch_warnings():
            # What Python finds odd in the source of others is for them to see when it runs.
            warnings.simplefilter("ignore")
            return ast.parse(str(found))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise InputError(f"{where}: not Python: {error}") from error


def _call(tree: ast.Module, function: str, keyword: str) -> ast.Call | None:
    """Return the first call of a function, or of a method of that name, with the keyword."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and any(each.arg == keyword for each in node.keywords):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", None)
            if name == function:
                return node
    return None


def _table(node: ast.expr, tables: Mapping[str, ast.expr]) -> tuple[Any, bool]:
    """Return what an expression stands for, and whether it is the values of a table; None where unknown."""
    is_list = isinstance(node, ast.Call) and getattr(node.func, "id", None) in ("list", "tuple") and len(node.args) == 1
    inner = node.args[0] if isinstance(node, ast.Call) and is_list else node
    if isinstance(inner, ast.Call) and isinstance(inner.func, ast.Attribute) and inner.func.attr == "values":
        owner = inner.func.value
        named = tables.get(owner.id) if isinstance(owner, ast.Name) else None
        value = None if named is None else _table(named, {})[0]
        return (value, True) if isinstance(value, dict) else (None, False)
    if isinstance(inner, ast.Name):
        return (None, False) if inner.id not in tables else _table(tables[inner.id], {})
    try:
        return ast.literal_eval(inner), False
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return None, False
