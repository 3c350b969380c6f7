"""What the open questions train: domains, mixtures, runs and laws."""

from bimixjax.proxy import SwarmConfig
from experiments.proof import config as proof

TOKENS = float(proof.STEPS * proof.BATCH * proof.CONTEXT)
DESIGN_SEED, PROOF_SEEDS = 0, (1, 2)
# The folder of the tables of runs, from which `summary` works.
TABLES = "tables"


def swarm() -> SwarmConfig:
    """Runs as the small ones of `experiments.proof`: .068M parameters, 1.02M tokens."""
    return proof.swarm("small")


class Domains:
    """How many runs does it take as domains grow: 4, 8 and 12 of the corpus."""

    COUNTS = (4, 8, 12)
    # Random runs; planned ones, of which each part is planned from the parts before; runs that judge predictions.
    RANDOM, PLANNED, JUDGES = 24, (4, 4, 8, 8), 24
    RUNS = (4, 8, 16, 24)
    LAWS = ("bimix", "bimix_transfer", "additive", "joint", "exponential_volume", "auto")
    # Whose mixtures are trained, and the numbers of runs that they are chosen from.
    METHODS, CHOSEN_FROM = ("auto", "bimix", "additive", "log-linear-kl"), (4, 8, 24)


class Shares:
    """How laws fail where shares are next to none or nearly all; each domain has text for a run of its own."""

    DOMAINS = ("python", "json", "licences", "html")
    FITTED = 24
    # Fitted mixtures have all their shares between these, about the range of the mixtures of arXiv 2405.14908.
    LEAST, MOST = 0.02, 0.7256
    SMALL = (0.0, 0.0001, 0.0003, 0.0007, 0.002, 0.005, 0.01)
    LARGE = (0.75, 0.8, 0.85, 0.9, 0.95, 0.98, 1.0)
    LAWS = ("bimix", "bimix_transfer", "additive", "joint", "exponential_volume", "auto")


class Epochs:
    """Is it the share or the epochs: one domain, of which there is little, beside plenty of another."""

    # The scarce domain and the other. What changed in `auto` was chosen with the first; the others confirm it.
    PAIRS = (("bible", "python"), ("json", "python"), ("licences", "json"))
    UNIQUE = (10_000, 25_000, 62_500, 156_250, 390_625)
    SHARES = (0.02, 0.05, 0.1, 0.2, 0.4, 0.6)
    # Runs of no more than so many epochs are fitted; the others are predicted.
    FITTED = 8.0
    BINS = (0, 8, 16, 32, 64)
    # With the columns of unique tokens, and without them.
    LAWS = (
        *(("bimix_transfer", True), ("bimix_transfer_repeated", True), ("bimix_transfer_epochs", True)),
        *(("additive", True), ("additive_epochs", True), ("auto", True), ("auto", False)),
    )


class Media:
    """Bytes of images and sounds as domains beside text."""

    RANDOM, JUDGES = 24, 24
    # Pairs: a domain has this share and one other domain the rest; seeds that tell what they teach from noise.
    OWN = 0.5
    SEEDS = (DESIGN_SEED, 1)
    LAWS = ("bimix", "bimix_transfer", "additive", "joint", "auto")
