"""What a trainer makes of the numbers in its file: shares, epochs, and what it would refuse or do otherwise."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from bimixjax._base import summaries
from bimixjax._base.checks import InputError
from bimixjax.interchange.lengths import of_documents
from bimixjax.interchange.recipe import PLACEHOLDER, Recipe, Stage, Training
from bimixjax.interchange.trainers import Trainer, of_kind, parsing, recognized
from bimixjax.observations import Inventory

# A share that is drawn by a twentieth more or less than is written is another mixture: beyond the noise of a proxy run.
_OTHERWISE = 0.05
# Rounding to 9 decimals, and the published numbers of DoReMi, which sum to 0.9996.
_EXACTLY, _ABOUT = 1e-6, 1e-2


@dataclass(frozen=True, kw_only=True)
class Audit:
    """What a trainer would train on.

    Example:
        >>> from bimixjax import export_mixture
        >>> audit = export_mixture({"web": 0.7, "code": 0.3}, "levanter").audit
        >>> (audit.realized * 2048).tolist(), audit.resolution == 1 / 2048
        ([[1434.0, 614.0]], True)

    Attributes:
        title: the trainer.
        domains: the d domains of the file.
        counts: what shares count: "tokens", or "documents" where the lengths of these are not known.
        starts: at which step each of the s stages begins.
        written: the numbers in the file, [s, d]; 0 where a stage does not name a domain.
        asked: shares that are wanted, [s, d]: those of a mixture, or those of the numbers divided by their sum.
        realized: shares that the trainer draws, [s, d].
        epochs: how often it goes through each domain, [d], NaN where the inventory has no number; None where the
            inventory, the tokens of training or where stages end are not known.
        resolution: the smallest share that the trainer can draw, where there is one.
        problems: what it would refuse, or do otherwise than the file says.
        notes: what else is worth knowing.
    """

    title: str
    domains: tuple[str, ...]
    counts: str
    starts: tuple[int, ...]
    written: Float[np.ndarray, "s d"]
    asked: Float[np.ndarray, "s d"]
    realized: Float[np.ndarray, "s d"]
    epochs: Float[np.ndarray, " d"] | None
    resolution: float | None
    problems: tuple[str, ...]
    notes: tuple[str, ...]

    def __repr__(self) -> str:
        found = f"{len(self.problems)} problems" if self.problems else "no problem"
        shares = (f"{d} {share:.3f}" for d, share in zip(self.domains, self.realized[0], strict=True))
        return f"Audit({self.title}: {summaries.listed(shares)}; {found})"


def lint(
    path: str | Path,
    *,
    kind: str | None = None,
    training: Training | None = None,
    inventory: Inventory | None = None,
    tokens_per_document: Mapping[str, float] | float | None = None,
    names: Mapping[str, str] | None = None,
) -> Audit:
    """Say what a trainer would make of a file.

    Args:
        path: a file of one of `trainers.KINDS`.
        kind: which; None to recognize it.
        training: its tokens, for epochs, and its sequences, for what is too rare to be drawn.
        inventory: unique tokens by domain.
        tokens_per_document: the mean of each domain, or one number where all are of that length: of a trainer that
            counts documents, shares and epochs of tokens follow from it.
        names: domains by path, for files that have paths only; else the last part of a path is the name.

    Raises:
        InputError: where the file is not what such a trainer reads.

    Example:
        >>> from pathlib import Path
        >>> written = Path("blend.txt").write_text("30 /data/web_text_document 70 /data/code_text_document")
        >>> lint("blend.txt")
        Audit(Megatron-LM (arguments): web 0.300, code 0.700; no problem)
    """
    found, suffix = parsing.load(path), Path(path).suffix
    trainer = recognized(found, suffix, str(path)) if kind is None else of_kind(kind, suffix)
    recipe = trainer.read(found, names or {}, str(path))
    return judge(trainer, recipe, training or Training(), inventory, tokens_per_document)


def judge(
    trainer: Trainer,
    recipe: Recipe,
    training: Training,
    inventory: Inventory | None = None,
    tokens_per_document: Mapping[str, float] | float | None = None,
    asked: Float[np.ndarray, "s d"] | None = None,
) -> Audit:
    """Say what a trainer makes of a recipe; `asked` are the shares of tokens wanted, over its domains."""
    domains, problems, notes = recipe.domains, list(recipe.problems), list(recipe.notes)
    several = len(recipe.stages) > 1
    resolution = trainer.resolution(training, recipe.block)
    said, drawn = [], []
    for stage in recipe.stages:
        label = f"from step {stage.start}: " if several else ""
        written = stage.numbers(domains)
        if not 0 < written.sum() < np.inf:
            raise InputError(f"{label}the numbers sum to {written.sum():g}; allowed: at least one above 0")
        wrong, worth_knowing = _sums(trainer, written[written > 0])
        if asked is not None:  # an export has chosen the numbers: that they are relative is no news
            worth_knowing = []
        wrong += _sources(trainer, stage)
        # Paths that are not given are to be filled in after an export; left like that, they are a mistake.
        (wrong if asked is None else worth_knowing).extend(_unset(stage))
        said.append(written / written.sum())
        drawn.append(np.zeros(len(domains)))
        drawn[-1][written > 0] = trainer.drawn(written[written > 0], recipe.block)
        wrong += _differences(trainer, domains, said[-1], drawn[-1], resolution)
        problems += [label + text for text in wrong]
        notes += [label + text for text in worth_knowing]
    problems += trainer.problems(recipe, training)
    wanted, realized = np.array(said) if asked is None else asked, np.array(drawn)
    counts = "tokens" if trainer.counts == "tokens" else "documents"
    if tokens_per_document is not None:
        lengths = of_documents(trainer, tokens_per_document, domains)
        counts = "tokens"
        wanted = _normalized(wanted * lengths) if asked is None else wanted
        realized = _normalized(realized * lengths)
    elif trainer.counts == "samples":
        counts = "tokens"
        notes.append("shares are of samples: of tokens where all samples are of one length (--concat_tokens)")
    epochs, more = _epochs(recipe, realized, counts, training, inventory)
    notes += more
    problems += [] if epochs is None else _too_often(recipe, epochs)
    return Audit(
        title=trainer.title,
        domains=domains,
        counts=counts,
        starts=tuple(stage.start for stage in recipe.stages),
        written=np.array([stage.numbers(domains) for stage in recipe.stages]),
        asked=wanted,
        realized=realized,
        epochs=epochs,
        resolution=resolution,
        problems=tuple(dict.fromkeys(problems)),
        notes=tuple(dict.fromkeys(notes)),
    )


def _normalized(shares: Float[np.ndarray, "s d"]) -> Float[np.ndarray, "s d"]:
    return shares / shares.sum(-1, keepdims=True)


def _sums(trainer: Trainer, written: Float[np.ndarray, " d"]) -> tuple[list[str], list[str]]:
    """Judge the sum of numbers: a problem, or a note, in words.

    A trainer that divides by the sum takes any numbers; but numbers of which each could be a share, with another sum
    than 1, are likely to be a mistake.
    """
    total = float(written.sum())
    percent = ", as percents do" if abs(total - 100) <= 1 else ""
    if abs(total - 1) > trainer.sum_within:
        return [f"the numbers sum to {total:.6g}{percent}; {trainer.title} wants 1 within {trainer.sum_within:g}"], []
    if abs(total - 1) <= _EXACTLY:
        return [], []
    said = f"the numbers sum to {total:.6g}{percent}; they are divided by that"
    whole = bool((written == np.round(written)).all())
    likely_shares = abs(total - 1) > _ABOUT and not whole and bool((written <= 1).all())
    return ([f"{said}, though each looks like a share"], []) if likely_shares else ([], [said])


def _sources(trainer: Trainer, stage: Stage) -> list[str]:
    """Find numbers of 0 that must not be, and paths that are there twice."""
    found = [
        f"{source.domain} has the number 0: {trainer.zero}"
        for source in stage.sources
        if trainer.zero and source.written == 0
    ]
    paths = Counter(path for source in stage.sources for path in source.paths)
    for path, count in paths.items():
        if count > 1:
            found.append(f"the path {path} is there {count} times: its data comes oftener than any one number says")
    return found


def _unset(stage: Stage) -> list[str]:
    """Find paths that were not given when the file was written."""
    unset = [source.domain for source in stage.sources if any(path.startswith(PLACEHOLDER) for path in source.paths)]
    return [f"no path yet for {summaries.listed(unset)}: what begins with {PLACEHOLDER} stands there"] if unset else []


def _differences(
    trainer: Trainer,
    domains: tuple[str, ...],
    said: Float[np.ndarray, " d"],
    drawn: Float[np.ndarray, " d"],
    resolution: float | None,
) -> list[str]:
    """Find domains that are drawn otherwise than is written, or too rarely to be drawn at all."""
    found = []
    for domain, share, real in zip(domains, said, drawn, strict=True):
        if share == 0:
            continue
        limit = "" if resolution is None else f", below the {resolution:.3g} that {trainer.title} can draw"
        # A hundredth less than what can be drawn is a matter of rounding.
        if real == 0 or (resolution is not None and real < 0.99 * resolution):
            result = "never drawn" if real == 0 else "drawn once at most"
            found.append(f"{domain} has a share of {share:.3g}{limit}: it is {result}")
        elif abs(real - share) > _OTHERWISE * share:
            found.append(f"{domain} has a share of {share:.5f}, and {trainer.title} draws {real:.5f}")
    return found


def _epochs(
    recipe: Recipe,
    realized: Float[np.ndarray, "s d"],
    counts: str,
    training: Training,
    inventory: Inventory | None,
) -> tuple[Float[np.ndarray, " d"] | None, list[str]]:
    """Return E_i = sum over stages of r_i T / U_i, or None and why there is none."""
    if inventory is None or training.tokens is None:
        return None, []
    if counts != "tokens":
        return None, ["no epochs: shares are of documents, and only --tokens-per-document makes tokens of them"]
    tokens = np.array([training.tokens])
    if len(recipe.stages) > 1:
        if training.steps is None:
            return None, ["no epochs: with stages, they need --batch-size and --sequence-length"]
        ends = np.array([*(stage.start for stage in recipe.stages), max(training.steps, recipe.stages[-1].start)])
        tokens = np.diff(np.minimum(ends, training.steps)) * training.tokens / training.steps
    unique = np.array([inventory.tokens.get(domain, np.nan) for domain in recipe.domains])
    unknown = [d for d, count in zip(recipe.domains, unique, strict=True) if np.isnan(count)]
    notes = [f"the inventory has no number of {summaries.listed(unknown)}"] if unknown else []
    return tokens @ realized / unique, notes


def _too_often(recipe: Recipe, epochs: Float[np.ndarray, " d"]) -> list[str]:
    most = {source.domain: source.most_epochs for stage in recipe.stages for source in stage.sources}
    return [
        f"{domain} would be read {count:.2f} times, and the file allows {most[domain]:g}"
        for domain, count in zip(recipe.domains, epochs, strict=True)
        if count > most[domain]
    ]
