"""Proxy training: a swarm of small Flax models, one per mixture of a design, to a table of measured losses.

    design --batches--> windows --train--> members --swarm--> losses --storage--> observations.csv

- `design`: the mixture, the seed and the model of each run.
- `batches`: windows of tokens, a function of seed, run and step alone, so that a resumed run draws the same.
- `repetition`: tokens of which only so many are drawn from, so that proxies repeat as the real run will.
- `model`: the transformer. `train`: one step and one measurement of a member. `programs`: of all members at once.
- `schedule`: the course of the learning rate.
- `mesh`: members, batches and parameters on a grid of devices. `memory`: what each device will hold, and how work is
  cut up to fit. `hosts`: several processes that train one swarm. `feed`: tokens on their way to the devices.
- `settings`, `swarm`: all runs of a design, resumable at any moment. `storage`, `checkpoints`, `metrics`: what they
  leave.
- `pace`: the length of a call, and speed. `cost`: operations. `fleet`: many workers on one design.

Words: a *run* is a row of the design; a *member* is the state of its training; a *slot* holds a member, or padding that
fills up the devices; a *window* is L + 1 adjacent tokens; a *target* is a domain whose validation loss is measured.

    >>> from bimixjax.proxy import Design, ModelConfig, SwarmConfig, TrainConfig
    >>> design = Design.make(["even", "mostly-code"], ["code", "web"], [[0.5, 0.5], [0.9, 0.1]])
    >>> config = SwarmConfig(train=TrainConfig(model=ModelConfig(width=32), batch=8), steps=160)
    >>> len(design), config.train.model.size, config.train.tokens_per_step, config.measured[-3:]
    (2, 32928, 1024, (72, 108, 160))
"""

from bimixjax.proxy.batches import TokenSource as TokenSource
from bimixjax.proxy.design import Design as Design
from bimixjax.proxy.hosts import join as join
from bimixjax.proxy.memory import Plan as Plan
from bimixjax.proxy.mesh import make_mesh as make_mesh
from bimixjax.proxy.model import ModelConfig as ModelConfig
from bimixjax.proxy.pace import Progress as Progress
from bimixjax.proxy.repetition import LimitedTokens as LimitedTokens, simulate_epochs as simulate_epochs
from bimixjax.proxy.reweighting import DoremiResult as DoremiResult, doremi as doremi
from bimixjax.proxy.schedule import Schedule as Schedule
from bimixjax.proxy.settings import SwarmConfig as SwarmConfig, geometric_steps as geometric_steps
from bimixjax.proxy.storage import gather_shards as gather_shards
from bimixjax.proxy.swarm import plan_swarm as plan_swarm, train_swarm as train_swarm
from bimixjax.proxy.train import TrainConfig as TrainConfig
