"""What the study of proposals trains: sizes, runs, seeds and methods."""

from dataclasses import dataclass

from bimixjax.loop.proposals import AUTO, LOG_LINEAR, METHODS, NEAR_OPTIMAL, TREES
from bimixjax.proxy import ModelConfig, SwarmConfig, TrainConfig

# Layers, width and heads of each model size.
SIZES = {"small": (2, 48, 2), "large": (2, 96, 3)}
STEPS, BATCH, CONTEXT = 1000, 16, 64
# Of the steps; before a quarter of them all mixtures teach the same.
MEASURED = (250, 330, 436, 575, 758, 1000)
EVAL_WINDOWS = 128
# The rate that holds at width 64, from `experiments/learning_rate`.
LEARNING_RATE, BASE_WIDTH = 2e-3, 64

# No domain is gone through more often than this by a proposal.
MAX_EPOCHS = 8.0
# Mixtures within so much of the best get further seeds: with four, a difference has a standard error of .3 %. Those of
# large models take three times as long.
CONTENDERS = {"small": 1.05, "large": 1.01}

# Random runs come from a flat Dirichlet distribution within the limits. Tables that methods see, by how many of the
# random runs and of the planned ones they hold.
RANDOM, PLANNED_FIRST, PLANNED_NEXT = 24, 4, 4
TABLES = {"random-8": (8, 0), "planned-8": (0, 8), "random-24": (24, 0)}


@dataclass(frozen=True, kw_only=True)
class Split:
    """What is done on one split of the corpus; no seed is that of another split.

    Attributes:
        mixtures, design: seeds of the random mixtures, and of the runs that methods see.
        seeds, more: of the runs of all proposals, and of those of the contenders.
        methods: that propose.
        references: mixtures that need no runs; those of the best runs are trained as well where this is None.
        doremi: seeds of DoReMi's pairs of models, at the first size; its mixture is trained at all.
    """

    mixtures: int
    design: int
    seeds: tuple[int, ...]
    more: tuple[int, ...]
    methods: tuple[str, ...] = METHODS
    references: tuple[str, ...] | None = None
    doremi: tuple[int, ...] = ()


# The second confirms the first: the main methods, of the small models.
SPLITS = (
    Split(mixtures=0, design=0, seeds=(1, 2, 3, 4), more=(5, 6, 7, 8), doremi=(0, 1, 2, 3)),
    Split(
        mixtures=1,
        design=100,
        seeds=(101, 102),
        more=(103, 104),
        methods=(AUTO, NEAR_OPTIMAL, "bimix", "exponential", LOG_LINEAR, TREES),
        references=("natural", "uniform", "zero-run", "SE"),
    ),
)
# Folders of a size: all proposals, the contenders with further seeds, DoReMi's mixture.
PROOF, AGAIN, MORE = "proof", "again", "more"
# The method whose proposals for the small models are trained large as well.
TRANSFERRED = "auto"


def swarm(size: str) -> SwarmConfig:
    """How runs of a size are trained and measured."""
    layers, width, heads = SIZES[size]
    model = ModelConfig(layers=layers, width=width, heads=heads, context=CONTEXT)
    train = TrainConfig(model=model, batch=BATCH, learning_rate=LEARNING_RATE, base_width=BASE_WIDTH)
    return SwarmConfig(train=train, steps=STEPS, eval_steps=MEASURED, eval_windows=EVAL_WINDOWS, checkpoint_every=STEPS)
