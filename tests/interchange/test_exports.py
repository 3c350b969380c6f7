"""Every format there and back, and what each trainer draws, by its own rule written out."""

import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import yaml

from bimixjax import InputError, Inventory
from bimixjax.interchange import Data, Exported, Training, export_mixture, lint, read_mixture
from bimixjax.interchange.trainers import KINDS, TRAINERS, Trainer, of_kind

SHARES = {"web": 0.6137, "code": 0.2499, "books": 0.1003, "math": 0.0361}
STOCK = Inventory({"web": 8e9, "code": 1e9, "books": 3e9, "math": 5e8})
TRAINING = Training(tokens=16e9, sequence_length=2048, batch=256)
LENGTHS = {"web": 700.0, "code": 2100.0, "books": 90_000.0, "math": 1300.0}


def known(trainer: Trainer, *, lengths: bool = True) -> Data:
    """Paths as the trainer takes them, and lengths where it counts documents."""
    places = {name: trainer.default_path(name) for name in SHARES}
    prefix = "" if trainer.kind == "regmix" else "/data/"
    return Data(
        paths={name: f"{prefix}train_{name}" for name in SHARES if places[name] is not None},
        inventory=STOCK,
        tokens_per_document=LENGTHS if trainer.counts == "documents" and lengths else None,
    )


def exported(kind: str, suffix: str | None = None, shares: dict[str, float] = SHARES) -> Exported:
    trainer = of_kind(kind, suffix)
    return export_mixture(shares, kind, training=TRAINING, data=known(trainer), suffix=suffix)


@pytest.mark.parametrize("trainer", TRAINERS, ids=lambda trainer: trainer.title)
def test_there_and_back(trainer: Trainer, tmp_path: Path) -> None:
    """Lint recognizes what export wrote, finds no fault with it, and reads the same shares to the resolution."""
    data = known(trainer)
    path = tmp_path / f"mixture{trainer.suffixes[0]}"
    found = exported(trainer.kind, trainer.suffixes[0])
    found.save(path)
    names = {place: name for name, place in data.paths.items()}
    given = {"training": TRAINING, "inventory": STOCK, "names": names, "tokens_per_document": data.tokens_per_document}
    read = lint(path, **given)
    assert (read.title, read.problems, read.domains) == (trainer.title, (), tuple(SHARES))
    np.testing.assert_array_equal(read.realized, found.audit.realized)
    # The coarsest is Grain's: documents of books are 1 in 1000, and come 100 times in a round.
    resolution = max(read.resolution or 0, 0.003 if trainer.counts == "documents" else 1e-9)
    np.testing.assert_allclose(read.realized[0], list(SHARES.values()), atol=resolution)
    assert read.epochs is not None
    expected = read.realized[0] * 16e9 / np.array([*STOCK.tokens.values()])
    np.testing.assert_allclose(read.epochs, expected)


def test_every_kind_of_the_list_is_there() -> None:
    listed = "levanter maxtext grain megatron nemo gpt-neox streaming hf olmo-core nanotron regmix doremi json csv"
    assert set(KINDS) == set(listed.split())


def test_levanter_fills_its_blocks() -> None:
    """Each count is rounded down and what is left goes to the largest: with whole parts written, nothing is left."""
    written = yaml.safe_load(exported("levanter").text)["data"]["train_weights"]
    counts = {name: int(share / sum(written.values()) * 2048) for name, share in written.items()}
    assert sum(counts.values()) == 2048
    assert counts == {"web": 1257, "code": 512, "books": 205, "math": 74}


@pytest.mark.parametrize("kind", ["megatron", "nemo", "gpt-neox", "nanotron"])
def test_blends_are_within_a_sequence_of_what_is_realized(kind: str) -> None:
    """The rule of all of them: the next sequence comes from the domain that is furthest behind its share."""
    share = exported(kind).audit.realized[0]
    counts = np.zeros(len(share))
    for drawn in range(20_000):
        counts[np.argmax(share * max(drawn, 1) - counts)] += 1
    np.testing.assert_allclose(counts, share * 20_000, atol=1)


@pytest.mark.parametrize(("kind", "suffix"), [("grain", ".py"), ("maxtext", ".json"), ("maxtext", ".txt")])
@pytest.mark.parametrize("seed", range(20))
def test_grain_makes_the_numbers_that_were_meant(kind: str, suffix: str, seed: int) -> None:
    """Grain scales the least number to 100 and rounds down; MaxText divides by the sum before, and rounds its flag to 4
    decimals. Floating point must not take an element away."""
    shares = dict(zip("abcde", np.random.default_rng(seed).dirichlet(np.ones(5) * 3), strict=True))
    found = export_mixture(shares, kind, suffix=suffix, data=Data(tokens_per_document=2048.0), drop_below=0.01)
    if kind == "grain":
        numbers = [float(each) for each in re.findall(r"': (\d+),", found.text)]
    elif suffix == ".json":
        weights = [one["weight"] for one in json.loads(found.text).values()]
        numbers = [weight / sum(weights) for weight in weights]
    else:
        weights = [float(part.rpartition(",")[2]) for part in found.text.strip().rstrip("'").split(";")]
        numbers = [round(weight / sum(weights), 4) for weight in weights]
    scale = 100 / min(numbers)
    counts = np.array([int(number * scale) for number in numbers])
    np.testing.assert_allclose(found.audit.realized[0], counts / counts.sum(), rtol=1e-12)
    kept = np.array([shares[name] for name in found.audit.domains])
    # Half an element in a round, or what rounding to 4 decimals and down an element leave.
    limit = (1.0 if suffix == ".txt" else 0.6) / counts.sum() + (1e-4 if suffix == ".txt" else 0)
    np.testing.assert_allclose(found.audit.realized[0], kept / kept.sum(), atol=limit)


def test_documents_are_converted_by_their_lengths() -> None:
    """d_i proportional to r_i / t_i: a share of tokens that a trainer of documents would miss by far."""
    found = exported("hf")
    drawn = {name: float(share) for name, share in re.findall(r"'(\w+)': ([\d.e-]+),", found.text)}
    tokens = {name: share * LENGTHS[name] for name, share in drawn.items()}
    total = sum(tokens.values())
    assert {name: count / total for name, count in tokens.items()} == pytest.approx(SHARES, abs=1e-5)
    with pytest.raises(InputError, match="draws documents, and a mixture is of tokens"):
        export_mixture(SHARES, "hf")
    with pytest.raises(InputError, match="missing of code, books, math"):
        export_mixture(SHARES, "maxtext", data=Data(tokens_per_document={"web": 700}))
    with pytest.raises(InputError, match="leave --tokens-per-document out"):
        export_mixture(SHARES, "levanter", data=Data(tokens_per_document=2048))


def test_a_share_below_the_resolution_is_refused_or_left_out() -> None:
    shares = {"web": 0.9998, "rare": 0.0002}
    with pytest.raises(InputError, match=r"rare has a share of 0.0002, and Levanter draws in parts of 0.000488"):
        export_mixture(shares, "levanter")
    found = export_mixture(shares, "levanter", drop_below=0.001)
    assert found.audit.domains == ("web",)
    assert "left out, below --drop-below: rare" in found.audit.notes
    assert export_mixture(shares, "levanter", block=16384).audit.realized[0, 1] == pytest.approx(0.0002, abs=1 / 32768)
    few = Training(tokens=2048 * 1000, sequence_length=2048)
    with pytest.raises(InputError, match=r"Megatron-LM \(arguments\) draws in parts of 0.001"):
        export_mixture(shares, "megatron", training=few)


@pytest.mark.parametrize("trainer", TRAINERS, ids=lambda trainer: trainer.title)
def test_a_domain_of_share_zero_is_left_out_unless_the_trainer_takes_it(trainer: Trainer) -> None:
    data = Data(tokens_per_document=2048.0 if trainer.counts == "documents" else None)
    shares = {"web": 0.75, "none": 9e-8, "code": 0.25}  # as a search ends that means none
    found = export_mixture(shares, trainer.kind, suffix=trainer.suffixes[0], data=data)
    assert ("none" in found.audit.domains) is trainer.keeps_zeros
    assert ("left out, below a millionth: none" in found.audit.notes) is not trainer.keeps_zeros
    assert not found.audit.problems


def test_a_repeated_domain_gets_the_repetition_that_olmo_core_asks_for() -> None:
    sources = {one["source_name"]: one for one in yaml.safe_load(exported("olmo-core").text)["sources"]}
    assert sources["code"]["max_repetition_ratio"] == pytest.approx(0.2499 * 16e9 / 1e9, rel=0.02)
    assert all(one.get("max_repetition_ratio", 1) * STOCK.tokens[n] >= SHARES[n] * 16e9 for n, one in sources.items())
    assert "max_repetition_ratio" not in sources["books"]


@pytest.mark.parametrize(("kind", "first"), [("levanter", 0), ("nanotron", 1)])
def test_a_second_stage_begins_where_the_trainer_can_begin_one(kind: str, first: int, tmp_path: Path) -> None:
    """16e9 tokens are 30517.6 steps; Levanter begins a stage at whole blocks only, here of 8 steps."""
    late = {"math": 0.5, "code": 0.5}
    found = export_mixture(SHARES, kind, training=TRAINING, data=known(of_kind(kind)), then=(0.9, late))
    document = yaml.safe_load(found.text)
    starts = [s["start_training_step"] for s in document["data_stages"]] if kind == "nanotron" else None
    starts = starts or [step for step, _ in document["data"]["train_weights"]]
    assert starts[0] == first
    assert starts[1] == pytest.approx(0.9 * 16e9 / 2048 / 256, abs=8)
    assert kind == "nanotron" or starts[1] * 256 % 2048 == 0
    path = tmp_path / "stages.yaml"
    found.save(path)
    names = {place: name for name, place in known(of_kind(kind)).paths.items()}
    read = lint(path, training=TRAINING, inventory=STOCK, names=names)
    assert read.problems == ()
    assert read.epochs == pytest.approx(found.audit.epochs)
    assert TRAINING.steps is not None
    assert read.epochs is not None
    part = (starts[1] - first) / TRAINING.steps
    math = part * read.realized[0][3] + (1 - part) * 0.5
    assert read.epochs[3] == pytest.approx(math * 16e9 / 5e8)


def test_stages_are_for_trainers_that_know_them() -> None:
    with pytest.raises(InputError, match="one mixture for the whole training; stages: levanter, nanotron"):
        export_mixture(SHARES, "megatron", then=(0.5, SHARES))
    with pytest.raises(InputError, match="make a step of it"):
        export_mixture(SHARES, "nanotron", then=(0.5, SHARES))
    with pytest.raises(InputError, match="--batch-size says at which step"):
        export_mixture(SHARES, "levanter", then=(1000, SHARES))
    with pytest.raises(InputError, match="allowed: within the training"):
        export_mixture(SHARES, "nanotron", training=TRAINING, then=(10**6, SHARES))


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ({"web": 61.37, "code": 38.63}, "sums to 100, as percents do"),
        ({"web": 0.6, "code": 0.3}, "sums to 0.9"),
        ({"web": 1.1, "code": -0.1}, "proportion -0.1 of 'code'"),
        ({"web": np.nan, "code": 1.0}, "proportion nan of 'web'"),
        ({}, "has no domain"),
    ],
)
def test_what_is_no_mixture_is_refused(shares: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        export_mixture(shares, "json")


def test_paths_that_a_format_cannot_hold_are_refused() -> None:
    for kind, suffix, path, message in (
        ("maxtext", ".txt", "gs://b/a,b*", "comma or semicolon"),
        ("megatron", ".txt", "/my data/web", "white space"),
        ("regmix", ".yaml", "web", "does not begin with train_"),
    ):
        data = Data(paths={"web": path}, tokens_per_document=2048.0 if kind == "maxtext" else None)
        with pytest.raises(InputError, match=message):
            export_mixture(SHARES, kind, suffix=suffix, data=data)
    with pytest.raises(InputError, match="'x' more than once"):
        export_mixture(SHARES, "nanotron", data=Data(paths={"web": "x", "code": "x"}))
    with pytest.raises(InputError, match="unknown domain 'wbe'"):
        export_mixture(SHARES, "nanotron", data=Data(paths={"wbe": "x"}))


def test_one_domain_is_a_mixture_too() -> None:
    """MaxText takes a number for part of a path where there is only one."""
    for trainer in TRAINERS:
        data = Data(tokens_per_document=2048.0 if trainer.counts == "documents" else None)
        found = export_mixture({"web": 1.0}, trainer.kind, suffix=trainer.suffixes[0], data=data)
        assert found.audit.realized.tolist() == [[1.0]], trainer.title
    assert "OF/web," not in export_mixture({"web": 1.0}, "maxtext", data=Data(tokens_per_document=1.0)).text


def test_many_domains_stay_apart_and_sum_to_one() -> None:
    """24 domains of which some are small, in each format: no name is lost and the least is drawn."""
    shares = np.random.default_rng(1).dirichlet(np.ones(24)) * 0.9 + 0.1 / 24
    named = {f"topic {i}": float(share) for i, share in enumerate(shares)}
    for trainer in TRAINERS:
        data = Data(tokens_per_document=2048.0 if trainer.counts == "documents" else None)
        found = export_mixture(named, trainer.kind, suffix=trainer.suffixes[0], data=data)
        assert Counter(found.audit.domains) == Counter(named.keys()), trainer.title
        assert found.audit.realized.sum() == pytest.approx(1)
        assert found.audit.realized.min() > 0


def test_mixtures_are_read_from_plain_files_and_from_optimize(tmp_path: Path) -> None:
    for kind in ("json", "csv"):
        exported(kind).save(tmp_path / f"mixture.{kind}")
        assert read_mixture(tmp_path / f"mixture.{kind}") == pytest.approx(SHARES)
    (tmp_path / "found.json").write_text('{"domains": ["a", "b"], "proportions": [0.25, 0.75], "converged": true}')
    assert read_mixture(tmp_path / "found.json") == {"a": 0.25, "b": 0.75}
    (tmp_path / "found.json").write_text('{"domains": ["a", "b"], "proportions": [0.25, 0.75], "converged": false}')
    with pytest.raises(InputError, match="did not converge"):
        read_mixture(tmp_path / "found.json")
    with pytest.raises(InputError, match=r"'.txt'; allowed: .json, .csv"):
        read_mixture(tmp_path / "found.txt")
