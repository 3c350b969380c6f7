"""What is fitted and what is predicted, and the laws that are compared."""

from dataclasses import dataclass, field, replace

from bimixjax.laws import BiMixOffset, Law, WithEpochs

TABLE = "repetition"
TARGET, OTHER = "hq", "web"
# Tokens of the longest training; all shorter ones are fitted.
LAST = 3_740_205_056

# Without the columns unique/<domain>, and with them.
FRESH = ("bimix_transfer", "additive", "auto")
IN_EPOCHS = ("bimix_transfer_repeated", "auto", "bimix_offset_epochs", "bimix_transfer_epochs", "additive_epochs")


@dataclass(frozen=True)
class Moved(WithEpochs):
    """The law around BiMix with an offset, with another prior median of one coefficient."""

    inner: Law = field(default_factory=BiMixOffset)
    coefficient: str = "tau"
    median: float = 30.0

    def __post_init__(self) -> None:
        super().__post_init__()
        moved = tuple(
            replace(c, prior=(self.median, c.prior[1])) if c.name == self.coefficient else c for c in self.coefficients
        )
        object.__setattr__(self, "coefficients", moved)
        object.__setattr__(self, "name", f"{self.name}, median of {self.coefficient} {self.median:g}")


# What the predictions of the whole layout rest on, where runs are too short to show harm.
MOVED = (Moved(median=20.0), Moved(median=40.0))
