"""Mixing laws, each written for one target at one observation.

- `law`: what a law is, its coefficients, and the point at which it is evaluated. `dependence`: which inputs it reads.
- `bimix`, `transfer`: BiMix, with an offset, with model size, with cross-domain terms.
- `additive`, `exponential`, `power_linear`, `chinchilla`, `dcpt`, `capacity`: other laws.
- `volume`, `repetition`, `epochs`: a power of the volume, repeated tokens, or their harm as well, around any law.

A law of your own takes a name, its coefficients, and what multiplies each linear one; nothing else needs to know of it.
This one stays finite where its domain is absent, and `WithVolume` adds a power of the volume:

    >>> import bimixjax, jax.numpy as jnp, numpy as np, pandas as pd
    >>> from bimixjax.laws import Coefficient, Law, WithVolume
    >>> class Saturating(Law):
    ...     name = "saturating"
    ...     own_proportion = True
    ...     coefficients = (
    ...         Coefficient(name="C", linear=True, prior=(2.0, 2.0)),
    ...         Coefficient(name="w", linear=True, prior=(1.0, 2.0)),
    ...         Coefficient(name="k", prior=(3.0, 1.0), upper=100.0, proportions=3),
    ...     )
    ...     def basis(self, nonlinear, point):
    ...         return {"C": 1.0, "w": jnp.exp(-nonlinear["k"] * point.own)}
    ...     def starts(self):
    ...         return {"k": (1.0, 10.0)}
    >>> share, step = np.repeat([0.0, 0.25, 0.5], 3), np.tile([1, 4, 16], 3)
    >>> table = {"run": share.astype(str), "step": step, "mixture/x": share, "mixture/y": 1 - share}
    >>> table |= {"loss/x": 2 + np.exp(-4 * share) + step**-0.5}
    >>> observations = bimixjax.Observations.from_frame(pd.DataFrame(table))
    >>> fit = bimixjax.fit(WithVolume(Saturating()), observations, priors=False)
    >>> {name: round(float(value[0]), 3) for name, value in fit.coefficients.items()}
    {'C': 2.0, 'w': 1.0, 'B': 1.0, 'k': 4.0, 'beta': 0.5}

Where a law reads volumes or model sizes itself, `with_units` says how its coefficients change with their units; a fit
refuses a law that needs it and has none.
"""

from collections.abc import Collection

from bimixjax._base.checks import choice
from bimixjax.laws.additive import (
    Additive as Additive,
    AdditiveSized as AdditiveSized,
    Joint as Joint,
    JointSized as JointSized,
)
from bimixjax.laws.bimix import BiMix as BiMix, BiMixOffset as BiMixOffset, BiMixSized as BiMixSized
from bimixjax.laws.capacity import Capacity as Capacity
from bimixjax.laws.chinchilla import Chinchilla as Chinchilla, Kaplan as Kaplan
from bimixjax.laws.dcpt import DCPT as DCPT, DCPTSized as DCPTSized
from bimixjax.laws.epochs import WithEpochs as WithEpochs
from bimixjax.laws.exponential import (
    Exponential as Exponential,
    ExponentialM1 as ExponentialM1,
    ExponentialM2 as ExponentialM2,
    ExponentialM3 as ExponentialM3,
    LogLinear as LogLinear,
)
from bimixjax.laws.law import (
    Basis as Basis,
    Coefficient as Coefficient,
    Law as Law,
    Point as Point,
    Units as Units,
    power as power,
    share_power as share_power,
)
from bimixjax.laws.power_linear import PowerLinear as PowerLinear
from bimixjax.laws.repetition import Repeated as Repeated, effective_volume as effective_volume
from bimixjax.laws.transfer import (
    BiMixTransfer as BiMixTransfer,
    BiMixTransferLinear as BiMixTransferLinear,
    BiMixTransferSized as BiMixTransferSized,
)
from bimixjax.laws.volume import WithVolume as WithVolume

_MIXTURE_ONLY = (Exponential(), ExponentialM1(), ExponentialM2(), ExponentialM3(), LogLinear(), PowerLinear())
_ALL = (
    *(BiMix(), BiMixOffset(), BiMixSized()),
    *(BiMixTransfer(), BiMixTransferLinear(), BiMixTransferSized()),
    *(Additive(), AdditiveSized(), Joint(), JointSized()),
    *_MIXTURE_ONLY,
    *(WithVolume(law) for law in _MIXTURE_ONLY),
    *(Chinchilla(), Kaplan(), DCPT(), DCPTSized(), Capacity()),
)

LAWS: dict[str, Law] = {law.name: law for law in _ALL}

# Behind the name of any law of these: what reads it in epochs.
IN_EPOCHS: dict[str, type[Repeated] | type[WithEpochs]] = {"_repeated": Repeated, "_epochs": WithEpochs}


def law_named(name: str, what: str = "law", also: Collection[str] = ()) -> Law:
    """Return the law of a name in `LAWS`, or of one with `_repeated` or `_epochs` behind it.

    Args:
        name: of the law.
        what: what messages call it.
        also: further names that messages allow.

    Raises:
        InputError: for any other name; it suggests the nearest.

    Example:
        >>> from bimixjax.laws import law_named
        >>> law_named("bimix").name, law_named("bimix_repeated").name, law_named("additive_epochs").inner.name
        ('bimix', 'bimix_repeated', 'additive')
    """
    for ending, wrapper in IN_EPOCHS.items():
        if name.removesuffix(ending) in LAWS and name not in LAWS:
            return wrapper(LAWS[name.removesuffix(ending)])
    return LAWS[choice(what, name, (*also, *LAWS))]
