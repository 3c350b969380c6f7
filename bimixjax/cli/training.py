"""The subcommands of `bimix` that lead from a design to observations, and the one that does it all."""

import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional, arg

from bimixjax._base.checks import InputError
from bimixjax.cli import console, progress
from bimixjax.cli.console import Answer, FolderCommand
from bimixjax.cli.limits import Epochs, Groups, Limited, Near
from bimixjax.cli.models import Trained
from bimixjax.cli.options import Counts, Names, Number, Numbers, Stock, Whole, inventory, names, wholes
from bimixjax.cli.reporting import named_mixtures

if TYPE_CHECKING:
    from bimixjax.corpus import TokenStore
    from bimixjax.loop.rounds import Rounds
    from bimixjax.observations import Inventory
    from bimixjax.optimization import Limits
    from bimixjax.proxy import LimitedTokens, SwarmConfig

# Options that a job has of its own, or that print it.
NOT_OF_A_JOB = ("config", "json", "shard", "status", "print_job")
# In place of the file of a design.
PLANNED = Path("plan")
# Options of `Limited`.
LIMITS = ("lower", "upper", "fixed", "group", "max_epochs", "near")


@dataclass(frozen=True, kw_only=True)
class Swarm(FolderCommand, Trained):
    """Train a small model on each mixture of a design, or in rounds; the same command goes on where it was killed.

    Example: bimix swarm design.csv corpus proxies --steps 500
    """

    design: Annotated[Positional[Path | None], arg(metavar="DESIGN|plan", help_behavior_hint="")] = None
    """A table of runs (.csv): run, seed, mixture/<domain>, and model where it holds several sizes; as `bimix design` or
    `bimix plan` makes one. The word plan with --rounds: the first round is planned from nothing."""
    store: Annotated[Positional[Path | None], arg(metavar="STORE", help_behavior_hint="")] = None
    """A token store, as `bimix corpus` makes one."""
    folder: Annotated[Positional[Path | None], arg(metavar="FOLDER", help_behavior_hint="")] = None  # pyright: ignore
    """Where observations.csv and the checkpoints go."""
    targets: Names = ()
    """Domains of the token store whose validation loss is measured. Default: those of the design."""
    eval_steps: Counts = ()
    """Steps at which losses are measured. Default: eight, from a sixteenth of the steps on."""
    simulate_epochs: Number = None
    """Repeat each domain as often as a real run of so many tokens will: it is drawn from its first tokens, as many as
    its unique tokens in --inventory times the tokens of a run here over those."""
    inventory: Stock = ()
    """For --simulate-epochs, and the natural mixture and epochs of --rounds: unique tokens of the domains in the real
    run, or a file of them (domain,tokens)."""
    process: Annotated[str | None, arg(metavar="I/N", help_behavior_hint="")] = None
    """Train together with other processes: this is the I-th of N (I from 0). SLURM, Open MPI and TPU pods say it
    themselves; alone: train without the others nevertheless; auto: let JAX find them."""
    coordinator: Annotated[str | None, arg(metavar="HOST:PORT", help_behavior_hint="")] = None
    """With --process I/N: where process 0 listens; the same for all."""
    shard: Annotated[str | None, arg(metavar="I/N|auto|auto/N", help_behavior_hint="")] = None
    """Train every N-th run from the I-th on (I from 0); the shard that ends last puts the tables together. auto: I and
    N of the array of SLURM, Kubernetes (auto/N) or SkyPilot that this process is in, or of BIMIX_SHARD=I/N."""
    status: Annotated[Path | None, arg(metavar="FOLDER", help_behavior_hint="")] = None
    """Train nothing; show how far the swarm in this folder is."""
    print_job: Annotated[
        Literal["slurm", "k8s", "xpk", "skypilot"] | None, arg(metavar="KIND", help_behavior_hint="")
    ] = None
    """Train nothing; print a file for slurm, k8s, xpk or skypilot that runs this command, a worker for each of the N
    shards of --shard auto/N."""
    rounds: Annotated[Whole, arg(metavar="NUMBER")] = 0
    """Train in so many rounds: the design, then runs that are planned from what all before have lost."""
    per_round: Annotated[Whole, arg(metavar="NUMBER")] = 4
    """For --rounds: runs of a planned round. Planned from nothing, its last run has the natural mixture."""
    lower: Numbers = ()
    """For --rounds: least shares of domains."""
    upper: Numbers = ()
    """For --rounds: greatest shares of domains."""
    fixed: Numbers = ()
    """For --rounds: shares of domains that are given."""
    group: Groups = ()
    """For --rounds: a sum of shares, such as web=cc+c4:0.7 or web=cc+c4:0.2..0.7. May be repeated."""
    max_epochs: Epochs = ()
    """For --rounds: how often the unique tokens of --inventory, or of the store, may be repeated."""
    near: Near = ()
    """For --rounds: stay within so many nats of KL divergence from a mixture: natural:0.1."""
    train_tokens: Number = None
    """For --max-epochs: tokens of the training that repeats. Default: those of --simulate-epochs, else of a run."""
    law: Annotated[str | None, arg(metavar="NAME", help_behavior_hint="")] = None
    """For --rounds: fit this law to all runs in the end, such as auto, and find the best mixture within the limits at
    the scale of the runs; fit.json and mixture.json go into the folder."""

    @property
    def options_file(self) -> Path | None:
        """In the folder, where something is trained."""
        return None if self.status or self.print_job else super().options_file

    def inputs(self) -> Iterable[Path]:
        """Return the design and the token store, where something is trained."""
        return () if self.status or self.print_job else super().inputs()

    def work(self) -> Answer:
        """Train, and show the last losses; or say how far others are, or how to start them."""
        from bimixjax import proxy

        if self.status:
            return self.how_far(self.status)
        design, store, folder = self.design, self.store, self.folder
        if design is None or store is None or folder is None:
            raise InputError("bimix swarm takes DESIGN STORE FOLDER, or --status FOLDER")
        if self.print_job:
            return self.printed_job()
        proxy.join(self.process, self.coordinator)
        if self.rounds:
            return self.in_rounds(design, store, folder)
        if design == PLANNED or self.train_tokens or self.law or any(getattr(self, name) for name in LIMITS):
            raise InputError("limits, --law and the word plan in place of a design go with --rounds NUMBER")
        return self.trained(design, store, folder)

    def trained(self, place: Path, store_place: Path, folder: Path) -> Answer:
        """Train, and show the last losses and the speed."""
        from bimixjax import corpus, proxy
        from bimixjax._base.records import read_json
        from bimixjax.observations import Observations
        from bimixjax.proxy.cost import design_flops
        from bimixjax.proxy.layout import SPEED
        from bimixjax.reports import corpora

        store, design = corpus.TokenStore.open(store_place), proxy.Design.read(place)
        config, shard = self.swarm_config(store.vocab_size), self.own_shard()
        tokens = self.tokens(store, config)
        flops = float(design_flops(design, config).sum())
        progress.note(str(proxy.plan_swarm(design.shard(*shard) if shard else design, tokens, config)))
        if isinstance(tokens, proxy.LimitedTokens):
            kept = ", ".join(f"{count:,} of {name}" for name, count in tokens.unique.items())
            progress.note(f"tokens to repeat: the first {kept}")
        with progress.shown() as watch:
            stage = watch(f"swarm of {len(design)} runs")
            table = proxy.train_swarm(design, tokens, config, folder, shard=shard, progress=stage)
        observations = Observations.read(table)
        document = {"observations": str(table), "runs": observations.runs, "steps": self.steps, "flops": flops}
        diverged = observations.metadata["status"].ne("ok").sum() == len(observations.runs)
        speed = table.parent / SPEED
        document["speed"] = found = read_json(speed) if speed.exists() else None
        said = [] if found is None else [corpora.speed(found)]
        cost = f"Cost of the design: {flops:.3g} floating-point operations"
        document["bits_per_byte"] = corpora.bits_per_byte(observations, store.bytes_per_token) or None
        screen = [corpora.swarm(observations, store.bytes_per_token), cost, *said, f"Table: {table}"]
        return Answer(document=document, screen=screen, failed=bool(diverged))

    def own_shard(self) -> tuple[int, int] | None:
        """Return the shard to train, which may be that of a scheduler's array."""
        from bimixjax.proxy import fleet

        if self.shard is None:
            return None
        word, _, count = self.shard.partition("/")
        if word != "auto":
            return fleet.parse_shard(self.shard)
        return fleet.shard_of(os.environ, self.shard_count() if count else None)

    def shard_count(self) -> int:
        """Return N of --shard auto/N."""
        count = (self.shard or "").removeprefix("auto/")
        if not count.isdecimal() or int(count) < 1:
            given = "not given" if self.shard is None else repr(self.shard)
            raise InputError(f"--shard is {given}; allowed here: auto/N, such as auto/8 for 8 workers")
        return int(count)

    def how_far(self, folder: Path) -> Answer:
        """Show how far each part of a swarm is."""
        from bimixjax.proxy import fleet
        from bimixjax.reports import corpora

        parts = fleet.status(folder)
        return Answer(document={"parts": parts}, screen=[corpora.status(str(folder), parts)])

    def printed_job(self) -> Answer:
        """Print the file that trains all shards of this swarm."""
        from bimixjax.cli import jobs

        if self.rounds:
            raise InputError("--rounds trains the runs of a round together; leave --print-job out")
        command = ["bimix", "swarm", *console.arguments(self, NOT_OF_A_JOB)]
        text = jobs.job(str(self.print_job), command, self.shard_count())
        return Answer(document={"job": text}, file=text)

    def tokens(self, store: "TokenStore", config: "SwarmConfig") -> "TokenStore | LimitedTokens":
        """Return the tokens to train on: all of the store, or as few as make the epochs of the real run."""
        from bimixjax.proxy import simulate_epochs

        stock = inventory(self.inventory)
        if self.simulate_epochs is None and (stock is None or self.rounds):
            return store
        if stock is None or self.simulate_epochs is None:
            raise InputError("--simulate-epochs TOKENS and --inventory go together: epochs follow from both")
        own = config.steps * config.train.tokens_per_step
        window = config.train.model.context + 1
        return simulate_epochs(store, stock, train_tokens=self.simulate_epochs, proxy_tokens=own, window=window)

    def in_rounds(self, design: Path, store_place: Path, folder: Path) -> Answer:
        """Plan and train by turns, and show what each round brought and the last losses."""
        from bimixjax import corpus, proxy
        from bimixjax.laws import law_named
        from bimixjax.loop.rounds import RoundsConfig, run_rounds
        from bimixjax.observations import Inventory
        from bimixjax.reports import corpora, plans

        if self.shard:
            raise InputError("--rounds trains the runs of a round together; leave --shard out")
        if self.law not in (None, "auto"):
            law_named(self.law, "--law", also=("auto",))
        store = corpus.TokenStore.open(store_place)
        first = None if design == PLANNED else proxy.Design.read(design)
        swarm, stock = self.swarm_config(store.vocab_size), inventory(self.inventory)
        stock = stock or Inventory(dict(zip(store.domains, store.tokens.tolist(), strict=True)))
        limits = Limited(**{name: getattr(self, name) for name in LIMITS}).limits(named_mixtures(store.domains, stock))
        if self.max_epochs:
            own = float(swarm.steps * swarm.train.tokens_per_step)
            limits = replace(limits, train_tokens=self.train_tokens or self.simulate_epochs or own)
        config = RoundsConfig(per_round=self.per_round, limits=limits, inventory=stock, swarm=swarm)
        tokens = self.tokens(store, swarm)
        with progress.shown() as watch:
            found = run_rounds(folder, tokens, config, rounds=self.rounds, first=first, watch=watch)
        losses = corpora.swarm(found.observations, store.bytes_per_token)
        screen = [*plans.rounds(found), losses, f"Table: {found.table}"]
        answer = Answer(document=plans.rounds_document(found), screen=screen)
        return self.decided(found, limits, stock, answer) if self.law else answer

    def decided(self, found: "Rounds", limits: "Limits", stock: "Inventory", before: Answer) -> Answer:
        """Add the best mixture by a law that is fitted to all runs, at their own scale."""
        from bimixjax.loop.decision import Question, decide
        from bimixjax.observations import Inventory
        from bimixjax.reports import documents, tables, worth
        from bimixjax.reports.html.decision import predictions

        if self.simulate_epochs is not None:
            # A run has gone through as many epochs of what it had as the real one will: its scale counts them alike.
            stock, limits = Inventory.read(found.table), replace(limits, train_tokens=None)
        asked = Question(limits=limits, inventory=stock, draws=0, left_out=0, runs=0)
        decision = decide(str(self.law), found.observations, asked)
        best, beside = decision.best, predictions(decision)
        decision.fit.save(found.table.parent / "fit.json")
        best.save(found.table.parent / "mixture.json")
        screen = [*before.screen, tables.proportions(best, beside), tables.certificate(best)]
        screen += worth.worth(decision.worth)
        document = {**before.document, "optimum": documents.optimum(best, beside)}
        return Answer(document=document, screen=screen, failed=not best.converged)

    def swarm_config(self, vocab_size: int) -> "SwarmConfig":
        """Return what each run does."""
        measured = wholes("eval-steps", self.eval_steps)
        return self.settings(vocab_size, eval_steps=measured, targets=names(self.targets))


@dataclass(frozen=True, kw_only=True)
class Demo(FolderCommand):
    """Do it all on a small scale: from a corpus to a law, to a better mixture, to a measured proof.

    Example: bimix demo my-demo
    """

    folder: Annotated[Positional[Path], arg(metavar="FOLDER")] = Path("bimix-demo")
    """Where everything goes; the same command goes on where it was killed."""
    steps: Annotated[Whole, arg(metavar="NUMBER")] = 700
    """Optimizer steps of each run."""
    law: Annotated[str, arg(metavar="NAME")] = "auto"
    """The law to fit, or auto: an average of several. `bimix fit --help` lists all."""

    def work(self) -> Answer:
        """Run the loop, and write the report."""
        from bimixjax.loop import workflow
        from bimixjax.reports import loop, page
        from bimixjax.reports.html import whole_loop

        config = workflow.LoopConfig(law=self.law, swarm=workflow.small_swarm(self.steps))
        with progress.shown() as watch:
            result = workflow.run_loop(self.folder, config, watch=watch)
            watch("report")
            page.write(result, self.folder)
            report = whole_loop.write(result, self.folder)
        screen = [*loop.screen(result), "", f"Report: {report}"]
        return Answer(document=loop.document(result), screen=screen, failed=not result.best.converged)
