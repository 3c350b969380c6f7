"""Fit, resample, draw from and load: one law, or `auto`, the default predictor."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, TypeGuard, Unpack, overload

import jax

from bimixjax import fitting
from bimixjax._base import checks
from bimixjax._base.records import read_json
from bimixjax.auto.donor import Auto as Auto
from bimixjax.auto.draws import draw
from bimixjax.auto.estimate import fit_auto
from bimixjax.auto.resampling import AutoResampled as AutoResampled, resample
from bimixjax.auto.result import AutoFit as AutoFit
from bimixjax.fitting.options import FitOptions, Solver, TableOptions
from bimixjax.fitting.resamples import Redraw
from bimixjax.fitting.resampling import Resampled as Resampled
from bimixjax.fitting.result import FitResult
from bimixjax.laws import Law, law_named
from bimixjax.observations import Observations, Unit


# "auto" is a string too: the first overload that fits a call is the one that holds.
@overload
def fit(  # pyright: ignore[reportOverlappingOverload]
    law: Literal["auto"] | Auto, observations: Observations, **options: Unpack[TableOptions]
) -> AutoFit: ...


@overload
def fit(law: Law | str, observations: Observations, **options: Unpack[FitOptions]) -> FitResult: ...


def fit(
    law: Law | str | Auto,
    observations: Observations,
    *,
    volume: Unit | None = None,
    targets: Sequence[str] | None = None,
    priors: bool = True,
    weights: Mapping[str, float] | None = None,
    criterion: fitting.Criterion | None = None,
    solver: Solver | None = None,
) -> FitResult | AutoFit:
    """Fit a law to every target of a table, or with "auto" an average of laws weighted by their held-out errors.

    For one law, see `bimixjax.fitting.fit`: it minimizes the sum of ((predicted - measured) / measured)^2 and weak
    priors. `auto` fits several laws to the log of the losses, each with noise that checkpoints of a run and runs of
    near mixtures share; adds to each what kriging finds in its residuals; and averages them with weights

        prior weight x (mean |log error| on runs left out)^(-8 K / (K + 8))

    for K runs. A model size that was measured on fewer mixtures than a smaller one has the predictions of that one as a
    covariate, unless `Auto(donor=False)`. Outlying rows get no weight, see `auto.outlying`; a note names them. At a
    mixture where a member's loss leaves the fitted range, the mean of the runs takes its place, see
    `auto.averaging.sane`. Constants are stated where they are defined, in `auto.member_fits` and
    `auto.members`, with the observations that they come from: scores on those are not held out.

    Args:
        law: a name in `LAWS`, a law, "auto" or `Auto` settings.
        observations: measured losses.
        volume: "tokens" or "steps"; by default tokens where the table has them, else steps.
        targets: which losses to fit; by default all that the law can describe.
        priors: whether the weak priors take part; `auto` needs them.
        weights: by run, what its squared residuals count; not for `auto`.
        criterion: relative or absolute residuals, squared or Huber's; not for `auto`.
        solver: how a single law is solved; not for `auto`.

    Returns:
        A `FitResult`, or an `AutoFit` for `auto`.

    Raises:
        InputError: for an unknown law, member, target or unit of volume, or settings that `auto` does not have.

    Example:
        >>> import pandas as pd
        >>> import bimixjax
        >>> table = {"run": ["a"] * 3 + ["b"] * 3, "step": [1, 4, 16] * 2}
        >>> table |= {"mixture/x": [0.25] * 3 + [0.5] * 3, "mixture/y": [0.75] * 3 + [0.5] * 3}
        >>> table |= {"loss/x": [6.0, 4.0, 3.0, 3 * 2**0.5, 2 * 2**0.5, 1.5 * 2**0.5]}
        >>> fit = bimixjax.fit("bimix", bimixjax.Observations.from_frame(pd.DataFrame(table)), priors=False)
        >>> {name: round(float(value[0]), 4) for name, value in fit.coefficients.items()}
        {'A': 1.0, 'B': 2.0, 'C': 1.0, 'alpha': 0.5, 'beta': 0.5}

    Source: the laws of arXiv 2405.14908, 2410.12883 and 2507.09404; kriging about a fitted mean (universal kriging);
    stacking on held-out data (Breiman, 1996), with weights by error in place of a regression.
    """
    options = FitOptions(
        volume=volume, targets=targets, priors=priors, weights=weights, criterion=criterion, solver=solver
    )
    if _is_single(law):
        return fitting.fit(law, observations, **options)
    return fit_auto(law if isinstance(law, Auto) else Auto(), observations, **_of_table(options))[0]


def _is_single(law: Law | str | Auto) -> TypeGuard[Law | str]:
    """Say whether this is a single law; raise `InputError` for a name that is neither that of one nor "auto"."""
    if isinstance(law, str):
        if law == "auto":
            return False
        law_named(law, also=("auto",))
        return True
    return not isinstance(law, Auto)


@overload
def bootstrap(  # pyright: ignore[reportOverlappingOverload]
    law: Literal["auto"] | Auto,
    observations: Observations,
    *,
    key: jax.Array | int,
    count: int = 1000,
    **options: Unpack[TableOptions],
) -> AutoResampled: ...


@overload
def bootstrap(
    law: Law | str,
    observations: Observations,
    *,
    key: jax.Array | int,
    count: int = 1000,
    **options: Unpack[FitOptions],
) -> Resampled: ...


def bootstrap(
    law: Law | str | Auto,
    observations: Observations,
    *,
    key: jax.Array | int,
    count: int = 1000,
    **options: Unpack[FitOptions],
) -> Resampled | AutoResampled:
    """Fit a law to a table, and again with random weights of its runs: a bootstrap over runs.

    A single law is fitted again with each run's squared residuals times a weight from the standard exponential
    distribution, over their mean, see `bimixjax.fitting.bootstrap`. `auto` draws as many runs of each model size as
    there are, with replacement; divides the white noise of a run's rows by the root of how often it was drawn; moves
    its members by Gauss-Newton steps from the fit; and weighs them by their errors on runs left out, each run counting
    as often. A donor stays as it was fitted.

    Args:
        law: as in `fit`.
        observations: measured losses.
        key: of the random weights, or a seed for one.
        count: how many resamples, at least 2.
        **options: as in `fit`; for a single law, the weights of the bootstrap multiply those given.

    Returns:
        The fit and its resamples: a `Resampled`, or an `AutoResampled` for `auto`. `interval` gives the limits of
        predictions, `standard_errors` those of coefficients, and `bimixjax.optimize_resamples` those of a mixture.

    Raises:
        InputError: as `fit`; and for fewer than 2 resamples.

    Example:
        >>> import bimixjax, jax
        >>> import pandas as pd
        >>> table = {"run": list("abcd"), "mixture/x": [0.25, 0.4, 0.6, 0.8], "mixture/y": [0.75, 0.6, 0.4, 0.2]}
        >>> observations = bimixjax.Observations.from_frame(pd.DataFrame(table | {"loss/x": [4.0, 3.3, 2.5, 2.3]}))
        >>> auto = bimixjax.Auto(members=("offset",))
        >>> found = bimixjax.bootstrap(auto, observations, key=jax.random.key(0), count=20)
        >>> lower, upper = found.interval([0.5, 0.5])
        >>> bool(lower[0] < float(found.fit.predict([0.5, 0.5])[0]) < upper[0])
        True

    Source: Efron, Annals of Statistics 7 (1979), for `auto`; Rubin, The Bayesian bootstrap, same 9 (1981).
    """
    key = jax.random.key(key) if isinstance(key, int) else key
    if _is_single(law):
        return fitting.bootstrap(law, observations, key=key, count=count, **options)
    redraw = Redraw(key=key, count=checks.resamples(count))
    found, stacks = fit_auto(law if isinstance(law, Auto) else Auto(), observations, **_of_table(options))
    with jax.enable_x64(True):
        return resample(found, stacks, redraw)


def sample(fit: AutoFit, *, key: jax.Array | int, count: int = 1000) -> AutoResampled:
    """Draw from the posterior of a fit of `auto`.

    A draw takes for each target one member, with the chance of its weight, coefficients z + spread' e for standard
    normal e, and a path of the member's process over mixtures given the runs that were fitted; deviations from the mean
    are multiplied by the spread that runs left out have measured. So their standard deviations are those by which
    `AutoFit.interval` goes, but for its longer tails and the noise of a measured loss; and they have the correlation
    between mixtures besides, by which a choice of mixture is judged. It takes the fit only, which may come from a file.

    Args:
        fit: what was fitted; the donor of a model size and the law beyond the fitted sizes stay as they were fitted.
        key: of the random numbers, or a seed for one.
        count: how many draws, at least 2.

    Returns:
        The draws. `interval` gives the limits of expected losses, `bimixjax.optimize_resamples` those of a mixture.

    Raises:
        InputError: for fewer than 2 draws, or the fit of a single law, which `bootstrap` is for.

    Example:
        >>> import bimixjax
        >>> import pandas as pd
        >>> table = {"run": list("abcd"), "mixture/x": [0.25, 0.4, 0.6, 0.8], "mixture/y": [0.75, 0.6, 0.4, 0.2]}
        >>> observations = bimixjax.Observations.from_frame(pd.DataFrame(table | {"loss/x": [4.0, 3.3, 2.5, 2.3]}))
        >>> fit = bimixjax.fit(bimixjax.Auto(members=("offset",)), observations)
        >>> lower, upper = bimixjax.sample(fit, key=0, count=100).interval([0.5, 0.5])
        >>> bool(lower[0] < float(fit.predict([0.5, 0.5])[0]) < upper[0])
        True

    Source: see `auto.draws`.
    """
    if not isinstance(fit, AutoFit):
        raise checks.InputError("only a fit of auto can be drawn from; for a single law there is bootstrap")
    count, key = checks.resamples(count), jax.random.key(key) if isinstance(key, int) else key
    with jax.enable_x64(True):
        keys = jax.random.split(key, len(fit.sizes))
        sizes = tuple(draw(size, fit.own, one, count) for size, one in zip(fit.sizes, keys, strict=True))
        return AutoResampled(fit=fit, sizes=sizes)


def load(path: str | Path) -> FitResult | AutoFit:
    """Read a file that a fit of a single law or of `auto` was saved to.

    Raises:
        InputError: as `FitResult.load` and `AutoFit.load`.
    """
    found = read_json(path)
    law = checks.fields(found, ["law"], path)["law"]
    return AutoFit.loaded(found, path) if law == "auto" else FitResult.loaded(found, path)


def _of_table(options: FitOptions) -> TableOptions:
    """Return the options that `auto` has; raise `InputError` for what only a single law takes."""
    single = {name: value for name, value in options.items() if name not in TableOptions.__annotations__}
    given = [name for name, value in single.items() if name != "priors" and value is not None]
    given += [] if single.get("priors", True) else ["priors=False"]
    if given:
        raise checks.InputError(f"auto takes no {', '.join(given)}; allowed: volume and targets, or a single law")
    return TableOptions(volume=options.get("volume"), targets=options.get("targets"))
