"""A swarm: the runs of a design, trained together, measured at given steps, resumable at any moment."""

import dataclasses
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import UInt32

from bimixjax._base import files
from bimixjax._base.checks import InputError
from bimixjax._base.records import write_json
from bimixjax._base.stopping import Stopped, at_boundaries
from bimixjax.proxy import batches, mesh as meshes, storage
from bimixjax.proxy.batches import Resident, Sampler, Streamed, TokenSource, Validation
from bimixjax.proxy.checkpoints import Checkpoints
from bimixjax.proxy.design import Design
from bimixjax.proxy.feed import ResidentFeed, StreamedFeed, make_feed
from bimixjax.proxy.hosts import require_joined
from bimixjax.proxy.memory import Plan, make_plan
from bimixjax.proxy.metrics import Metrics, reporting
from bimixjax.proxy.pace import Pace, Progress
from bimixjax.proxy.programs import Measured, Programs, fill, make_programs, slot_starts
from bimixjax.proxy.repetition import LimitedTokens
from bimixjax.proxy.settings import HOW, SwarmConfig
from bimixjax.proxy.train import MEAN_LOSS, TRAINING, Learner, Member


def train_swarm(
    design: Design,
    tokens: TokenSource,
    config: SwarmConfig,
    folder: str | Path,
    *,
    shard: tuple[int, int] | None = None,
    mesh: Mesh | None = None,
    progress: Progress | None = None,
    learner: Learner = MEAN_LOSS,
) -> Path:
    """Train a proxy model on each mixture of `design` and write the table of their validation losses.

    The same call on the same folder goes on where the last one was killed, and ends in the same table. SIGTERM and
    SIGINT save a checkpoint after the steps at work (of several processes, after the same step) and raise `Stopped`,
    with which a script exits with code 75. A run whose loss is no longer finite has one row with empty losses, whose
    status names the step, and then stops.

    Args:
        design: the runs; those of several models are trained one model after another, each in `folder`/model-<name>.
        tokens: training and validation tokens by domain; see `TokenSource`.
        config: what each run does.
        folder: where table, checkpoints and settings go.
        shard: (i, n): train every n-th run from the i-th on, in `folder`/shard-i-of-n; whichever shard ends last
            gathers the tables of all.
        mesh: devices, see `make_mesh`; default: all, as the settings say.
        progress: called after each call of the training program.
        learner: how members learn from the windows of a step.

    Returns:
        The table, as `Observations.read` reads it: `run, model_size, step, tokens, seed, lr, status, mixture/<domain>,
        loss/<target>` (nats per token), `loss_se/<target>` (over validation windows), `realized/<domain>` (tokens
        trained on), `train_loss` (mean over the steps since the row before, nats per token of the run's own mixture);
        of tokens from `simulate_epochs` also `unique/<domain>`, blank for no limit. A run of several models is there as
        several runs, `<run>/model_size-<parameters>`.

    Raises:
        InputError: where tokens, design and settings do not fit together, the folder holds another swarm, or
            another process is training in it.
        OSError: where the folder cannot be written.
        Stopped: where a signal has asked for it.

    Example:
        >>> import tempfile
        >>> from types import SimpleNamespace
        >>> from bimixjax.proxy import ModelConfig, TrainConfig
        >>> text = {"even": np.arange(0, 4000, 2) % 16, "odd": np.arange(1, 4000, 2) % 16}
        >>> tokens = SimpleNamespace(domains=("even", "odd"), vocab_size=16, train=text.get, validation=text.get)
        >>> model = ModelConfig(vocab=16, layers=1, width=8, context=8)
        >>> config = SwarmConfig(train=TrainConfig(model=model, batch=2), steps=2, eval_steps=(2,), eval_windows=4)
        >>> design = Design.make(["both", "mostly-odd"], tokens.domains, [[0.5, 0.5], [0.1, 0.9]])
        >>> table = train_swarm(design, tokens, config, tempfile.mkdtemp())
        >>> print(*table.read_text().splitlines()[0].split(",")[:9])
        run model_size step tokens seed lr status mixture/even mixture/odd
    """
    files.require_local(folder)
    require_joined()
    whole = Path(folder)
    storage.require_free(whole, shard)
    # Networks are trained in float32, whatever the caller's own arithmetic is.
    with jax.enable_x64(False), at_boundaries() as told:
        place = whole
        if shard is not None:
            design, place = design.shard(*shard), storage.shard_folder(whole, *shard)
        if design.models is None:
            path = _train(design, tokens, config, place, mesh, progress, told, learner)
        else:
            path = _train_models(design, tokens, config, place, mesh, progress, told, learner)
        if shard is not None and storage.all_done(whole, shard[1]):
            path = storage.gather_shards(whole, shard[1])
        if storage.agreed(told()):
            raise Stopped(f"stopped after the last step in {place}, whose table is whole")
    return path


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Swarm:
    """Data, programs and settings, which do not change while a swarm trains."""

    design: Design
    targets: tuple[str, ...]
    config: SwarmConfig
    programs: Programs
    learner: Learner
    feed: ResidentFeed | StreamedFeed
    samplers: Sampler
    validation: Validation
    unique: Mapping[str, int] | None

    @property
    def header(self) -> list[str]:
        domains, targets = self.design.domains, self.targets
        kinds = {"mixture": domains, "loss": targets, "loss_se": targets, "realized": domains}
        kinds |= {} if self.unique is None else {"unique": domains}
        named = [f"{kind}/{name}" for kind, names in kinds.items() for name in names]
        return ["run", "model_size", "step", "tokens", "seed", "lr", "status", *named, "train_loss"]

    def rows(self, step: int, previous: int, measured: Measured) -> list[list[str]]:
        """Return the rows of one step: of runs in training, and of those that stopped after the step `previous`."""
        train, design, rows = self.config.train, self.design, []
        rate = f"{float(train.rate(step - 1)):.9g}"
        trained_losses = np.asarray(measured.trained, np.float64) / (step - previous)
        losses = np.concatenate([measured.losses, measured.errors], axis=1)
        # Tokens of one domain may be more than an int32 holds.
        tokens = np.asarray(measured.sequences, np.int64) * train.model.context
        limits = [] if self.unique is None else [str(self.unique.get(domain, "")) for domain in design.domains]
        for i, stopped in enumerate(np.asarray(measured.stopped).tolist()[: len(design)]):
            if stopped != TRAINING and stopped <= previous:
                continue
            trained = (stopped or step) * train.tokens_per_step
            run = [design.runs[i], *map(str, (train.model.size, step, trained, design.seeds[i])), rate]
            status = f"diverged at step {stopped}" if stopped else "ok"
            mixture = map(repr, design.proportions[i].tolist())
            measurements = ("" if stopped else f"{number:.9g}" for number in losses[i])
            own = "" if stopped else f"{trained_losses[i]:.9g}"
            rows.append([*run, status, *mixture, *measurements, *map(str, tokens[i]), *limits, own])
        return rows

    def advance(
        self, members: Member, first: int, last: int, pace: Pace, told: Callable[[], bool]
    ) -> tuple[Member, int]:
        """Train steps [first, last), in calls of about half a second each; `told`, stop after one, and say where."""
        while first < last and not storage.agreed(told()):
            began = time.perf_counter()
            own, end = self.feed.block(first)
            stop = min(last, first + pace.length, end)
            shared = (self.feed.shared, np.int32(first), np.int32(stop))
            members = self.programs.train(members, self.samplers, own, shared)
            jax.block_until_ready(members.stopped)
            pace.note(first, stop, time.perf_counter() - began)
            first = stop
        return members, first


def _train_models(
    design: Design,
    tokens: TokenSource,
    config: SwarmConfig,
    folder: Path,
    mesh: Mesh | None,
    progress: Progress | None,
    told: Callable[[], bool],
    learner: Learner,
) -> Path:
    """Train the runs of each model in a folder of their own, one model after another, and put their tables together."""
    parts = design.by_model()
    for model, part in parts.items():
        sized = config.of_model(model)
        _train(part, tokens, sized, storage.model_folder(folder, model), mesh, progress, told, learner)
        if storage.agreed(told()) and model != [*parts][-1]:
            raise Stopped(f"stopped after the runs of model {model} in {folder}; the same call goes on there")
    if not storage.writes():
        return folder / storage.OBSERVATIONS
    table = storage.gather(folder, [storage.model_folder(folder, model) for model in parts], design.shared)
    write_json(folder / storage.DONE, {"runs": len(design), "steps": config.steps}, hashed=True)
    return table


def _train(
    design: Design,
    tokens: TokenSource,
    config: SwarmConfig,
    folder: Path,
    mesh: Mesh | None,
    progress: Progress | None,
    told: Callable[[], bool],
    learner: Learner,
) -> Path:
    swarm = _prepare(design, tokens, config, mesh, learner)
    table = folder / storage.OBSERVATIONS
    with storage.held(folder):
        storage.settle(folder, _settings(swarm, tokens))
        if (folder / storage.DONE).exists():
            return table
        report = reporting(folder, config.train, len(design), progress, config.trackers)
        with closing(swarm.feed), report as metrics, closing(Checkpoints(folder, config.keep)) as checkpoints:
            _run(swarm, table, checkpoints, metrics, told)
            metrics.done(config.steps)
        if storage.writes():
            write_json(folder / storage.DONE, {"runs": len(design), "steps": config.steps}, hashed=True)
    return table


def final_members(
    design: Design,
    tokens: TokenSource,
    config: SwarmConfig,
    folder: Path,
    *,
    mesh: Mesh | None = None,
    learner: Learner = MEAN_LOSS,
) -> Any:
    """Return the stacked members of a swarm that `train_swarm` has trained, at its last step, from their checkpoint.

    Raises:
        InputError: where there is no whole checkpoint of that step.
    """
    with jax.enable_x64(False):
        swarm = _prepare(design, tokens, config, mesh, learner)
        with closing(swarm.feed), closing(Checkpoints(folder, config.keep)) as checkpoints:
            step, members = checkpoints.restore(swarm.programs.like) or (0, None)
    if step != config.steps:
        raise InputError(f"{folder}: its last checkpoint is of step {step}; allowed: of the last one, {config.steps}")
    return members


def plan_swarm(design: Design, tokens: TokenSource, config: SwarmConfig, *, mesh: Mesh | None = None) -> Plan:
    """Return how `train_swarm` will cut up its work, and what a device will hold; nothing is computed or written.

    Of a design of several models, the plan of the one that takes most.

    Raises:
        InputError: where tokens, design and settings do not fit together, or the swarm does not fit on the devices.

    Example:
        >>> from types import SimpleNamespace
        >>> text = {"web": np.arange(4000) % 16}
        >>> tokens = SimpleNamespace(domains=("web",), vocab_size=16, train=text.get, validation=text.get)
        >>> plan = plan_swarm(Design.make(["r"], ["web"], [[1.0]]), tokens, SwarmConfig(device_memory=2**30))
        >>> plan.layout.microbatch, plan.total < 2**30
        (16, True)
    """
    mesh = config.mesh() if mesh is None else mesh
    parts = [(config, design)]
    if design.models is not None:
        parts = [(config.of_model(model), part) for model, part in design.by_model().items()]
    plans = []
    for sized, part in parts:
        reader, _, validation = _read(part, tokens, sized)
        plans.append(_plan(part, sized, mesh, reader, validation))
    return max(plans, key=lambda plan: plan.total)


def _read(
    design: Design, tokens: TokenSource, config: SwarmConfig
) -> tuple[Resident | Streamed, UInt32[np.ndarray, " d"], Validation]:
    """Check that design, tokens and settings fit together, and return the reader, its starts and the validation."""
    train, model = config.train, config.train.model
    if tokens.vocab_size > model.vocab:
        raise InputError(f"the model's vocab is {model.vocab}; allowed: at least {tokens.vocab_size}, the tokens'")
    targets = config.targets or design.domains
    validation = batches.make_validation(tokens, targets, context=model.context, windows=config.eval_windows)
    sizes = {"context": model.context, "batch": train.batch, "resident_bytes": config.resident_bytes}
    return *batches.make_reader(tokens, design.domains, **sizes), validation


def _plan(
    design: Design,
    config: SwarmConfig,
    mesh: Mesh,
    reader: Resident | Streamed,
    validation: Validation,
    learner: Learner = MEAN_LOSS,
) -> Plan:
    """Plan the memory of a device: tokens resident there, or two blocks of its members' windows."""
    members = 1 if isinstance(reader, Resident) else 2 * meshes.padded(len(design), mesh) // mesh.shape["member"]
    held: dict[str, Any] = {"tokens": reader.nbytes * members, "networks": learner.networks}
    return make_plan(config.train, mesh, len(design), validation.used.size, wishes=config.wishes, **held)


def _prepare(design: Design, tokens: TokenSource, config: SwarmConfig, mesh: Mesh | None, learner: Learner) -> _Swarm:
    """Lay the data out on the devices."""
    lasting = dataclasses.replace(config.train, schedule=config.train.schedule.over(config.steps))
    config, mesh = dataclasses.replace(config, train=lasting), config.mesh() if mesh is None else mesh
    reader, starts, validation = _read(design, tokens, config)
    slots = meshes.padded(len(design), mesh)
    rows = fill(range(len(design)), slots)
    runs = [design.runs[i] for i in rows]
    samplers = batches.make_samplers(runs, design.seeds[rows].tolist(), design.proportions[rows], starts)
    layout = _plan(design, config, mesh, reader, validation, learner).layout
    return _Swarm(
        design=design,
        targets=config.targets or design.domains,
        config=config,
        programs=make_programs(config.train, reader.read, slots, len(design.domains), layout, learner),
        learner=learner,
        feed=make_feed(reader, samplers, mesh, config.steps),
        samplers=jax.tree.map(lambda leaf: meshes.place(leaf, meshes.on_members(mesh)), samplers),
        validation=jax.tree.map(lambda leaf: meshes.place(leaf, meshes.replicated(mesh)), validation),
        unique=tokens.unique if isinstance(tokens, LimitedTokens) else None,
    )


def _settings(swarm: _Swarm, tokens: TokenSource) -> dict[str, Any]:
    """Return the settings in which two calls must agree to be the same swarm; those in `HOW` are left out."""
    config = dataclasses.asdict(swarm.config) | {"eval_steps": swarm.config.measured, "targets": swarm.targets}
    design = swarm.design
    mixtures = zip(design.runs, design.seeds.tolist(), design.proportions.tolist(), strict=True)
    return {
        "config": {name: value for name, value in config.items() if name not in HOW},
        "domains": design.domains,
        "runs": {run: {"seed": seed, "mixture": mixture} for run, seed, mixture in mixtures},
        "tokens": batches.fingerprint(tokens, tuple(dict.fromkeys([*design.domains, *swarm.targets]))),
        **swarm.learner.settings,
    }


def _run(swarm: _Swarm, table: Path, checkpoints: Checkpoints, metrics: Metrics, told: Callable[[], bool]) -> None:
    """Train from the newest checkpoint to the end; each stop's rows are on the disk before its checkpoint begins."""
    config, programs = swarm.config, swarm.programs
    slots = slot_starts(swarm.design.seeds.tolist(), len(swarm.samplers.key))
    saved, members = checkpoints.restore(programs.like) or (0, swarm.learner.begin(programs.start(slots, None)))
    storage.begin_table(table, swarm.header, saved)
    metrics.begun(saved, config.steps)
    pace = Pace(config.steps, config.train.tokens_per_step * len(swarm.design), metrics.progress)
    previous = max((at for at in config.measured if at <= saved), default=0)
    stops = {*config.measured, *range(0, config.steps, config.checkpoint_every), config.steps} - {0}
    for stop in sorted(stops):
        if stop <= saved:
            continue
        members, step = swarm.advance(members, saved, stop, pace, told)
        if step in config.measured and step > saved:
            members, measured = programs.meter(members, (swarm.validation, np.int32(step)))
            storage.append_rows(table, swarm.rows(step, previous, measured))
            metrics.measured(step, measured, previous)
            previous = step
        if step > saved:
            checkpoints.save(step, members)
            saved = step
        if step < stop:
            metrics.say("stopped", step)
            where = f"at step {step:,} of {config.steps:,}, which is saved in {table.parent}"
            raise Stopped(f"stopped {where if step else 'before the first step'}; the same call goes on there")
