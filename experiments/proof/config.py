"""What the study of proposals trains: sizes, runs, seeds and methods."""

from bimixjax.loop.proposals import METHODS
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
DESIGN_SEED, PROOF_SEEDS = 0, (1, 2, 3, 4)
# Added to all seeds, times the number of the corpus' split: nothing of another split has the numbers of this one.
SPLIT_APART = 100
# Further ones of the small mixtures within 5 % of the best: with four seeds a difference has a standard error of .3 %.
# Of the large ones, whose noise is less, they would take 40 minutes of a core.
MORE_SEEDS, CONTENDERS, MORE_OF = (5, 6, 7, 8), 1.05, ("small",)

# Random runs come from a flat Dirichlet distribution within the limits. Tables that methods see, by how many of the
# random runs and of the planned ones they hold.
RANDOM, PLANNED_FIRST, PLANNED_NEXT = 24, 4, 4
TABLES = {"random-8": (8, 0), "planned-8": (0, 8), "random-24": (24, 0)}
METHODS = METHODS
# Of the pairs of models of DoReMi, at the first size; its mixture is trained at all.
DOREMI_SEEDS = (0, 1, 2, 3)
# Folders of a size: all proposals, the contenders with further seeds, DoReMi's mixture.
PROOF, AGAIN, MORE = "proof", "again", "more"
# The method whose proposals for the small models are trained large as well.
TRANSFERRED = "auto"

# Windows of the training text whose embeddings the von Neumann entropy is of, their length, and their dimensions.
SAMPLES, SAMPLE_BYTES, DIMENSIONS = 2000, 256, 300


def swarm(size: str) -> SwarmConfig:
    """How runs of a size are trained and measured."""
    layers, width, heads = SIZES[size]
    model = ModelConfig(layers=layers, width=width, heads=heads, context=CONTEXT)
    train = TrainConfig(model=model, batch=BATCH, learning_rate=LEARNING_RATE, base_width=BASE_WIDTH)
    return SwarmConfig(train=train, steps=STEPS, eval_steps=MEASURED, eval_windows=EVAL_WINDOWS, checkpoint_every=STEPS)
