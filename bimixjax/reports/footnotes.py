"""Footnotes of predicted losses: what of each mixture was extrapolated, and by how much."""

from collections.abc import Iterator, Sequence

from bimixjax.fitting.extrapolation import Extrapolation

STAR, PRIOR = "*", "‡"
FROM_PRIOR = "from the prior, since nothing fitted tells of it"

# So many names are listed, and so many lines; more are counted.
_NAMES, _LINES = 3, 6
_ORDER = ("volume", "model size", "epochs", "share")


def footnotes(names: Sequence[str], outside: Sequence[Sequence[Extrapolation]], targets: Sequence[str]) -> list[str]:
    """Return one line for each mark, with what lies outside in each mixture; a reason of several is said once.

    Example:
        >>> volume = Extrapolation(kind="volume", name="steps", asked=64.0, fitted=32.0, several=True,
        ...                        targets=("web",), from_prior=False)
        >>> footnotes(["mixture 1", "mixture 2"], [[volume], [volume]], ["web"])
        ['* extrapolated: volume 2 x the largest fitted, 32 steps']
    """
    lines = []
    for mark, words, from_prior in ((STAR, "extrapolated", False), (PRIOR, FROM_PRIOR, True)):
        reasons = list(_reasons(names, outside, targets, from_prior))
        more = [f"and {len(reasons) - _LINES} more"] if len(reasons) > _LINES else []
        if reasons:
            lines.append(f"{mark} {words}: " + "; ".join([*reasons[:_LINES], *more]))
    return lines


def _reasons(
    names: Sequence[str], outside: Sequence[Sequence[Extrapolation]], targets: Sequence[str], from_prior: bool
) -> Iterator[str]:
    groups: dict[tuple[object, ...], list[tuple[str, Extrapolation]]] = {}
    for name, each in zip(names, outside, strict=True):
        for one in each:
            if one.from_prior == from_prior:
                key = (one.kind, one.name, one.fitted, one.asked > one.fitted, one.targets)
                groups.setdefault(key, []).append((name, one))
    for group in sorted(groups.values(), key=lambda group: _ORDER.index(group[0][1].kind)):
        far = max((one for _, one in group), key=lambda one: abs(one.asked - one.fitted))
        same = all(one.asked == far.asked for _, one in group)
        whose = [] if len(group) == len(outside) else [_listed([name for name, _ in group])]
        whose += [] if far.targets in ((far.name,), tuple(targets)) else [f"for {_listed(far.targets)}"]
        yield f"{far}" + ("" if same else ", at the farthest") + (f" ({'; '.join(whose)})" if whose else "")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= _NAMES else f"{len(names)} of them"
