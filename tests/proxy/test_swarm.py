import dataclasses
import json
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bimixjax import Observations
from bimixjax._base.checks import InputError
from bimixjax._base.stopping import STOPPED, Stopped, at_boundaries
from bimixjax.proxy import Design, SwarmConfig, geometric_steps, make_mesh, storage, swarm, train_swarm
from bimixjax.proxy.model import PRESETS

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory, design: Design, tokens: Any, config: SwarmConfig) -> Path:
    folder = tmp_path_factory.mktemp("swarm")
    return train_swarm(design, tokens, config, folder, mesh=one_device())


def one_device() -> Any:
    return make_mesh(devices=jax.devices()[:1])


def test_the_table_holds_what_the_design_and_settings_say(table: Path, design: Design, config: SwarmConfig) -> None:
    found = Observations.read(table)
    assert found.runs == design.runs
    assert found.domains == found.own_targets == design.domains
    assert found.notes == ()
    assert len(found) == 9
    assert found.model_sizes == (config.train.model.size,)
    assert found.step is not None
    assert found.tokens is not None
    assert found.seed is not None
    assert found.step.tolist() == [6] * 3 + [12] * 3 + [24] * 3
    assert (found.tokens == 64 * found.step).all()
    assert found.seed.tolist() == design.seeds.tolist() * 3
    np.testing.assert_array_equal(found.proportions, np.tile(design.proportions, (3, 1)))
    metadata = found.metadata
    assert set(metadata["status"]) == {"ok"}
    assert metadata["lr"].tolist() == pytest.approx([0.01] * 9, rel=1e-6)
    errors = metadata[[f"loss_se/{name}" for name in design.domains]].to_numpy()
    assert ((errors > 0) & (errors < 0.3)).all()
    realized = metadata[[f"realized/{name}" for name in design.domains]].to_numpy()
    assert (realized.sum(axis=1) == found.tokens).all()
    assert np.abs(realized - found.tokens[:, None] * found.proportions).max() <= 3 * 16


def test_reports_and_speed_lie_beside_the_table(table: Path, config: SwarmConfig) -> None:
    found = Observations.read(table)
    reports = [json.loads(line) for line in (table.parent / "metrics.jsonl").read_text().splitlines()]
    events = [report["event"] for report in reports]
    assert (events[0], events[-1]) == ("begun", "done")
    assert [report["step"] for report in reports if report["event"] == "measured"] == [6, 12, 24]
    measured = [report for report in reports if report["event"] == "measured"][-1]
    assert measured["loss"] == pytest.approx(found.losses[-3:].mean(), rel=1e-6)
    assert measured["train_loss"] == pytest.approx(found.metadata["train_loss"][-3:].mean(), rel=1e-6)
    speed = json.loads((table.parent / "speed.json").read_text())
    assert (speed["parameters"], speed["runs"], speed["utilization"]) == (config.train.model.size, 3, None)
    # No time where another test has had the same programs compiled.
    assert 0 <= speed["compile_seconds"] <= speed["seconds"]
    assert speed["tokens_per_second"] > 0
    assert speed["peak_host_bytes"] > 1e7


def test_losses_fall_and_more_of_a_domain_helps_it(tmp_path: Path, tokens: Any, config: SwarmConfig) -> None:
    shares = [0.0, 0.1, 0.5, 0.9]
    design = Design.make([f"r{share}" for share in shares], ["a", "b"], [[share, 1 - share] for share in shares])
    config = dataclasses.replace(config, steps=120, eval_steps=(20, 120))
    found = Observations.read(train_swarm(design, tokens, config, tmp_path, mesh=one_device()))
    early, late = found.losses[:4], found.losses[4:]
    assert (late[1:, 0] < early[1:, 0] - 0.1).all()
    assert (np.diff(late[:, 0]) < 0).all()
    assert (np.diff(late[:, 1]) > 0).all()


def test_devices_change_losses_by_rounding_only(
    tmp_path: Path, table: Path, design: Design, tokens: Any, config: SwarmConfig
) -> None:
    many = Observations.read(train_swarm(design, tokens, config, tmp_path))
    one = Observations.read(table)
    np.testing.assert_allclose(many.losses, one.losses, rtol=0, atol=1e-5)
    columns = [f"realized/{name}" for name in design.domains]
    np.testing.assert_array_equal(many.metadata[columns], one.metadata[columns])


@pytest.mark.parametrize("devices", [(8, 1), (1, 8), (8, 4, 1)])
def test_a_swarm_goes_on_with_other_devices_whatever_slots_they_have(
    tmp_path: Path, table: Path, design: Design, tokens: Any, config: SwarmConfig, devices: tuple[int, ...]
) -> None:
    """Three runs have 8 slots on 8 devices, 4 on 4, and 3 on one."""
    # The last training is not stopped.
    for count, end in zip(devices, (*range(5, 20, 8), None)[-len(devices) :], strict=True):

        def stop(step: int, *_: float, end: int | None = end) -> None:
            if end is not None and step >= end:
                signal.raise_signal(signal.SIGTERM)

        with nullcontext() if end is None else pytest.raises(Stopped):
            train_swarm(design, tokens, config, tmp_path, mesh=make_mesh(devices=jax.devices()[:count]), progress=stop)
    found, expected = Observations.read(tmp_path / "observations.csv"), Observations.read(table)
    np.testing.assert_allclose(found.losses, expected.losses, rtol=0, atol=1e-5)
    columns = [f"realized/{name}" for name in design.domains]
    np.testing.assert_array_equal(found.metadata[columns], expected.metadata[columns])


def test_the_callers_precision_changes_nothing(
    tmp_path: Path, table: Path, design: Design, tokens: Any, config: SwarmConfig
) -> None:
    with jax.enable_x64(True):
        path = train_swarm(design, tokens, config, tmp_path, mesh=one_device())
        assert jnp.ones(1).dtype == jnp.float64
    assert path.read_text() == table.read_text()


def test_tokens_read_by_the_host_give_the_same_losses(
    tmp_path: Path, table: Path, design: Design, tokens: Any, config: SwarmConfig
) -> None:
    config = dataclasses.replace(config, resident_bytes=0)
    path = train_swarm(design, tokens, config, tmp_path, mesh=one_device())
    np.testing.assert_allclose(Observations.read(path).losses, Observations.read(table).losses, rtol=0, atol=1e-5)


def test_shards_give_the_table_of_the_whole(
    tmp_path: Path, table: Path, design: Design, tokens: Any, config: SwarmConfig
) -> None:
    first = train_swarm(design, tokens, config, tmp_path, shard=(0, 2), mesh=one_device())
    assert first.parent.name == "shard-0-of-2"
    assert Observations.read(first).runs == ("even", "no-a")
    assert not (tmp_path / "observations.csv").exists()
    gathered = Observations.read(train_swarm(design, tokens, config, tmp_path, shard=(1, 2), mesh=one_device()))
    whole = Observations.read(table)
    for run in design.runs:
        rows = [one.losses[one.run == run] for one in (gathered, whole)]
        np.testing.assert_allclose(*rows, rtol=0, atol=1e-5)


@pytest.fixture
def two_sizes(monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """Presets of the model of these tests, and of a narrower one."""
    monkeypatch.setitem(PRESETS, "own", (1, 16, 2))
    monkeypatch.setitem(PRESETS, "narrow", (1, 8, 2))
    return "own", "narrow"


def test_a_design_of_several_models_has_a_row_per_run_size_and_step(
    tmp_path: Path, table: Path, design: Design, tokens: Any, config: SwarmConfig, two_sizes: tuple[str, str]
) -> None:
    """The runs of a model are trained as if they were alone, and some shards of such a design have both."""
    sized = design.of_models(two_sizes)
    for index in range(2):
        train_swarm(sized, tokens, config, tmp_path, shard=(index, 2), mesh=one_device())
    found, alone = Observations.read(tmp_path / "observations.csv"), Observations.read(table)
    narrow, own = found.model_sizes
    assert (own, len(found), len(found.runs)) == (config.train.model.size, 18, 6)
    for run in design.runs:
        same = found.losses[found.run == f"{run}/model_size-{own:.0f}"]
        np.testing.assert_allclose(same, alone.losses[alone.run == run], atol=1e-5)
    # Other runs can be trained as these were.
    folder = tmp_path / "shard-0-of-2"
    again = SwarmConfig.read(folder, own)
    assert (again.train, again.steps, again.measured) == (config.train, config.steps, config.measured)
    with pytest.raises(InputError, match="say which"):
        SwarmConfig.read(folder)
    with pytest.raises(InputError, match=r"no swarm\.json of a swarm"):
        SwarmConfig.read(tmp_path)
    part = Observations.read(folder / "model-narrow" / "observations.csv")
    assert set(Observations.concat(alone, part).run) <= {*found.run, *design.runs}
    assert f"{part.run[0]}/model_size-{narrow:.0f}" in Observations.concat(alone, part).runs


def test_a_finished_folder_is_not_trained_again(table: Path, design: Design, tokens: Any, config: SwarmConfig) -> None:
    """The callback, which follows each call of the training program, is never called."""

    def progress(*_: float) -> None:
        pytest.fail("trained again")

    before = table.read_bytes(), table.stat().st_mtime_ns
    assert train_swarm(design, tokens, config, table.parent, mesh=one_device(), progress=progress) == table
    assert (table.read_bytes(), table.stat().st_mtime_ns) == before


@pytest.mark.parametrize(
    ("there", "shard", "words"),
    [
        ("shard-0-of-4", (0, 2), "a swarm of 4 shards, this call has 2 shards"),
        ("shard-0-of-2", None, "a swarm of 2 shards, this call has no shards"),
        ("swarm.json", (0, 2), "a swarm of no shards, this call has 2 shards"),
        ("model-1m/swarm.json", (1, 2), "a swarm of no shards, this call has 2 shards"),
        ("store.json", None, "is a token store"),
    ],
)
def test_a_folder_in_which_runs_would_be_trained_again_is_refused(
    design: Design, tokens: Any, config: SwarmConfig, tmp_path: Path, there: str, shard: Any, words: str
) -> None:
    (tmp_path / there).parent.mkdir(exist_ok=True)
    (tmp_path / there).touch()
    with pytest.raises(InputError, match=words):
        train_swarm(design, tokens, config, tmp_path, shard=shard)


def test_a_folder_of_another_swarm_is_refused(table: Path, design: Design, tokens: Any, config: SwarmConfig) -> None:
    before = table.read_text()
    other = dataclasses.replace(config, train=dataclasses.replace(config.train, learning_rate=0.5))
    with pytest.raises(InputError, match="another swarm: config.train.learning_rate is 0.5, there 0.01;"):
        train_swarm(design, tokens, other, table.parent, mesh=one_device())
    changed = dataclasses.replace(tokens, held_out={**tokens.held_out, "a": tokens.held_out["b"]})
    with pytest.raises(InputError, match="another swarm: other tokens of a; allowed"):
        train_swarm(design, changed, config, table.parent, mesh=one_device())
    reseeded = Design.make(design.runs, design.domains, design.proportions, [0, 7, 0])
    with pytest.raises(InputError, match="another swarm: runs.mostly-a.seed is 7, there 1"):
        train_swarm(reseeded, tokens, config, table.parent, mesh=one_device())
    assert table.read_text() == before


def test_how_a_swarm_is_computed_may_change(table: Path, design: Design, tokens: Any, config: SwarmConfig) -> None:
    other = dataclasses.replace(config, stack=2, checkpoint_every=5, keep=1)
    assert train_swarm(design, tokens, other, table.parent, mesh=one_device()) == table


def test_a_run_that_diverges_is_recorded_and_stops_alone(
    tmp_path: Path, table: Path, design: Design, tokens: Any, config: SwarmConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = swarm.make_programs

    def poisoned(*arguments: Any) -> Any:
        programs = make(*arguments)

        def start(*given: Any) -> Any:
            members = programs.start(*given)
            params = jax.tree.map(lambda leaf: leaf.at[1].set(jnp.nan), members.params)
            return dataclasses.replace(members, params=params)

        return dataclasses.replace(programs, start=start)

    monkeypatch.setattr(swarm, "make_programs", poisoned)
    path = train_swarm(design, tokens, config, tmp_path, mesh=one_device())
    ill = Observations.read(path)
    lines, well = path.read_text().splitlines(), table.read_text().splitlines()
    assert [line for line in lines if "mostly-a" not in line] == [line for line in well if "mostly-a" not in line]
    assert ill.run.tolist().count("mostly-a") == 1
    row = ill.run.tolist().index("mostly-a")
    assert ill.metadata["status"].tolist()[row] == "diverged at step 1"
    assert np.isnan(ill.losses[row]).all()
    assert ill.step is not None
    assert ill.step[row] == 6


def test_more_targets_than_domains_may_be_measured(tmp_path: Path, tokens: Any, config: SwarmConfig) -> None:
    design = Design.make(["r"], ["b"], [[1.0]])
    config = dataclasses.replace(config, targets=("b", "c"))
    found = Observations.read(train_swarm(design, tokens, config, tmp_path, mesh=one_device()))
    assert (found.domains, found.targets) == (("b",), ("b", "c"))
    assert found.losses[-1, 0] < found.losses[-1, 1]


def test_progress_is_told(tmp_path: Path, design: Design, tokens: Any, config: SwarmConfig) -> None:
    told: list[tuple[float, ...]] = []
    train_swarm(design, tokens, config, tmp_path, mesh=one_device(), progress=lambda *numbers: told.append(numbers))
    steps = [step for step, *_ in told]
    assert steps == sorted(set(steps))
    assert steps[-1] == 24
    assert {6, 9, 12, 18} <= set(steps)
    assert all(total == 24 and speed > 0 and left >= 0 for _, total, speed, left in told)
    assert told[-1][-1] == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 0}, "steps is 0"),
        ({"eval_steps": (5, 25)}, "eval_steps has 25; allowed: 1 to 24"),
        ({"eval_windows": 1}, "eval_windows is 1"),
        ({"stack": 0}, "stack is 0"),
    ],
)
def test_impossible_settings_are_errors(config: SwarmConfig, change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        dataclasses.replace(config, **change)


def test_a_vocabulary_that_is_too_small_is_an_error(
    tmp_path: Path, design: Design, tokens: Any, config: SwarmConfig
) -> None:
    wide = dataclasses.replace(tokens, vocab_size=17)
    with pytest.raises(InputError, match="the model's vocab is 16; allowed: at least 17"):
        train_swarm(design, wide, config, tmp_path)
    assert not list(tmp_path.iterdir())


def test_steps_to_measure_are_spread_in_their_logarithm() -> None:
    steps = geometric_steps(1600)
    assert (steps[0], steps[-1], len(steps)) == (100, 1600, 8)
    ratios = np.array(steps[1:]) / np.array(steps[:-1])
    np.testing.assert_allclose(ratios, 16 ** (1 / 7), rtol=0.01)
    assert geometric_steps(1) == (1,)


SCRIPT = """
import sys
from types import SimpleNamespace
import numpy as np
from bimixjax.proxy.model import PRESETS
from bimixjax.proxy import Design, ModelConfig, SwarmConfig, TrainConfig, train_swarm

random = np.random.default_rng(0)
words = {name: random.integers(0, 16, 3).repeat(2000) + random.integers(0, 4, 6000) for name in "ab"}
tokens = SimpleNamespace(domains=("a", "b"), vocab_size=32, train=words.get, validation=words.get)
design = Design.make(["even", "mostly-a", "only-b"], "ab", [[0.5, 0.5], [0.9, 0.1], [0, 1]], [0, 0, 1])
train = TrainConfig(model=ModelConfig(vocab=32, layers=1, width=16, context=16), batch=16, base_width=None)
config = SwarmConfig(train=train, steps=1000, eval_steps=range(50, 1001, 50), eval_windows=8, checkpoint_every=40)
train_swarm(design, tokens, config, sys.argv[1])
"""


def begin(folder: Path) -> subprocess.Popen[str]:
    """Start the swarm of the script in its own process."""
    return subprocess.Popen([sys.executable, "-c", SCRIPT, str(folder)], cwd=ROOT, stderr=subprocess.PIPE, text=True)


def ends_well(process: subprocess.Popen[str]) -> None:
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors


def ended_at_random(table: Path, number: signal.Signals, moment: float) -> subprocess.Popen[str]:
    """Start the swarm, and send it a signal so many seconds after it has begun to write anew."""
    process = begin(table.parent)
    before = table.stat().st_size if table.exists() else 0
    while process.poll() is None and not (table.exists() and table.stat().st_size > before + 1000):
        time.sleep(0.001)
    time.sleep(moment)
    process.send_signal(number)
    process.communicate(timeout=120)
    return process


@pytest.mark.slow
@pytest.mark.parametrize("moments", [1, pytest.param(20, marks=pytest.mark.exhaustive)])
def test_ending_at_any_moment_changes_no_number(tmp_path: Path, moments: int) -> None:
    """By SIGKILL and by SIGTERM, in turns; some fall on a write, some between."""
    ends_well(begin(tmp_path / "whole"))
    whole = (tmp_path / "whole" / "observations.csv").read_bytes()
    table, random, round_number = tmp_path / "ended" / "observations.csv", np.random.default_rng(0), 0
    for number in [signal.SIGKILL, signal.SIGTERM] * moments:
        if (table.parent / "done.json").exists():
            assert table.read_bytes() == whole
            table, round_number = tmp_path / f"ended-{round_number}" / "observations.csv", round_number + 1
        process = ended_at_random(table, number, random.uniform(0, 0.15))
        # It may have come to its end before.
        own = {0} if (table.parent / "done.json").exists() else set()
        assert process.returncode in {STOPPED if number == signal.SIGTERM else -signal.SIGKILL} | own
        kept = table.read_bytes()
        assert whole.startswith(kept[: kept.rfind(b"\n") + 1])
    ends_well(begin(table.parent))
    assert table.read_bytes() == whole


def test_a_signal_stops_between_two_calls_and_is_not_lost_at_the_end(
    tmp_path: Path, design: Design, tokens: Any, config: SwarmConfig, table: Path
) -> None:
    def progress(step: int, *_: float) -> None:
        if step in (7, 24):
            signal.raise_signal(signal.SIGTERM)

    here = {"mesh": one_device(), "progress": progress}
    handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    config = dataclasses.replace(config, eval_steps=(6, 7, 12, 24))
    with pytest.raises(Stopped, match=r"stopped at step 7 of 24, which is saved in .*; the same call goes on there"):
        train_swarm(design, tokens, config, tmp_path, **here)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["6", "7"]
    with pytest.raises(Stopped, match="after the last step"):
        train_swarm(design, tokens, config, tmp_path, **here)
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == handlers
    found, whole = Observations.read(tmp_path / "observations.csv"), Observations.read(table)
    assert found.step is not None
    np.testing.assert_array_equal(found.losses[found.step != 7], whole.losses)


def test_a_second_interrupt_does_not_wait() -> None:
    with at_boundaries() as asked:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)
        assert asked()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_two_workers_never_train_the_same_shard(
    tmp_path: Path, design: Design, tokens: Any, config: SwarmConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "0")
    with (
        storage.held(storage.shard_folder(tmp_path, 0, 2)),
        pytest.raises(InputError, match=r"shard-0-of-2: another process is training.*auto, since SLURM_ARRAY_TASK_ID"),
    ):
        train_swarm(design, tokens, config, tmp_path, shard=(0, 2), mesh=one_device())
