"""Tables, numbers of runs, draws and rules of choice."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Case:
    """Mixtures whose losses are known: K runs are drawn and fitted, the choice is among the others.

    Attributes:
        table: name of the file; `candidates` that of another one, of which all mixtures are candidates.
        model_size, step: which rows; None for all.
    """

    table: str
    candidates: str | None = None
    model_size: float | None = None
    step: float | None = None

    @property
    def name(self) -> str:
        """Table and model size, for tables of results."""
        return self.table + (f" {self.model_size / 1e6:g}M" if self.model_size else "")


CASES = (
    *(Case("pile_5groups", model_size=size, step=30_000) for size in (70e6, 160e6, 305e6, 410e6)),
    Case("pile_3domains", model_size=410e6, step=60_000),
    Case("pile_17domains_train", candidates="pile_17domains_test"),
    Case("topics_24"),
)
RUNS = (4, 8, 16)

# Draws on which the default is chosen, and others on which it is reported.
CHOSEN_ON, REPORTED_ON = range(5), range(10, 20)
SEED = 1000

# Near-optimal averages: weights exp(-(J - min J) / (tolerance x min J)). Risk: the objective plus kappa standard
# deviations of its posterior. The best of a pool of random mixtures are RegMix's habit.
TOLERANCES = (0.001, 0.003, 0.01, 0.03)
KAPPAS = (0.25, 0.5, 1.0, 2.0)
POOL, BEST = 4096, 100
