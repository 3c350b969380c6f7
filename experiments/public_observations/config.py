"""What is fitted and what is predicted from each table; volumes in steps, both ends included."""

from dataclasses import dataclass

LAW = "bimix"
DRAWS = 50
# The sizes with all 26 mixtures of pile_5groups; its fifth has 6 runs and 8 rows.
SIZES = (70e6, 160e6, 305e6, 410e6)

# The first 10 % of each span, warm-up, is left out, as in the reference figures.
IN_SAMPLE = {
    "pile_5groups": (4_000, 30_000),
    "pile_3domains": (6_500, 60_000),
    "pile_2domains": (10_000, 30_000),
    "pile_17domains_train": (1_000, 1_000),
}


@dataclass(frozen=True, kw_only=True)
class Later:
    """Fit a table's rows from `first` to `half` at each of `sizes`, predict the losses at `last`."""

    table: str
    sizes: tuple[float, ...]
    first: int
    half: int
    last: int


EXTRAPOLATION = (
    Later(table="pile_5groups", sizes=SIZES, first=4_000, half=15_000, last=30_000),
    Later(table="pile_3domains", sizes=(70e6, 160e6), first=6_500, half=30_000, last=60_000),
    Later(table="pile_2domains", sizes=(70e6, 160e6), first=10_000, half=15_000, last=30_000),
)


@dataclass(frozen=True, kw_only=True)
class Unseen:
    """Fit K runs of a table, their rows from `first` to `last`, at each of `sizes`; predict the other runs at `last`.

    Args:
        table, sizes, first, last: what is fitted.
        runs: each K.
        held_out: the table whose runs are predicted instead.
        ranked: the targets over whose mean loss mixtures are ranked; all where empty.
        priors: with, without, or one after the other.
    """

    table: str
    sizes: tuple[float, ...]
    first: int
    last: int
    runs: tuple[int, ...]
    held_out: str | None = None
    ranked: tuple[str, ...] = ()
    priors: tuple[bool, ...] = (True,)


GENERALIZATION = (
    Unseen(
        table="pile_5groups",
        sizes=SIZES,
        first=4_000,
        last=30_000,
        runs=(2, 3, 4, 6, 8, 16),
        priors=(True, False),
    ),
    Unseen(table="pile_3domains", sizes=(410e6,), first=60_000, last=60_000, runs=(2, 3, 4, 6, 8, 16)),
    Unseen(table="pile_2domains", sizes=(70e6, 160e6), first=10_000, last=30_000, runs=(2, 3)),
    Unseen(
        table="pile_17domains_train",
        sizes=(1e6,),
        first=1_000,
        last=1_000,
        runs=(16, 32, 64, 128, 256, 512),
        held_out="pile_17domains_test",
        ranked=("pile_cc",),
    ),
)
