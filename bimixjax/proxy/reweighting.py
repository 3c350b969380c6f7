"""DoReMi: the mixture that follows from how far a small model is behind another one, domain by domain, as it trains.

Source: arXiv 2305.10429, Algorithm 1; sangmichaelxie/doremi at d8ed1fb, doremi/trainer.py (`update_domain_weights`,
`training_step`), and at 04775e1, doremi/train.py.
"""

import dataclasses
import tempfile
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int
from numpy.typing import ArrayLike

from bimixjax import mixtures
from bimixjax._base.checks import InputError, positive, share
from bimixjax._base.records import record
from bimixjax.observations import Observations
from bimixjax.proxy.batches import TokenSource
from bimixjax.proxy.design import Design
from bimixjax.proxy.hosts import whole
from bimixjax.proxy.mesh import Layout
from bimixjax.proxy.model import token_losses
from bimixjax.proxy.pace import Progress
from bimixjax.proxy.settings import SwarmConfig
from bimixjax.proxy.swarm import final_members, train_swarm
from bimixjax.proxy.train import MEAN_LOSS, Learner, Member, TrainConfig, start, update


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class DoremiResult:
    """What DoReMi found with n seeds over d domains in S steps.

    Attributes:
        domains: names.
        seeds: of the n pairs of a reference model and a proxy model.
        reference: the mixture of the reference models.
        weights: alpha of each step.
        excess: excess losses of each step, nats per token.
        reference_losses, proxy_losses: validation losses after the last step, nats per token.
    """

    domains: tuple[str, ...]
    seeds: tuple[int, ...]
    reference: Float[np.ndarray, " d"]
    weights: Float[np.ndarray, "n S d"]
    excess: Float[np.ndarray, "n S d"]
    reference_losses: Float[np.ndarray, "n d"]
    proxy_losses: Float[np.ndarray, "n d"]

    @property
    def by_seed(self) -> Float[np.ndarray, "n d"]:
        """The mixture of each seed: its mean of alpha over steps."""
        means = self.weights.mean(axis=1)
        return means / means.sum(axis=1, keepdims=True)

    @property
    def proportions(self) -> Float[np.ndarray, " d"]:
        """The mixture: the mean over seeds."""
        return self.by_seed.mean(axis=0)

    @property
    def standard_error(self) -> Float[np.ndarray, " d"]:
        """Of `proportions`, over seeds; NaN where there is one."""
        count = len(self.seeds)
        return self.by_seed.std(axis=0, ddof=1) / count**0.5 if count > 1 else np.full(len(self.domains), np.nan)


def doremi(
    tokens: TokenSource,
    config: SwarmConfig,
    *,
    domains: Sequence[str] = (),
    reference: ArrayLike | None = None,
    seeds: Sequence[int] = (0,),
    step_size: float = 1.0,
    smoothing: float = 1e-3,
    folder: str | Path | None = None,
    mesh: Mesh | None = None,
    watch: Callable[[str], Progress | None] | None = None,
) -> DoremiResult:
    """Find a mixture by distributionally robust training of a small model.

    A reference model is trained on the reference mixture. A proxy model is then trained on batches that have all
    domains alike. With l its loss of a token, l' that of the reference model, and d domains, at each step

        lambda_i = mean over the batch's tokens of domain i of max(l - l', 0)
        alpha_i <- (1 - c) alpha_i exp(eta lambda_i) / sum_j alpha_j exp(eta lambda_j) + c / d
        loss minimized = sum_i alpha_i (mean of l over the batch's tokens of domain i)

    and the mixture is the mean of alpha over steps, which begins at 1 / d. Models, optimizer, batches and measurements
    are those of `train_swarm`; a step takes two forward passes more, and a member holds two networks.

    Differences from the authors' code: there a token's loss is weighed by alpha, so that a domain counts by its tokens
    in the batch; c is 1e-4 by default, and 1e-3 in the paper and here; alpha before the first step counts in the mean;
    a domain of which no batch had a token yet has ln(vocabulary) as its lambda, here 0. A domain that a batch lacks
    keeps its lambda, there and here; what the others weigh then sums to 1.

    Args:
        tokens: training and validation tokens by domain.
        config: what each model does, the reference and the proxy alike; the losses of all domains are measured.
        domains: that are mixed; default: all of the tokens.
        reference: the mixture of the reference model, in the order of the domains; default: natural. Where the
            reference model is trained on a mixture found before, this is iterated DoReMi.
        seeds: of parameters and batches; each makes a pair of models and a mixture, and their mean is the answer.
        step_size: eta.
        smoothing: c.
        folder: where both swarms go, so that the same call goes on there where it was killed; default: nothing is kept.
        mesh: devices, as in `train_swarm`.
        watch: called when the training of the reference models begins, and that of the proxy models; what it returns
            is then called after each call of the training program.

    Returns:
        The mixture, with weights and excess losses of every step. Equal arguments give equal numbers, as in
        `train_swarm`.

    Raises:
        InputError: where an argument is out of range, `train_swarm` refuses it, or a model diverged.
        OSError: where the folder cannot be written.
        Stopped: where a signal has asked for it.

    Example:
        >>> from types import SimpleNamespace
        >>> from bimixjax.proxy import ModelConfig, TrainConfig
        >>> text = {"cycle": np.arange(4000) % 16, "noise": np.random.default_rng(0).integers(0, 16, 4000)}
        >>> tokens = SimpleNamespace(domains=("cycle", "noise"), vocab_size=16, train=text.get, validation=text.get)
        >>> model = ModelConfig(vocab=16, layers=1, width=16, context=16)
        >>> train = TrainConfig(model=model, batch=4, learning_rate=0.0025)
        >>> found = doremi(tokens, SwarmConfig(train=train, steps=60))
        >>> found.weights.shape, bool(found.proportions[0] > 0.7)
        ((1, 60, 2), True)

    Source: Xie et al., arXiv 2305.10429.
    """
    positive("step_size", step_size)
    share("smoothing", smoothing)
    if folder is None and jax.process_count() > 1:
        raise InputError("several processes train together and folder is None; allowed: a folder that all of them see")
    domains, count = tuple(domains or tokens.domains), len(seeds)
    config, watch = dataclasses.replace(config, targets=()), watch or (lambda stage: None)
    natural = mixtures.natural([len(tokens.train(domain)) for domain in domains])
    chosen = natural if reference is None else np.asarray(reference, np.float64)

    def train(name: str, mixture: np.ndarray, place: Path, learner: Learner = MEAN_LOSS) -> tuple[np.ndarray, Any]:
        """Train a model per seed on a mixture; return validation losses and members after the last step."""
        # Ids, of which batches are functions, differ: the proxy would else see what the reference model has seen.
        runs = [f"{name}/seed-{seed}" for seed in seeds]
        design = Design.make(runs, domains, np.tile(mixture, (count, 1)), seeds, where=name)
        stage = watch(f"{count} {name} model{'s' if count > 1 else ''}")
        table = train_swarm(design, tokens, config, place / name, mesh=mesh, progress=stage, learner=learner)
        members = final_members(design, tokens, config, place / name, mesh=mesh, learner=learner)
        return _last_losses(table, domains), members

    with tempfile.TemporaryDirectory() if folder is None else nullcontext(folder) as place:
        losses, members = train("reference", chosen, Path(place))
        settings = {"step_size": step_size, "smoothing": smoothing, "steps": config.steps}
        learner = _ExcessLoss(**settings, mixture=tuple(chosen.tolist()), reference=members.params)
        # Their moments are not needed, and would take memory beside the proxy models.
        del members
        proxy_losses, proxies = train("proxy", mixtures.uniform(len(domains)), Path(place), learner)
    return DoremiResult(
        domains=domains,
        seeds=tuple(seeds),
        reference=chosen,
        weights=whole(proxies.weights)[:count].astype(np.float64),
        excess=whole(proxies.excess)[:count].astype(np.float64),
        reference_losses=losses,
        proxy_losses=proxy_losses,
    )


def _last_losses(table: Path, domains: Sequence[str]) -> Float[np.ndarray, "n d"]:
    """Read the losses of all runs at the last step.

    Raises:
        InputError: where a run diverged.
    """
    found = Observations.read(table)
    for run, status in zip(found.run.tolist(), found.metadata["status"].tolist(), strict=True):
        if status != "ok":
            raise InputError(f"{run} {status}; allowed: training that goes on, such as with a lower learning rate")
    return found.losses[-len(found.runs) :, [found.targets.index(domain) for domain in domains]]


@record
class _Reweighted(Member):
    """A proxy model beside its reference model.

    Attributes:
        reference: parameters of the reference model.
        weights, excess: alpha and lambda of each step; 0 for those to come.
    """

    reference: Any
    weights: Float[Array, "S d"]
    excess: Float[Array, "S d"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class _ExcessLoss(Learner):
    """Training by weights of domains that follow the excess losses; what `reference` holds is no part of the programs.

    Attributes:
        step_size, smoothing: eta and c.
        steps: S.
        mixture: of the reference models.
        reference: their parameters, stacked.
    """

    step_size: float
    smoothing: float
    steps: int
    mixture: tuple[float, ...]
    reference: Any = dataclasses.field(compare=False, repr=False)

    @property
    def settings(self) -> dict[str, Any]:
        named = {"step_size": self.step_size, "smoothing": self.smoothing, "reference": self.mixture}
        return {"doremi": named}

    @property
    def networks(self) -> int:
        return 2

    def start(self, config: TrainConfig, key: Array, domains: int) -> _Reweighted:
        member, blank = start(config, key, domains), jnp.zeros((self.steps, domains))
        return _Reweighted(**vars(member), reference=member.params, weights=blank, excess=blank)

    def begin(self, members: _Reweighted) -> _Reweighted:
        return dataclasses.replace(members, reference=self.reference)

    def learn(
        self,
        config: TrainConfig,
        member: _Reweighted,
        step: Int[Array, ""],
        domains: Int[Array, " B"],
        windows: Int[Array, "B L+1"],
        layout: Layout,
    ) -> tuple[_Reweighted, Bool[Array, ""]]:
        belongs = domains[:, None] == jnp.arange(member.sequences.size)
        count = jnp.sum(belongs, axis=0)
        mean = excess_losses(config, member, windows, layout) @ belongs / jnp.maximum(count, 1)
        # Before the first step, rows at -1 are those of the last step, which are 0 until then.
        excess = jnp.where(count > 0, mean, member.excess[step - 1])
        before = jnp.where(step > 0, member.weights[step - 1], 1 / count.size)
        moved = jax.nn.softmax(jnp.log(before) + self.step_size * excess)
        weights = (1 - self.smoothing) * moved + self.smoothing / count.size
        # Windows of a domain share its weight; those of domains that the batch lacks go to the others.
        each = jnp.where(count > 0, weights, 0) / jnp.maximum(count, 1)
        new, finite = update(config, member, windows, layout, each[domains] / jnp.mean(each[domains]))
        found = {"weights": weights, "excess": excess}
        now = {
            name: jax.lax.dynamic_update_index_in_dim(getattr(member, name), row, step, 0)
            for name, row in found.items()
        }
        return _Reweighted(**vars(new) | now), finite


def excess_losses(
    config: TrainConfig, member: _Reweighted, windows: Int[Array, "B L+1"], layout: Layout
) -> Float[Array, " B"]:
    """Return the mean over each window's tokens of max(l - l', 0), nats per token."""
    size = min(layout.microbatch or len(windows), len(windows))

    def one(part: Int[Array, "b L+1"]) -> Float[Array, " b"]:
        both = (
            token_losses(config.model, params, layout.split_batch(part), layout.passes)
            for params in (member.params, member.reference)
        )
        return jnp.mean(jnp.maximum(jnp.subtract(*both), 0), axis=-1)

    return jax.lax.map(one, windows.reshape(-1, size, windows.shape[1])).reshape(-1)
