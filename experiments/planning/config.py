"""Which public losses plans are judged on, and which runs they choose among; volumes in steps."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Table:
    """The runs of one size of a table at one volume: what a plan chooses among.

    Attributes:
        name: in results.
        file: without its suffix.
        family: tables of one family share mixtures or corpus, and are left out together when constants are learned.
        model_size: of the runs.
        step: at which losses are compared; None where the table has one volume.
        tasks: whether targets are tasks, not domains.
    """

    name: str
    file: str
    family: str
    model_size: float
    step: float | None = None
    tasks: bool = False


GROUPS = tuple(
    Table(name=f"pile_5groups {size}M", file="pile_5groups", family="5groups", model_size=size * 1e6, step=30_000)
    for size in (70, 160, 305, 410)
)
TABLES = (
    *GROUPS,
    Table(name="pile_3domains", file="pile_3domains", family="3domains", model_size=410e6, step=60_000),
    Table(name="pile_17domains train", file="pile_17domains_train", family="17domains", model_size=1e6),
    Table(name="pile_17domains test", file="pile_17domains_test", family="17domains", model_size=1e6),
    Table(name="topics_24", file="topics_24", family="topics", model_size=30e6, tasks=True),
)
# Methods were chosen on draws 0 to 4.
DRAWS, REPORTED = range(20), range(10, 20)
COUNTS = (2, 3, 4, 6, 8)
# For the mixture that `auto` chooses from the runs of a design.
AUTO_COUNTS, AUTO_DRAWS = (4, 8, 16), range(10, 15)
AUTO_TABLES = tuple(table for table in TABLES if table.name not in ("pile_5groups 160M", "pile_5groups 305M"))
# What runs of several sizes may cost together, in runs of the largest.
COSTS = (2.0, 3.0, 4.0)
