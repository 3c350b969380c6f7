"""What columns mean: rules such as `eval/*/loss` -> `loss/*`, those of the user before those that a reader knows."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from bimixjax._base.checks import InputError
from bimixjax._base.summaries import listed

# One column of a table each; those of a long table say what stands in each row.
SINGLE = ("run", "step", "tokens", "seed", "model_size")
LONG = ("target", "value", "domain", "share")
# With a name behind them. Higher is better in `accuracy/`; `meta/` is kept beside the table and never fitted.
NAMED = ("mixture/", "loss/", "accuracy/", "unique/", "meta/")
ALLOWED = f"{', '.join((*SINGLE, *LONG))}, or a name behind {', '.join(NAMED)}; nothing leaves the column out"


@dataclass(frozen=True)
class Rule:
    """A pattern of column names, and the role of a column that it matches.

    Attributes:
        pattern: a name, in which each `*` stands for any text.
        role: what the column is; a `*` in it stands for what the last `*` of the pattern matched. '' leaves it out.

    Example:
        >>> Rule("eval/*/loss", "loss/*").role_of("eval/web/loss")
        'loss/web'
        >>> Rule("eval/*/loss", "loss/*").role_of("eval/loss") is None
        True
    """

    pattern: str
    role: str

    def role_of(self, column: str) -> str | None:
        """Return the role of a column, or None where the pattern does not match its name."""
        expression = "(.+)".join(map(re.escape, self.pattern.split("*")))
        match = re.fullmatch(expression, column, re.DOTALL)
        return match and self.role.replace("*", match.groups()[-1] if match.groups() else "*")


def parse(texts: Iterable[str]) -> tuple[Rule, ...]:
    """Read rules as `PATTERN=ROLE`.

    Raises:
        InputError: for a text without `=`, or a role that is none.

    Example:
        >>> parse(["eval/*/loss=loss/*", "lr="])
        (Rule(pattern='eval/*/loss', role='loss/*'), Rule(pattern='lr', role=''))
    """
    return tuple(checked(pattern, role, text) for text in texts for pattern, _, role in [text.rpartition("=")])


def checked(pattern: str, role: str, text: str | None = None) -> Rule:
    """Return a rule, or raise where its role is none, or has a `*` and the pattern has not."""
    got = f"{pattern}={role}" if text is None else text
    pattern, role = pattern.strip(), role.strip()
    if not pattern:
        raise InputError(f"--map has {got!r}; allowed: PATTERN=ROLE, such as 'eval/*/loss=loss/*'")
    is_role = role in ("", *SINGLE, *LONG) or any(role.startswith(each) and role != each for each in NAMED)
    if not is_role:
        raise InputError(f"--map has {got!r}, and {role!r} is no role of a column; allowed: {ALLOWED}")
    if "*" in role and "*" not in pattern:
        raise InputError(f"--map has {got!r}: the * of {role!r} stands for nothing, since {pattern!r} has none")
    return Rule(pattern, role)


def roles(columns: Sequence[str], given: Sequence[Rule], own: Sequence[Rule], source: str) -> dict[str, str]:
    """Return the role of each column that has one.

    The first rule that matches counts, the given ones before a reader's own. Of several columns that a reader takes for
    one and the same, that of its first rule has the role, and none where a given rule has it already.

    Raises:
        InputError: where given rules, or names behind a prefix, give one role to two columns.
    """
    by_user = {column: role for column in columns if (role := _first(column, given)) is not None}
    found = {column: role for column, role in by_user.items() if role}
    _require_distinct(found, source)
    taken = set(found.values())
    own_roles: dict[str, str] = {}
    for rule in own:
        for column in columns:
            role = None if column in by_user or column in own_roles else rule.role_of(column)
            if role is not None and role not in taken:
                own_roles[column] = role
                taken |= {role} if role in SINGLE + LONG else set()
    found |= {column: role for column, role in own_roles.items() if role}
    _require_distinct(found, source)
    return {column: found[column] for column in columns if column in found}


def _first(column: str, rules: Sequence[Rule]) -> str | None:
    return next((role for rule in rules if (role := rule.role_of(column)) is not None), None)


def _require_distinct(found: Mapping[str, str], source: str) -> None:
    by_role: dict[str, list[str]] = {}
    for column, role in found.items():
        by_role.setdefault(role, []).append(column)
    for role, columns in by_role.items():
        if len(columns) > 1:
            raise InputError(
                f"{source}: columns {listed(map(repr, columns))} would all be {role!r}; leave all but one out, "
                f"as with --map {columns[-1]!r}="
            )
