"""The page that the whole loop leaves: `report.md` with the figures beside it."""

from pathlib import Path

from matplotlib.figure import Figure
from rich.console import Group

from bimixjax import __version__
from bimixjax._base import files
from bimixjax.fitting import FitResult
from bimixjax.loop.workflow import OPTIMIZED, LoopResult
from bimixjax.reports import corpora, figures, loop, proofs, tables
from bimixjax.reports.lanes import FittedLosses, short
from bimixjax.reports.layout import markdown

REPORT = "report.md"
_TEMPLATE = Path(__file__).with_name(REPORT)

_CAUTION = (
    "The law predicts a domain's loss from that domain's own share: it ignores that domains help each other, "
    "which they do most in small models that were trained briefly."
)


def write(result: LoopResult, folder: str | Path) -> Path:
    """Write the figures and then `report.md` into a folder, and return its path."""
    folder = Path(folder)
    for name, figure in _figures(result).items():
        figures.save(figure, folder / f"{name}.png")
    files.write_text(folder / REPORT, text(result))
    return folder / REPORT


def text(result: LoopResult) -> str:
    """Return the page as Markdown."""
    baselines = loop.baselines(result)
    parts = {
        "entropies": corpora.entropies(result.store, result.entropies),
        "mixtures": corpora.mixtures(result.design.domains, loop.design(result)),
        "swarm": corpora.swarm(result.observations),
        "law": Group(*tables.fitted(result.fit)),
        "checks": loop.checks(result),
        "proportions": tables.proportions(result.best, baselines),
        "losses": tables.losses(result.best, baselines),
        "certificate": tables.certificate(result.best),
        "verdict": loop.verdict(result.proof),
        "proof": proofs.measured(result.proof),
    }
    fit = result.fit
    blind = isinstance(fit, FitResult) and fit.law.own_proportion and not fit.law.cross_domain
    shown = {name: markdown(part) for name, part in parts.items()}
    page = _TEMPLATE.read_text(encoding="utf-8")
    return page.format(setting=_setting(result), caution=_CAUTION if blind else "", **shown)


def _setting(result: LoopResult) -> str:
    observations, last = result.observations, result.proof.steps
    size = ", ".join(map(short, observations.model_sizes))
    tokens = "" if observations.tokens is None else f" ({short(float(observations.tokens.max()))} tokens each)"
    law = "an average of laws" if result.fit.name == "auto" else "a law"
    return (
        f"bimixjax {__version__}: {len(result.design)} models of {size} parameters, each trained on one "
        f"mixture of {len(result.design.domains)} domains for {last:.0f} steps{tokens}; {law} fitted to their losses; "
        f"and the best mixture under it trained beside {len(result.compared) - 1} others."
    )


def _figures(result: LoopResult) -> dict[str, Figure]:
    checks = loop.named_checks(result).items()
    last, mixtures = ((FittedLosses.of(each.fit, each.held_out), f"{name} held out") for name, each in checks)
    ordered = {OPTIMIZED: result.compared[OPTIMIZED], **result.compared}
    return {
        "losses": figures.loss_curves(FittedLosses.of(result.fit, result.observations)),
        "extrapolation": figures.agreement(*last),
        "generalization": figures.agreement(*mixtures),
        "proportions": figures.proportions(result.best.domains, ordered),
        "proof": figures.proof(result.proof),
    }
