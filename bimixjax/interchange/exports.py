"""A mixture as the file of a trainer, with what the trainer will make of it."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bimixjax._base import checks, schema, summaries
from bimixjax._base.checks import InputError
from bimixjax._base.files import write_text
from bimixjax._base.records import read_json
from bimixjax.interchange import trainers
from bimixjax.interchange.audits import Audit, judge
from bimixjax.interchange.lengths import of_documents
from bimixjax.interchange.recipe import Recipe, Source, Stage, Training
from bimixjax.interchange.trainers import Trainer, parsing
from bimixjax.observations import Inventory

# A search ends at such shares where it means none: its answers are within a millionth of a nat of the best.
_NONE = 1e-6
# Corpora are a little smaller than their inventories say: OLMo-core stops where a limit of repetition is too tight.
_SLACK = 1.01


@dataclass(frozen=True, kw_only=True)
class Exported:
    """The text of a file, and what a trainer makes of it.

    Attributes:
        kind: the trainer.
        usage: how the trainer is given the file.
        text: of the file.
        audit: what was read back from the text; `asked` are the shares of the mixture.
    """

    kind: str
    usage: str
    text: str
    audit: Audit

    def save(self, path: str | Path) -> None:
        """Write the file."""
        write_text(path, self.text)


@dataclass(frozen=True, kw_only=True)
class Data:
    """What is known of the data of domains.

    Attributes:
        paths: by domain, what the trainer's file names; a mark that is easily found stands for others.
        inventory: unique tokens.
        tokens_per_document: the mean of each domain, or one number where all records are of that length.
    """

    paths: Mapping[str, str] = dataclasses.field(default_factory=dict)
    inventory: Inventory | None = None
    tokens_per_document: Mapping[str, float] | float | None = None


def export_mixture(
    mixture: Mapping[str, float],
    kind: str,
    *,
    training: Training | None = None,
    data: Data | None = None,
    suffix: str | None = None,
    block: int | None = None,
    drop_below: float = 0.0,
    then: tuple[float, Mapping[str, float]] | None = None,
) -> Exported:
    """Write a mixture as a trainer reads it, in the numbers that the trainer can come nearest to.

    The text is read back, and the audit says of that what the trainer draws: k_i / N, where it counts whole parts.

    Args:
        mixture: shares of tokens by domain, such as `OptimalMixture.as_dict()`.
        kind: one of `trainers.KINDS`.
        training: the training that it is for.
        data: paths, unique tokens and lengths of documents.
        suffix: of the file, where a trainer has two forms; None for the usual one.
        block: of how many sequences Levanter fixes the counts; None for its own 2048.
        drop_below: shares below this are left out, and the others raised alike; those below a millionth always are.
        then: a second mixture, and from when on: a step (1 or more), or a part of the training.

    Raises:
        InputError: where the trainer cannot draw a share, counts documents of which the lengths are not known, or
            knows no stages; and for shares, paths or kinds that are not allowed.

    Example:
        >>> found = export_mixture({"web": 0.7, "code": 0.3}, "megatron")
        >>> print(found.text, end="")
        0.7 REPLACE-WITH-PATH-OF/web
        0.3 REPLACE-WITH-PATH-OF/code
        >>> found.audit.realized.tolist()
        [[0.7, 0.3]]
    """
    trainer, training, data = trainers.of_kind(kind, suffix), training or Training(), data or Data()
    if block is not None and kind != "levanter":
        raise InputError(f"a block of sequences is what levanter has; {kind} has none")
    asked = [(0, _shares(mixture, drop_below, "the mixture"))]
    notes: list[str] = []
    if then is not None:
        if not trainer.phased:
            able = dict.fromkeys(each.kind for each in trainers.TRAINERS if each.phased)
            raise InputError(f"{trainer.title} knows one mixture for the whole training; stages: {', '.join(able)}")
        start, note = _start(trainer, then[0], training, block)
        notes += note
        asked.append((start, _shares(then[1], drop_below, "the second mixture")))
    domains = tuple(dict.fromkeys(domain for _, shares in asked for domain in shares))
    checks.known("domain", tuple(data.paths), domains, "the paths")
    checks.distinct("a path", list(data.paths.values()), "the paths of domains")
    drawn = tuple(domain for domain in domains if any(shares.get(domain, 0.0) > 0 for _, shares in asked))
    lengths = dict(zip(drawn, of_documents(trainer, data.tokens_per_document, drawn), strict=True))
    stages = tuple(_stage(trainer, start, shares, lengths, training, data, block) for start, shares in asked)
    text = trainer.write(_with_repetition(Recipe(stages=stages, block=block), training, data))
    where = f"the file for {trainer.title}"
    names = {path: source.domain for stage in stages for source in stage.sources for path in source.paths}
    recipe = trainer.read(parsing.parse(text, suffix or trainer.suffixes[0], where), names, where)
    wanted = np.array([[shares.get(domain, 0.0) for domain in recipe.domains] for _, shares in asked])
    audit = judge(trainer, recipe, training, data.inventory, data.tokens_per_document, wanted)
    notes += _left_out(mixture, then, domains, recipe)
    return Exported(
        kind=kind,
        usage=trainer.usage,
        text=text,
        audit=dataclasses.replace(audit, notes=(*notes, *audit.notes, *_otherwise(audit))),
    )


def read_mixture(path: str | Path) -> dict[str, float]:
    """Read shares by domain: what `bimix optimize --out` wrote, or plain JSON or CSV.

    Raises:
        InputError: for another file.
    """
    path = Path(path)
    if path.suffix == ".json" and isinstance(found := read_json(path), dict) and "proportions" in found:
        spot = schema.Spot(file=str(path))
        found = checks.fields(found, ("domains", "proportions"), path)
        domains = schema.texts("domains", names=True)(found["domains"], spot.at("domains"))
        shares = schema.shares("domains")(found["proportions"], spot.at("proportions"))
        if found.get("converged") is False:
            raise InputError(f"{path}: the search did not converge, so that this is no mixture to train on")
        return dict(zip(domains, shares.tolist(), strict=True))
    checks.choice(f"{path}: the suffix of a mixture", path.suffix, (".json", ".csv"))
    trainer = trainers.of_kind(path.suffix.removeprefix("."))
    stage = trainer.read(parsing.load(path), {}, str(path)).stages[0]
    return {source.domain: source.written for source in stage.sources}


def _shares(mixture: Mapping[str, float], drop_below: float, what: str) -> dict[str, float]:
    """Return shares that sum to 1, those left out as 0."""
    if not mixture:
        raise InputError(f"{what} has no domain")
    r = np.array(list(mixture.values()), float)
    if (r > 1).any() and abs(r.sum() - 100) <= 1:
        raise InputError(f"{what} sums to {r.sum():g}, as percents do; allowed: shares that sum to 1")
    checks.mixtures(r, tuple(mixture))
    checks.not_negative("drop-below", drop_below)
    r = np.where(r < max(drop_below, _NONE), 0.0, r)
    if not r.any():
        least = max(drop_below, _NONE)
        raise InputError(f"every share of {what} is below {least:g}; allowed: one at least that is not")
    return dict(zip(mixture, (r / r.sum()).tolist(), strict=True))


def _start(trainer: Trainer, switch: float, training: Training, block: int | None) -> tuple[int, list[str]]:
    """Return the step at which a second stage begins, the nearest at which the trainer can begin one."""
    checks.positive("the switch", switch)
    step = switch
    if switch < 1:
        if training.steps is None:
            got = f"the switch is {switch:g}, a part of the training"
            raise InputError(f"{got}; the tokens of training, --sequence-length and --batch-size make a step of it")
        step = switch * training.steps
    unit = trainer.step_unit(training, block)
    start = round(step / unit) * unit
    last = math.inf if training.steps is None else training.steps
    if not 0 < start < last:
        raise InputError(f"the second stage would begin at step {start} of {last:g}; allowed: within the training")
    note = f"the second stage begins at step {start}: {trainer.title} can begin one at each {unit} steps"
    return start, [note] if unit > 1 else []


def _stage(
    trainer: Trainer,
    start: int,
    shares: Mapping[str, float],
    lengths: Mapping[str, float],
    training: Training,
    data: Data,
    block: int | None,
) -> Stage:
    """Return the sources of a stage, in numbers that the trainer can come nearest to."""
    there = [domain for domain, share in shares.items() if share > 0]
    drawn = np.array([shares[domain] / lengths[domain] for domain in there])
    drawn /= drawn.sum()
    numbers = dict(zip(there, trainer.rounded(drawn, training, block).tolist(), strict=True))
    resolution = trainer.resolution(training, block)
    for domain, share in zip(there, drawn, strict=True):
        if numbers[domain] == 0 or (resolution is not None and share < resolution / 2):
            least = f" of {resolution:.3g}" if resolution else ""
            raise InputError(
                f"{domain} has a share of {share:.3g}, and {trainer.title} draws in parts{least}: it would be drawn "
                f"never or by chance; --drop-below leaves out such shares, a lower limit in the search raises them"
            )
    sources = []
    for domain in shares if trainer.keeps_zeros else there:
        default = trainer.default_path(domain)
        path = data.paths.get(domain, default)
        paths = () if default is None or path is None else (path if path == default else trainer.allowed_path(path),)
        sources.append(Source(domain=domain, written=numbers.get(domain, 0.0), paths=paths))
    return Stage(sources=tuple(sources), start=start)


def _with_repetition(recipe: Recipe, training: Training, data: Data) -> Recipe:
    """Allow each source as many epochs as it needs, where these are known."""
    stage, *later = recipe.stages
    if data.inventory is None or training.tokens is None or later:
        return recipe
    total = sum(source.written for source in stage.sources)
    sources = []
    for source in stage.sources:
        unique = data.inventory.tokens.get(source.domain, math.inf)
        needed = source.written / total * training.tokens / unique * _SLACK
        sources.append(dataclasses.replace(source, most_epochs=max(1.0, math.ceil(100 * needed) / 100)))
    return dataclasses.replace(recipe, stages=(dataclasses.replace(stage, sources=tuple(sources)),))


def _left_out(
    mixture: Mapping[str, float],
    then: tuple[float, Mapping[str, float]] | None,
    domains: tuple[str, ...],
    recipe: Recipe,
) -> list[str]:
    """Name the domains that the file has not."""
    gone = [domain for domain in domains if domain not in recipe.domains]
    given = mixture if then is None else {d: mixture.get(d, 0.0) + then[1].get(d, 0.0) for d in domains}
    notes = []
    for what, some in (("below a millionth", False), ("below --drop-below", True)):
        if found := [domain for domain in gone if (given[domain] >= _NONE) is some]:
            notes.append(f"left out, {what}: {summaries.listed(found)}")
    return notes


def _otherwise(audit: Audit) -> list[str]:
    """Name the domains that are realized by a twentieth more or less than was asked."""
    found: dict[str, None] = {}
    asked, real = audit.asked, audit.realized
    for stage, i in np.argwhere(np.abs(real - asked) > 0.05 * asked):
        found[f"{audit.domains[i]}: {asked[stage, i]:.5f} asked, {real[stage, i]:.5f} realized"] = None
    return [f"{text}, the nearest that can be drawn" for text in found]
