"""Proxy training: a swarm of small Flax models, one per mixture of a design, to a table of measured losses.

- `design`: which mixture and seed each run has. `batches`: tokens by seed, run and step alone.
- `model`: the transformer. `train`: one member, and the programs for all at once. `mesh`: which device has what.
- `swarm`: all runs of a design, resumable at any moment. `storage`: what it leaves on disk. `pace`: how fast it goes.

    >>> from bimixjax.proxy import geometric_steps
    >>> geometric_steps(64, count=3)
    (4, 16, 64)
"""

from bimixjax.proxy.batches import TokenSource as TokenSource
from bimixjax.proxy.design import Design as Design
from bimixjax.proxy.mesh import make_mesh as make_mesh
from bimixjax.proxy.model import ModelConfig as ModelConfig
from bimixjax.proxy.pace import Progress as Progress
from bimixjax.proxy.storage import gather_shards as gather_shards
from bimixjax.proxy.swarm import SwarmConfig as SwarmConfig
from bimixjax.proxy.swarm import geometric_steps as geometric_steps
from bimixjax.proxy.swarm import train_swarm as train_swarm
from bimixjax.proxy.train import TrainConfig as TrainConfig
