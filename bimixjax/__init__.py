"""BiMixJAX: the bivariate data-mixing law in JAX, from measured losses to optimized mixtures.

Names are loaded when first used, so that importing the package costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from bimixjax import (
        cli as cli,
        comparison as comparison,
        corpus as corpus,
        datasets as datasets,
        estimation as estimation,
        fitting as fitting,
        interchange as interchange,
        laws as laws,
        loop as loop,
        metrics as metrics,
        mixtures as mixtures,
        observations as observations,
        optimization as optimization,
        planning as planning,
        proxy as proxy,
        reports as reports,
        solve as solve,
    )
    from bimixjax._base.checks import InputError as InputError
    from bimixjax._base.sidecars import recording as recording
    from bimixjax.comparison import Comparison as Comparison, compare as compare
    from bimixjax.estimation import (
        Auto as Auto,
        AutoFit as AutoFit,
        AutoResampled as AutoResampled,
        bootstrap as bootstrap,
        fit as fit,
        sample as sample,
    )
    from bimixjax.fitting import FitResult as FitResult, Refit as Refit, Resampled as Resampled, refit as refit
    from bimixjax.interchange import (
        Audit as Audit,
        Imported as Imported,
        export_mixture as export_mixture,
        import_runs as import_runs,
        lint as lint,
    )
    from bimixjax.laws import LAWS as LAWS, BiMix as BiMix
    from bimixjax.loop.verification import verify as verify
    from bimixjax.observations import Budget as Budget, Inventory as Inventory, Observations as Observations
    from bimixjax.optimization import (
        Baselines as Baselines,
        Limits as Limits,
        OptimalMixture as OptimalMixture,
        OptimalResamples as OptimalResamples,
        Sweep as Sweep,
        Worth as Worth,
        objective as objective,
        optimize as optimize,
        optimize_resamples as optimize_resamples,
        pareto as pareto,
        sweep as sweep,
    )
    from bimixjax.planning import Plan as Plan, plan as plan

_HOME = {
    "InputError": "_base.checks",
    "recording": "_base.sidecars",
    "verify": "loop.verification",
    "Observations": "observations",
    "Budget": "observations",
    "Inventory": "observations",
    "Audit": "interchange",
    "Imported": "interchange",
    "export_mixture": "interchange",
    "lint": "interchange",
    "import_runs": "interchange",
    "LAWS": "laws",
    "BiMix": "laws",
    "fit": "estimation",
    "bootstrap": "estimation",
    "sample": "estimation",
    "Auto": "estimation",
    "AutoFit": "estimation",
    "AutoResampled": "estimation",
    "FitResult": "fitting",
    "Resampled": "fitting",
    "Refit": "fitting",
    "refit": "fitting",
    "compare": "comparison",
    "Comparison": "comparison",
    "Baselines": "optimization",
    "objective": "optimization",
    "optimize": "optimization",
    "optimize_resamples": "optimization",
    "OptimalMixture": "optimization",
    "OptimalResamples": "optimization",
    "Worth": "optimization",
    "Sweep": "optimization",
    "sweep": "optimization",
    "pareto": "optimization",
    "Limits": "optimization",
    "Plan": "planning",
    "plan": "planning",
}
# Modules that are public by their paths; the first two are names of the package as well.
_MODULES = (
    *("metrics", "mixtures"),
    *(
        "cli",
        "comparison",
        "corpus",
        "datasets",
        "estimation",
        "fitting",
        "interchange",
        "laws",
        "loop",
        "observations",
    ),
    *("optimization", "planning", "proxy", "reports", "solve"),
)

__all__ = sorted([*_HOME, *_MODULES[:2]])


if not TYPE_CHECKING:  # a checker that saw it would take any name for a public one

    def __getattr__(name: str) -> Any:
        if name in _MODULES:
            return import_module(f"bimixjax.{name}")
        if name not in _HOME:
            raise AttributeError(f"module 'bimixjax' has no attribute {name!r}")
        value = getattr(import_module(f"bimixjax.{_HOME[name]}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*__all__, *_MODULES, "__version__"})
