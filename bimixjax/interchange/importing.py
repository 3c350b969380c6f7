"""Runs of others as one table of observations."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from bimixjax._base.checks import InputError
from bimixjax._base.summaries import listed
from bimixjax.interchange import joining, kinds, naming, parts as _parts, shares
from bimixjax.interchange.joining import Joined
from bimixjax.interchange.naming import Rule
from bimixjax.interchange.parts import META, Named
from bimixjax.interchange.shares import WeightedBy
from bimixjax.observations import Observations
from bimixjax.observations.columns import LOSS, MIXTURE, RUN_COLUMNS, UNIQUE

# They mix documents before they pack them: MaxText's Grain pipeline (`input_pipeline/grain_data_processing.py`).
BY_DOCUMENTS = ("maxtext",)


@dataclass(frozen=True, kw_only=True)
class Imported:
    """Observations that were imported, and what a user should know of how.

    Attributes:
        observations: the table.
        kinds: of each file or folder that was read, its name and the kinds that it was taken as.
        unused: columns and metrics that are in the files and not in the table.
        notes: conflicts and conversions, each with what was done about it.

    Example:
        >>> import pandas as pd
        >>> from bimixjax import import_runs
        >>> pd.DataFrame({"run_id": ["a", "b"], "web": [0.8, 0.4], "code": [0.2, 0.6]}).to_csv("ratios.csv")
        >>> pd.DataFrame({"run_id": ["b", "a"], "arc": [1.4, 1.2]}).to_csv("metrics.csv")
        >>> import_runs(["ratios.csv", "metrics.csv"]).kinds
        {'ratios.csv': 'olmix ratios', 'metrics.csv': 'olmix metrics'}
    """

    observations: Observations
    kinds: Mapping[str, str]
    unused: tuple[str, ...]
    notes: tuple[str, ...]


def import_runs(
    paths: Iterable[str | Path] | str | Path,
    *,
    kind: str | None = None,
    names: Mapping[str, str] | Sequence[Rule] = (),
    ids: str | None = None,
    weighted_by: WeightedBy | None = None,
    tokens_per_document: Mapping[str, float] | None = None,
    normalize: bool = False,
) -> Imported:
    """Read runs in formats of others, join what each was trained on with its losses by the run's id, never by order.

    Args:
        paths: files and folders; losses and mixtures may be in different ones.
        kind: one of `bimixjax.interchange.KINDS`; by default each file is recognized.
        names: what columns are, such as `{"eval/*/loss": "loss/*", "w_*": "mixture/*", "lr": "meta/lr"}`. Roles are
            run, step, tokens, seed, model_size, `mixture/<domain>`, `loss/<target>`, `accuracy/<target>` (higher is
            better: kept as the error 1 - accuracy), `unique/<domain>`, `meta/<name>`; of a long table target and value,
            or domain and share; '' leaves a column out.
        ids: how ids of runs are written where they are not as elsewhere: `ckpt__{run}__step-{step}`, `*` for any text.
        weighted_by: whether shares are of tokens or of documents; by default documents for MaxText and where
            `tokens_per_document` is given, else tokens.
        tokens_per_document: mean tokens of a document by domain, which make shares of tokens of shares of documents.
        normalize: divide the shares of each run by their sum.

    Returns:
        The observations, the kind of each file, and notes on every conflict.

    Raises:
        InputError: for what cannot be read or joined; it names file, row and column.

    Example:
        >>> import pandas as pd
        >>> from bimixjax import import_runs
        >>> pd.DataFrame({"run": ["a", "b"], "w_web": ["80%", "40%"], "w_code": ["20%", "60%"]}).to_csv("mixtures.csv")
        >>> log = pd.DataFrame({"run": ["b", "a"], "step": [100, 100], "eval/web/loss": [3.5, 3.0]})
        >>> log.to_json("log.jsonl", orient="records", lines=True)
        >>> found = import_runs(["mixtures.csv", "log.jsonl"], names={"w_*": "mixture/*"})
        >>> found.observations.proportions[:, 0].tolist(), found.observations.targets
        ([0.4, 0.8], ('web',))
    """
    given = names if not isinstance(names, Mapping) else [naming.checked(*pair) for pair in names.items()]
    files = [Path(paths)] if isinstance(paths, str | Path) else [Path(path) for path in paths]
    if not files:
        raise InputError("no file to import; give one or more files or folders")
    read = [(file, part) for file in files for part in kinds.read(file, kind, tuple(given))]
    if kind is not None and not any(part.kind.startswith(kind) for _, part in read):
        taken = listed(dict.fromkeys(part.kind for _, part in read))
        raise InputError(f"none of the files is read as {kind}: they are {taken}")
    named = [_parts.named(part, given) for _, part in read]
    _require_used(given, named)
    if ids is not None:
        named = _renamed(named, ids)
    joined = joining.join(named)
    documents = _by_documents(named, weighted_by, tokens_per_document)
    found = _observations(joined, named, normalize, tokens_per_document, documents)
    by_file: dict[str, dict[str, None]] = {}
    for file, part in read:
        by_file.setdefault(str(file), {})[part.kind] = None
    return replace(found, kinds={file: ", ".join(of) for file, of in by_file.items()})


def _require_used(given: Sequence[Rule], named: Sequence[Named]) -> None:
    """Raise for a rule of the user that matches no column: most likely it is misspelled."""
    there = [*dict.fromkeys(name for part in named for name in (*part.columns.values(), *part.unused))]
    idle = [rule for rule in given if not any(rule.role_of(name) is not None for name in there)]
    if idle:
        raise InputError(
            f"no column is matched by {listed(repr(rule.pattern) for rule in idle)}; columns: "
            f"{listed(map(repr, there), most=20)}"
        )


def _renamed(named: Sequence[Named], template: str) -> list[Named]:
    """Take run, and step where there is one, out of the ids that are written as the template says."""
    if template.count("{run}") != 1 or template.count("{step}") > 1:
        needed = "{run} once, where a run's id stands, and {step} once at most, such as 'ckpt_{run}'"
        raise InputError(f"--ids is {template!r}; needed: {needed}")
    words = {"{run}": "(?P<run>.+?)", "{step}": r"(?P<step>\d{1,15})", "*": ".*"}
    pattern = re.compile(
        "".join(words.get(word, re.escape(word)) for word in re.split(r"(\{run\}|\{step\}|\*)", template)), re.DOTALL
    )
    found: list[Named] = []
    matched = False
    for part in named:
        matches = [pattern.fullmatch(run) for run in part.run]
        if not any(matches):
            found.append(part)
            continue
        matched = True
        run = np.array([match["run"] if match else run for match, run in zip(matches, part.run, strict=True)], object)
        volumes = dict(part.volumes)
        if "{step}" in template and "step" not in volumes:
            volumes["step"] = np.array([float(match["step"]) if match else np.nan for match in matches])
        found.append(replace(part, run=run, volumes=volumes))
    if not matched:
        has = listed([*dict.fromkeys(repr(run) for part in named for run in part.run)], most=5)
        raise InputError(f"no id is written as --ids {template!r}; ids: {has}")
    return found


def _place(named: Sequence[Named], run: str) -> str:
    """Name the first row with shares of a run."""
    of = ((part, role) for part in named for role in part.settings if role.startswith(MIXTURE) and run in part.run)
    part, role = next(of)
    return part.place(int(np.argmax(part.run == run)), role)


def _by_documents(
    named: Sequence[Named], weighted_by: WeightedBy | None, tokens_per_document: Mapping[str, float] | None
) -> bool:
    if weighted_by == "tokens" and tokens_per_document is not None:
        raise InputError("tokens per document are given, and shares are said to be weighted by tokens; leave one out")
    if weighted_by is not None:
        return weighted_by == "documents"
    return tokens_per_document is not None or any(part.part.kind in BY_DOCUMENTS for part in named)


def _observations(
    joined: Joined,
    named: Sequence[Named],
    normalize: bool,
    tokens_per_document: Mapping[str, float] | None,
    documents: bool,
) -> Imported:
    rows, settings, notes = joined.rows, joined.settings, [note for part in named for note in part.notes]
    domains = [name for name in settings if name.startswith(MIXTURE)]
    given = pd.DataFrame(settings[domains]).set_axis([name.removeprefix(MIXTURE) for name in domains], axis=1)
    made, more = shares.of_tokens(
        given, partial(_place, named), normalize=normalize, tokens_per_document=tokens_per_document, documents=documents
    )
    settings = settings.assign(**dict(zip(domains, made.T, strict=True)))
    beside = settings.loc[rows["base"]].reset_index(drop=True)
    frame = pd.concat([rows, beside[[name for name in beside if name not in rows]]], axis=1)
    notes += [*joined.notes, *more]
    for name in (name for name in RUN_COLUMNS if name in frame):
        blank = int(frame[name].isna().to_numpy().sum())
        if blank:
            notes.append(f"{name} is left out: it is blank in {blank} of {len(frame)} rows")
            frame = frame.drop(columns=name)
    kept = [name for name in frame if name.startswith((MIXTURE, UNIQUE, LOSS, META))]
    order = ["run", *(name for name in RUN_COLUMNS if name in frame), *kept]
    frame = pd.DataFrame(frame[order]).set_axis([name.removeprefix(META) for name in order], axis=1)
    source = " + ".join(dict.fromkeys(part.part.table.name for part in named))
    observations = Observations.from_frame(frame, source=source)
    unused = tuple(dict.fromkeys(name for part in named for name in part.unused))
    return Imported(observations=observations, kinds={}, unused=unused, notes=(*notes, *observations.notes))
