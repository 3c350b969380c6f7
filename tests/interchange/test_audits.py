"""What lint says of files that people write, and what it does with files that nobody should."""

import functools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from bimixjax import InputError, Inventory
from bimixjax.interchange import Audit, Training, lint
from bimixjax.interchange.trainers import TRAINERS, Trainer
from tests.interchange.test_exports import SHARES, exported

LEVANTER = """
data:
  components:
    web: {source: {type: url, train_urls: ["gs://b/web/*.jsonl.gz"]}}
    code: {source: {type: url, train_urls: ["gs://b/code/*.jsonl.gz"]}}
    wiki: {source: {type: hf, id: org/wiki}}
  train_weights: {web: 0.7, code: 0.2998, wiki: 0.0002}
"""
HF = """
from datasets import interleave_datasets

web, code = load("web"), load("code")
mixed = interleave_datasets([web, code], probabilities=[%s], seed=42, stopping_strategy="all_exhausted")
"""


def audited(tmp_path: Path, name: str, text: str, **options: object) -> Audit:
    (tmp_path / name).write_text(text, encoding="utf-8")
    return lint(tmp_path / name, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        # A domain below the resolution.
        ("a.yaml", LEVANTER, "wiki has a share of 0.0002, below the 0.000488 that Levanter can draw: it is never"),
        ("a.txt", "grain_train_files='a,0.99997;b,0.00003'", "b has a share of 3e-05, below the 0.0001"),
        ("a.txt", "1 /data/a 1000000 /data/b", "a has a share of 1e-06, below the 0.00128"),
        # What rounding down leaves goes to the largest: here a hundredth of it, and a third less of the least.
        ("a.yaml", "train_weights: {a: 0.9993, b: 0.0007}", "b has a share of 0.00070, and Levanter draws 0.00049"),
        # Numbers that do not sum to 1, and percents.
        ("a.py", HF % "0.7, 0.2", "the numbers sum to 0.9; HF datasets wants 1 within 1.4e-08"),
        ("a.py", HF % "70, 30", "the numbers sum to 100, as percents do; HF datasets wants 1"),
        ("a.json", '{"web": 70, "code": 30}', "the numbers sum to 100, as percents do; JSON wants 1 within 0.01"),
        ("a.csv", "domain,share\nweb,0.5\ncode,0.4\n", "the numbers sum to 0.9; CSV wants 1 within 0.01"),
        ("a.yaml", "sources: [{source_name: a, target_ratio: 0.9, paths: [x]}]", "the numbers sum to 0.9; OLMo-core"),
        ("a.txt", "0.7 /data/a 0.6 /data/b", "sum to 1.3; they are divided by that, though each looks like a share"),
        # Zeros.
        ("a.py", HF % "1.0, 0.0", "code has the number 0: interleave_datasets does not end well"),
        ("a.json", '{"a": {"path": "x", "weight": 1}, "b": {"path": "y", "weight": 0}}', "b has the number 0: Grain"),
        ("a.txt", "0 /data/a 1 /data/b", "a has the number 0: a domain of share 0 has no sequence"),
        # Paths.
        ("a.txt", "0.5 /data/a 0.5 /data/a", "the path /data/a is there 2 times"),
        ("a.json", '{"train": ["1", "REPLACE-WITH-PATH-OF/a"], "valid": null, "test": null}', "no path yet for a"),
        ("a.yaml", "{train: {train_web: 0.5, train_web_fr: 0.5}, valid: {}}", "files of train_web_fr belong to"),
        # What the trainer reads in another way, or not at all.
        ("a.json", '{"train": ["1", "x"], "valid": null}', "there is no test: Megatron stops with a KeyError"),
        ("a.json", '{"train_domain_weights": {"a": 1}}', "no eval_domain_weights"),
        ("a.yaml", "{train-data-paths: [x], train-data-weights: [1], weight-by-num-documents: true}", "by documents"),
        ("a.yaml", "{components: {a: {}}, train_weights: {b: 1}}", "train_weights names b, which is no component"),
        ("a.yaml", "train_weights: [[0, {a: 1}], [7, {b: 1}]]", "step 7, sequence 1792, which is no multiple of the"),
        ("a.yaml", "train_weights: [[8, {a: 1}], [8, {b: 1}]]", "Levanter wants them in order"),
    ],
)  # fmt: skip
def test_a_problem_is_found(name: str, text: str, problem: str, tmp_path: Path) -> None:
    training = Training(tokens=2048 * 780, sequence_length=2048, batch=256)
    found = audited(tmp_path, name, text, training=training)
    assert any(problem in said for said in found.problems), found.problems


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.txt", "30 /data/a_text_document 70 /data/b_text_document"),
        ("a.sh.txt", "pretrain_gpt.py --data-path 0.3 /data/a 0.7 /data/b --split 99,1,0"),
        ("a.yml", '{"train-data-paths": ["a", "b"], "train-data-weights": [3., 7.]}'),
        ("a.yaml", "dataset: {paths: {train: ['3', a, '7', b], validation: [c], test: [c]}}"),
        ("a.yaml", "train_loader: {dataset: {streams: {a: {local: x, proportion: 3}, b: {remote: y, proportion: 7}}}}"),
        ("a.json", '[{"domain": "a", "weight": 0.3}, {"domain": "b", "weight": 0.7}]'),
        ("a.json", '{"train_domain_weights": {"a": 0.2998, "b": 0.6998}, "eval_domain_weights": {"a": 1, "b": 1}}'),
        ("a.py", "import grain\nmix = grain.MapDataset.mix([a, b], weights=[100, 233])"),
        ("a.py", HF.replace("web", "a").replace("code", "b") % "0.3, 0.7"),
        ("a.py", "P = [0.3, 0.7]\nmixed = datasets.interleave_datasets([a, b], probabilities=P)"),
        ("a.csv", "\ufeffdomain,weight\r\na,0.3\r\nb,0.7\r\n"),
        ("a.txt", "grain_train_files=gs://x/a/*.array_record,3;gs://x/b/*.array_record,7"),
    ],
)
def test_what_people_write_is_read(name: str, text: str, tmp_path: Path) -> None:
    """Forms from the documentation of trainers: relative numbers, other quotes, a list in place of a table."""
    found = audited(tmp_path, name, text)
    assert found.problems == ()
    assert found.domains == ("a", "b")
    np.testing.assert_allclose(found.realized, [[0.3, 0.7]], atol=4e-4)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.txt", "0.3 /data/a 0.7", "an odd number of words is read as prefixes"),
        ("a.txt", "/data/a /data/b", "no numbers: 2 prefixes are drawn from by their sizes"),
        ("a.yaml", "train_weights: {a: 1, b: 2, a: 3}", "line 1 names 'a' a second time"),
        ("a.yaml", "train_weights: {a: 1e-5, b: 1}", "is the text '1e-5'; allowed: a number"),
        ("a.yaml", "train_weights: {a: -1, b: 1}", "a is -1.0; allowed: finite, >= 0"),
        ("a.yaml", "train_weights: {a: .inf}", "a is inf; allowed: finite"),
        ("a.yaml", "train_weights: {a: 0, b: 0}", "the numbers sum to 0"),
        ("a.yaml", "streams: {a: {local: x, repeat: 2}}", "repeat, a count of samples, and no proportion"),
        ("a.yaml", "data_stages: [{name: a, start_training_step: 1, data: {dataset: {dataset_folder: [x, y]}}}]",
         "no dataset_weights: folders are drawn from by their sizes"),
        ("a.yaml", "{train-data-paths: [x, y], train-data-weights: [1]}", "2 train-data-paths and 1 train-"),
        ("a.json", '{"a": 1, "a": 2}', "names 'a' twice"),
        ("a.json", '{"domains": ["a"], "proportions": [1]}', "export it first"),
        ("a.csv", "domain,share\na,30%\nb,70%\n", "is '30%'; allowed: a number"),
        ("a.csv", "domain,share\na,0.5\na,0.5\n", "more than once"),
        ("a.py", "mixed = interleave_datasets([a, b], probabilities=shares())", "must be a list of numbers"),
        ("a.py", "x = grain.MapDataset.mix([a, b], weights=[1e-320, 1])", "Grain cannot scale the least one to 100"),
        ("a.py", "f(10if 1 else 2)\nmixed = interleave_datasets(a, probabilities=[1])", "a list of as many datasets"),
        ("a.txt", "grain_train_files=gs://x/*,0.5", "MaxText takes 'gs://x/.,0.5' for one path"),
        ("a.md", "a", "is of no kind that is known by its content"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_one_clear_error(name: str, text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        audited(tmp_path, name, text)


def test_epochs_of_a_file_and_what_its_limits_allow(tmp_path: Path) -> None:
    """A weight of 2.1 beside others was thousands of epochs (NVIDIA-NeMo/Nemotron#248)."""
    text = "2.1 /data/tiny 1 /data/web"
    stock, training = Inventory({"tiny": 1e6, "web": 1e9, "code": 1e9}), Training(tokens=3.1e9)
    found = audited(tmp_path, "a.txt", text, inventory=stock, training=training)
    assert found.epochs is not None
    np.testing.assert_allclose(found.epochs, [2100.0, 1.0])
    names = {"/data/tiny": "small"}
    found = audited(tmp_path, "a.txt", text, inventory=stock, training=training, names=names)
    assert found.domains == ("small", "web")
    assert found.notes[-1] == "the inventory has no number of small"
    text = "sources: [{source_name: web, target_ratio: 1.0, paths: [x], max_repetition_ratio: 2}]"
    found = audited(tmp_path, "a.yaml", text, inventory=stock, training=training)
    assert found.problems == ("web would be read 3.10 times, and the file allows 2",)


def test_documents_become_tokens_where_lengths_are_known(tmp_path: Path) -> None:
    """Half of the documents from each, of 1000 and 3000 tokens: a quarter of the tokens from one."""
    stock, training = Inventory({"web": 1e9, "code": 1e9}), Training(tokens=4e9)
    given = {"inventory": stock, "training": training}
    found = audited(tmp_path, "a.py", HF % "0.5, 0.5", **given)
    assert (found.counts, found.epochs) == ("documents", None)
    assert "only --tokens-per-document makes tokens of them" in found.notes[0]
    found = audited(tmp_path, "a.py", HF % "0.5, 0.5", tokens_per_document={"web": 1000, "code": 3000}, **given)
    assert found.counts == "tokens"
    np.testing.assert_allclose(found.realized, [[0.25, 0.75]])
    assert found.epochs is not None
    np.testing.assert_allclose(found.epochs, [1.0, 3.0])


@functools.cache
def written(trainer: Trainer) -> str:
    return exported(trainer.kind, trainer.suffixes[0]).text


# Where in the text, how many characters of it go, and what stands there instead; nothing: these once more.
MARKS = st.text("0123456789.eE-+,;:'\"[]{}()=# \n\t\0%*&|>!<~aNnulfiy\ufeff\u2028é", max_size=6)
EDITS = st.lists(st.tuples(st.integers(0, 999), st.integers(0, 12), st.none() | MARKS), min_size=1, max_size=4)
Edits = list[tuple[int, int, str | None]]


def read_mutated(trainer: Trainer, edits: Edits, folder: Path) -> None:
    """One clear error, or an audit in which all shares are shares."""
    text = written(trainer)
    for place, length, instead in edits:
        start = place * len(text) // 1000
        gone = text[start : start + length]
        text = text[:start] + (gone * 2 if instead is None else instead) + text[start + length :]
    path = folder / f"mutated{trainer.suffixes[0]}"
    path.write_text(text, encoding="utf-8")
    training = Training(tokens=1e9, sequence_length=1024, batch=64)
    try:
        found = lint(path, kind=trainer.kind, training=training, inventory=Inventory({"web": 1e9}))
    except InputError:
        return
    for shares in (found.asked, found.realized):
        assert shares.shape == (len(found.starts), len(found.domains))
        assert (shares >= 0).all()
        np.testing.assert_allclose(shares.sum(1), 1)
    assert found.epochs is None or not np.isinf(found.epochs).any()


@pytest.mark.parametrize("trainer", TRAINERS, ids=lambda trainer: trainer.title)
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(edits=EDITS)
def test_any_text_is_an_error_or_an_audit(trainer: Trainer, edits: Edits, tmp_path: Path) -> None:
    read_mutated(trainer, edits, tmp_path)


@pytest.mark.exhaustive
@pytest.mark.parametrize("trainer", TRAINERS, ids=lambda trainer: trainer.title)
@settings(max_examples=10_000, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(edits=EDITS)
def test_ten_thousand_texts_are_errors_or_audits(trainer: Trainer, edits: Edits, tmp_path: Path) -> None:
    read_mutated(trainer, edits, tmp_path)


def test_what_a_reader_sees_is_what_was_written() -> None:
    """The fuzz would pass on readers that refuse everything."""
    assert all(set(exported(each.kind, each.suffixes[0]).audit.domains) == set(SHARES) for each in TRAINERS)
