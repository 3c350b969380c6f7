"""What is fitted, what is predicted, and by which laws; volumes in steps, both ends included."""

from dataclasses import dataclass

from bimixjax.laws import LAWS
from bimixjax.solve import VarPro

AUTO = "auto"
ALONE = "auto, no donor"
TREES = "lightgbm"
# What `auto` is not compared with as a single law.
NOT_SINGLE = (AUTO, ALONE, TREES)
# Rivals that are shown beside the best ones.
ALWAYS_SHOWN = (ALONE, TREES, "exponential")

# Modules whose code decides what `auto` predicts; what is kept of an older code is not read. Of a single law its own
# code counts. Neither counts the engine that fits single laws: changing it should change their time only.
AUTO_SOURCES = ("auto/*.py", "solve/linear.py", "solve/marquardt.py", "laws/*.py")

# The sizes with all 26 mixtures of pile_5groups; its fifth has 6 runs and 8 rows.
SIZES = (70e6, 160e6, 305e6, 410e6)

# Draws 0 to 4 of pile_5groups chose the constants of `auto`; draws 10 to 59 are reported.
DRAWS, FIRST = 50, 10
LEVEL = 0.9

# Single laws are followed from as many starts as `fit` would, but less far: see the README for what that changes.
MAX_STEPS, TOLERANCE = 100, 1e-7


# Many domains make many coefficients: there, fewer starts.
DOMAIN_STARTS = 2


def solver(law: str, most: int | None = None) -> VarPro:
    """How a single law is solved, from no more than `most` starts."""
    starts = LAWS[law].local_minima
    return VarPro(starts=starts if most is None else min(starts, most), max_steps=MAX_STEPS, tolerance=TOLERANCE)


# Laws without model size, each size fitted apart. `log_linear` has the form of `exponential`.
SINGLE = (
    "bimix_offset",
    "bimix_transfer",
    "bimix_transfer_linear",
    "additive",
    "joint",
    "exponential_volume",
    "power_linear_volume",
    "dcpt",
)
# The same where there is one volume only.
OF_MIXTURE = tuple(name.removesuffix("_volume") for name in SINGLE)
# Without `joint`: one fit of 16 runs over 17 domains in 10 draws took it more than 12 minutes.
OF_DOMAINS = tuple(name for name in OF_MIXTURE if name != "joint")
# Of these, those that describe targets that are no domains.
OF_TASKS = tuple(name for name in OF_DOMAINS if not LAWS[name].own_proportion)
SIZED = ("chinchilla", "bimix_sized", "bimix_transfer_sized", "additive_sized", "joint_sized", "dcpt_sized")
# What carries `auto` to model sizes that were not fitted.
BEYOND = "additive_sized"
# Beside `auto` with a donor; `additive_sized` took four minutes for each number of runs, and `joint_sized` takes more.
DONOR_RIVALS = ("chinchilla", "bimix_transfer_sized")
# Laws that data are drawn from; BiMix itself would have no loss where a domain is absent.
SIMULATED = (
    "bimix_offset",
    "bimix_transfer",
    "additive",
    "joint",
    "exponential_volume",
    "power_linear_volume",
    "dcpt",
)
# Independent relative noise of simulated losses: what a run x step table leaves of pile_5groups.
NOISE = 0.003


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows of a table from `first` to `last` at some sizes; the first 10 % of each span, warm-up, is left out."""

    name: str
    sizes: tuple[float, ...]
    first: int
    last: int


GROUPS = Table(name="pile_5groups", sizes=SIZES, first=4_000, last=30_000)
THREE = Table(name="pile_3domains", sizes=(410e6,), first=60_000, last=60_000)
THREE_LONG = Table(name="pile_3domains", sizes=(70e6, 160e6), first=6_500, last=60_000)
TWO = Table(name="pile_2domains", sizes=(70e6, 160e6), first=10_000, last=30_000)

RUNS = (2, 3, 4, 6, 8, 16)
# Of 512.
DOMAIN_RUNS = (16, 32, 64, 128, 256, 512)
DONOR_RUNS = (2, 6, 16)
DONOR_ALL, DONOR_APART = "70M on all mixtures", "70M on 16 other mixtures"
DONOR_MIXTURES = 16
SIMULATED_RUNS = (8, 16)
RANKED_TARGET = "pile_cc"
CUTS = (0.4, 0.5, 0.6, 0.7)
# Draws of pile_17domains and of simulations cost more and differ less than those of few runs.
DOMAIN_DRAWS, SIMULATED_DRAWS = 3, 20
# Draws of 2 to 16 runs of pile_17domains and topics_24; draws 0 to 4 chose priors and weights.
FEW_DRAWS = 10
