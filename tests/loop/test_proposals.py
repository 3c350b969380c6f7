"""What methods propose: rivals against searches of every mixture, limits kept, failures told, files that hold."""

import dataclasses
import importlib.util
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

import bimixjax
from bimixjax import InputError, Inventory, Limits, Observations
from bimixjax.corpus import TokenStore
from bimixjax.corpus.entropy import corpus_entropies
from bimixjax.laws import LAWS
from bimixjax.loop.proof import OBSERVATIONS, PROPOSALS, Proof, prove, trained_as
from bimixjax.loop.proposals import LOG_LINEAR, Proposal, Proposals, Task, propose
from bimixjax.loop.rivals import PULL, averaged_by_trees, nearby_optimum
from bimixjax.loop.texts import Text
from bimixjax.mixtures import lattice
from bimixjax.optimization import objective
from bimixjax.optimization.evaluation import values_at
from bimixjax.proxy import SwarmConfig
from bimixjax.reports import proofs
from bimixjax.solve import Region

DOMAINS = ("a", "b", "c")
NATURAL = np.array([0.7, 0.2, 0.1])
STOCK = Inventory(dict(zip(DOMAINS, NATURAL.tolist(), strict=True)))
needs_trees = pytest.mark.skipif(importlib.util.find_spec("lightgbm") is None, reason="LightGBM is not installed")


def exact(r: np.ndarray) -> np.ndarray:
    """Losses of BiMix."""
    return 2.0 * np.asarray(r) ** -np.array([0.05, 0.1, 0.2])


def table(count: int = 12) -> Observations:
    mixtures = np.random.default_rng(0).dirichlet([3.0, 3.0, 3.0], count)
    frame = pd.DataFrame(mixtures, columns=pd.Index([f"mixture/{d}" for d in DOMAINS]))
    frame[[f"loss/{d}" for d in DOMAINS]] = exact(mixtures)
    frame["run"], frame["seed"], frame["step"] = [f"r{i}" for i in range(count)], 5, 10
    return Observations.from_frame(frame)


def test_a_pull_to_the_natural_mixture_is_the_least_of_all_mixtures() -> None:
    fit = bimixjax.fit("log_linear", table())
    goal, every = objective(fit), lattice(3, 200)
    cost = values_at(goal, every) + PULL * np.asarray(bimixjax.mixtures.kl(every, NATURAL))
    free = nearby_optimum(goal, Region.box(np.zeros(3), np.ones(3)), NATURAL)
    assert free == pytest.approx(every[cost.argmin()], abs=0.006)
    capped = Limits(upper={"a": 0.3}, groups={"rest": (("b",), 0.0, 0.25)}).region(DOMAINS)
    allowed = np.where([capped.allows(r) for r in every], cost, np.inf)
    found = nearby_optimum(goal, capped, NATURAL)
    assert capped.violation(found) < 1e-12
    assert found == pytest.approx(every[allowed.argmin()], abs=0.006)
    with pytest.raises(InputError, match="takes no limit of a distance"):
        nearby_optimum(goal, Limits(near=(NATURAL, 0.1)).region(DOMAINS), NATURAL)


@needs_trees
def test_trees_average_mixtures_that_they_like_within_limits() -> None:
    random = np.random.default_rng(1)
    mixtures = random.dirichlet(np.ones(3), 60)
    # The first domain is all that helps, up to .5.
    losses = 3.0 - np.minimum(mixtures[:, :1], 0.5) + np.zeros((60, 2))
    region = Region.box(np.zeros(3), np.array([1.0, 0.2, 1.0]))
    args = (mixtures, losses, np.array([0.5, 0.5]), region, NATURAL, 0)
    mixture, promised = averaged_by_trees(*args)
    assert mixture[0] > 0.45
    assert mixture[1] <= 0.2 + 1e-12
    assert promised == pytest.approx(np.full(2, 2.5), abs=0.05)
    with pytest.raises(InputError, match="tell no mixtures apart"):
        averaged_by_trees(mixtures[:1], losses[:1], *args[2:])
    with pytest.raises(InputError, match="at least 100 to average"):
        averaged_by_trees(*args[:3], Region.box(np.zeros(3), np.array([1e-3, 1e-3, 1.0])), NATURAL, 0)


def test_methods_propose_within_limits_and_say_what_they_promise() -> None:
    limits = Limits(upper={"c": 0.3})
    found = propose(table(), ["bimix", LOG_LINEAR], limits=limits, inventory=STOCK)
    assert found.names == ("bimix", LOG_LINEAR, "natural", "uniform", "zero-run", "best run")
    assert found.seeds == (5,)
    ours, theirs = found.of[:2]
    # c alone would get more without the limit: its exponent is the largest.
    assert ours.proportions[2] == pytest.approx(0.3)
    assert ours.losses == pytest.approx(exact(ours.proportions), rel=2e-3)
    assert limits.region(DOMAINS).allows(theirs.proportions)
    assert np.isnan(found.losses[2:]).all()
    assert found.of[2].proportions == pytest.approx(NATURAL)
    runs = table()
    assert found.of[-1].proportions == pytest.approx(runs.proportions[runs.losses.mean(1).argmin()])


def test_a_method_that_fails_is_told_and_the_others_go_on() -> None:
    found = propose(table(), [LOG_LINEAR, "bimix"], limits=Limits(near=(NATURAL, 0.1)))
    assert found.names[0] == "bimix"
    assert "takes no limit of a distance" in found.missing[LOG_LINEAR]
    with pytest.raises(InputError, match="method is 'bimx'"):
        propose(table(), ["bimx"])


def test_methods_that_read_the_text_promise_nothing(tiny_store: TokenStore) -> None:
    entropy = corpus_entropies(tiny_store)
    found = propose(table(), ["se", "ce", "vne", "doremi"], text=Text(tokens=tiny_store))
    assert found.names[:3] == ("se", "ce", "vne")
    assert np.isnan(found.losses[:3]).all()
    for one, name in zip(found.of, ("shannon", "conditional"), strict=False):
        values = np.exp([getattr(entropy[domain], name) for domain in DOMAINS])
        assert one.proportions == pytest.approx(values / values.sum())
    # Entropies of one sample are 0; of several that differ, up to the logarithm of their number.
    weights = found.proportions[2] / found.proportions[2].min()
    assert (weights > 1).any()
    assert (weights <= max(len(tiny_store.train(domain)) // 256 for domain in DOMAINS)).all()
    assert "nothing says how" in found.missing["doremi"]
    limits = Limits(upper={"a": 0.2})
    capped = propose(table(), ["se", "je"], limits=limits, text=Text(tokens=tiny_store))
    assert capped.proportions[:2, 0] == pytest.approx(0.2)
    assert limits.region(DOMAINS).allows(capped.proportions[0])
    assert "give it, as `text`" in propose(table(), ["se"]).missing["se"]
    short: Any = SimpleNamespace(domains=DOMAINS, vocab_size=16, train=lambda _: np.arange(16), validation=None)
    assert "a has 16" in propose(table(), ["vne"], text=Text(tokens=short)).missing["vne"]
    wide: Any = SimpleNamespace(domains=DOMAINS, vocab_size=50_257, train=lambda _: np.arange(999), validation=None)
    assert "here are 50257" in propose(table(), ["vne"], text=Text(tokens=wide)).missing["vne"]


def test_doremi_proposes_what_it_finds_by_itself(monkeypatch: pytest.MonkeyPatch, tiny_store: TokenStore) -> None:
    asked: dict[str, object] = {}

    def trained(tokens: TokenStore, config: SwarmConfig, **how: object) -> SimpleNamespace:
        asked.update(how, tokens=tokens, config=config)
        return SimpleNamespace(proportions=np.array([0.5, 0.3, 0.2]))

    monkeypatch.setattr("bimixjax.loop.texts.doremi", trained)
    text = Text(tokens=tiny_store, config=SwarmConfig(), seeds=(5, 6), folder=Path("doremi"))
    found = propose(table(), ["doremi"], text=text)
    assert found.of[0].proportions.tolist() == [0.5, 0.3, 0.2]
    assert (asked["tokens"], asked["config"], asked["domains"]) == (tiny_store, text.config, DOMAINS)
    assert (asked["seeds"], asked["folder"]) == ((5, 6), Path("doremi"))


def test_runs_of_which_nothing_follows_promise_nothing() -> None:
    one = propose(table(1), ["bimix", LOG_LINEAR])
    assert one.names == ("uniform", "zero-run", "best run")
    assert set(one.missing) == {"bimix", LOG_LINEAR}
    frame = table().to_frame()
    frame[[f"loss/{d}" for d in DOMAINS]] = np.nan
    assert propose(Observations.from_frame(frame), []).names == ("uniform", "zero-run")
    # The law is infinite where a domain is absent; targets that do not count say nothing of the mean.
    corner = propose(table(), ["bimix"], weights={"a": 1.0})
    assert corner.of[0].proportions == pytest.approx([1.0, 0.0, 0.0])
    losses = np.full((len(corner.of), 2, 3), 2.5)
    found = Proof(
        mixtures=corner.names,
        targets=DOMAINS,
        steps=10,
        losses=losses,
        predicted=corner.losses,
        weights=corner.weights,
    )
    assert found.promised[0] == pytest.approx(2.0, rel=1e-2)
    assert found.means == pytest.approx(2.5)


def test_what_a_seed_does_to_all_mixtures_is_told_from_noise() -> None:
    random = np.random.default_rng(0)
    seeds, noise = 0.02 * random.standard_normal(400), 0.01 * random.standard_normal((3, 400))
    losses = (np.array([2.0, 2.02, 2.05])[:, None] + seeds + noise)[..., None] + np.zeros(2)
    promised = np.full((3, 2), 2.0)
    found = Proof(mixtures=("a", "b", "c"), targets=("x", "y"), steps=1, losses=losses, predicted=promised)
    assert found.noise == pytest.approx(0.01, rel=0.1)
    assert found.seed_effect == pytest.approx(0.02, rel=0.1)
    # Without an effect, what noise makes of the means is not taken for one; of one seed nothing is known.
    alone = dataclasses.replace(found, losses=losses - seeds[:, None])
    assert alone.seed_effect < 0.003
    assert np.isnan(dataclasses.replace(found, losses=losses[:, :1]).seed_effect)
    limits = np.full((3, 2), [1.9, 2.1])
    nothing = np.full(2, np.nan)
    of = tuple(Proposal(name=n, proportions=np.array([0.5, 0.5]), losses=nothing) for n in found.mixtures)
    names, w = ("x", "y"), np.array([0.5, 0.5])
    given = Proposals(domains=names, targets=names, weights=w, volume=1.0, unit="steps", of=of, seeds=(7,))
    said = [str(line) for line in proofs.screen(dataclasses.replace(found, limits=limits), given)]
    assert any("had seed 7. A seed moves all mixtures alike by 0.02" in line for line in said)
    several = dataclasses.replace(given, seeds=(7, 8))
    assert not any(
        "had seed" in str(line) for line in proofs.screen(dataclasses.replace(found, limits=limits), several)
    )


def test_laws_without_a_volume_see_the_last_rows_only() -> None:
    first, last = table().to_frame(), table().to_frame()
    first["step"], first[[f"loss/{d}" for d in DOMAINS]] = 5, 9.0
    both = Observations.from_frame(pd.concat([first, last], ignore_index=True))
    task = Task(observations=both, weights=np.full(3, 1 / 3))
    assert (task.volume, len(task.last)) == (10, 12)
    assert propose(both, ["exponential"]).losses[0].max() < 5
    assert any(one.volumes > 1 for one in LAWS["bimix"].coefficients)


def test_proposals_are_read_as_written_and_a_change_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "proposals.json"
    written = propose(table(), ["bimix"]).beside({"mine": [0.2, 0.3, 0.5]})
    written.save(path)
    again = Proposals.load(path)
    assert again.names == written.names
    assert np.array_equal(again.losses, written.losses, equal_nan=True)
    assert np.array_equal(again.proportions, written.proportions)
    changed = json.loads(path.read_text())
    changed["of"][0]["losses"][0] -= 0.1
    path.write_text(json.dumps(changed))
    with pytest.raises(InputError):
        Proposals.load(path)
    with pytest.raises(InputError, match="mine"):
        written.beside({"mine": [0.2, 0.3, 0.5]})


def test_a_proof_trains_equal_mixtures_once_and_keeps_to_what_was_frozen(
    tmp_path: Path, tiny_store: TokenStore, tiny_loop_config: "object"
) -> None:
    swarm: SwarmConfig = dataclasses.replace(tiny_loop_config.swarm, steps=4, eval_steps=(4,))  # pyright: ignore
    nothing = np.full(3, np.nan)
    even = Proposal(name="even", proportions=np.full(3, 1 / 3), losses=np.full(3, 2.5), lower=0.0, upper=9.0)
    same = Proposal(name="same", proportions=np.full(3, 1 / 3), losses=np.full(3, 2.0), lower=0.0, upper=0.1)
    odd = Proposal(name="odd", proportions=np.array([0.6, 0.3, 0.1]), losses=nothing)
    weights = np.array([0.5, 0.5, 0.0])
    of = (even, same, odd)
    given = Proposals(domains=DOMAINS, targets=DOMAINS, weights=weights, volume=4.0, unit="steps", of=of, seeds=(0,))
    assert trained_as(given) == {"even": "even", "same": "even", "odd": "odd"}
    found = prove(tmp_path, given, tiny_store, swarm, (1, 2))
    assert sorted(Observations.read(tmp_path / OBSERVATIONS).runs) == sorted(
        [f"{name}/seed-{seed}" for name in ("even", "odd") for seed in (1, 2)]
    )
    assert found.losses[0].tolist() == found.losses[1].tolist()
    assert found.means == pytest.approx(found.losses.mean(1) @ weights)
    assert found.promised[:2].tolist() == [2.5, 2.0]
    assert found.missed[0] == pytest.approx(found.means[0] - 2.5)
    assert found.held == (True, False, None)
    assert found.regret.min() == 0
    assert prove(tmp_path, given, tiny_store, swarm, (1, 2)).losses.tolist() == found.losses.tolist()
    assert Proposals.load(tmp_path / PROPOSALS).names == given.names
    rounded = dataclasses.replace(odd, proportions=odd.proportions + np.array([1e-12, -1e-12, 0]))
    again = prove(tmp_path, dataclasses.replace(given, of=(even, same, rounded)), tiny_store, swarm, (1, 2))
    assert again.losses.tolist() == found.losses.tolist()
    with pytest.raises(InputError, match="other proposals, written before"):
        prove(tmp_path, dataclasses.replace(given, of=(even, odd)), tiny_store, swarm, (1, 2))
    with pytest.raises(InputError, match="that no run used"):
        prove(tmp_path, given, tiny_store, swarm, (0, 1))
