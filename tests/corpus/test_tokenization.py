"""From documents to a store: tokenizers, the split, and duplicates."""

from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings, strategies as st

from bimixjax._base.checks import InputError
from bimixjax.corpus import ByteTokenizer, Document, FileTokenizer, TokenStore, read_documents, split_of, tokenize


def _documents(texts: list[str], prefix: str = "") -> list[Document]:
    return [Document(source=f"{prefix}{i}", text=text) for i, text in enumerate(texts)]


def _texts(tokens: np.ndarray) -> list[str]:
    *texts, end = bytes(tokens).split(b"\xff")
    assert end == b""
    return [text.decode() for text in texts]


def _all_texts(store: TokenStore, domain: str) -> list[str]:
    return _texts(store.train(domain)) + _texts(store.validation(domain))


@pytest.fixture(scope="module")
def bpe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = tokenizers.Tokenizer(tokenizers.models.BPE())
    model.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    model.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    model.train_from_iterator([f"the number {i} and the next" for i in range(500)], trainer)
    model.enable_truncation(4)
    path = tmp_path_factory.mktemp("bpe") / "bpe.json"
    model.save(str(path))
    return path


@given(text=st.text())
@settings(deadline=None)
def test_bytes_never_contain_the_separator_and_decode_back(text: str) -> None:
    (tokens,) = ByteTokenizer().encode([text])
    assert ByteTokenizer().separator not in tokens
    assert bytes(tokens).decode() == text


def test_a_file_tokenizer_matches_the_library_and_ignores_its_truncation(bpe: Path) -> None:
    tokenizer = FileTokenizer.load(bpe, separator="<|endoftext|>")
    text = "the number 12 and the next number"
    (tokens,) = tokenizer.encode([text])
    assert tokenizer.model.decode(tokens.tolist()) == text
    assert len(tokens) > 4
    assert tokenizer.vocab_size == tokenizer.model.get_vocab_size()
    assert tokenizer.name.startswith("bpe.json sha256:")


def test_a_special_token_spelled_out_stays_text(bpe: Path) -> None:
    tokenizer = FileTokenizer.load(bpe, separator="<|endoftext|>")
    (tokens,) = tokenizer.encode(["a <|endoftext|> b"])
    assert tokenizer.separator not in tokens
    assert tokenizer.model.decode(tokens.tolist()) == "a <|endoftext|> b"


def test_a_store_of_a_file_tokenizer_holds_its_ids(bpe: Path, tmp_path: Path) -> None:
    tokenizer = FileTokenizer.load(bpe, separator="<|endoftext|>")
    documents = _documents([f"the number {i}" for i in range(40)])
    store = tokenize(tmp_path / "c", {"a": documents}, tokenizer=tokenizer, validation_fraction=0.3)
    kept = [d for d in documents if split_of(d.source, 0.3) == "train"]
    expected = [[*ids.tolist(), tokenizer.separator] for ids in tokenizer.encode([d.text for d in kept])]
    assert store.dtype == "uint16"
    assert store.train("a").tolist() == list(chain.from_iterable(expected))
    assert (store.tokenizer, store.separator) == (tokenizer.name, tokenizer.separator)


def test_bytes_per_token_are_those_of_the_validation_text(bpe: Path, tmp_path: Path) -> None:
    tokenizer = FileTokenizer.load(bpe, separator="<|endoftext|>")
    domains = {"a": _documents([f"the number {i} and é" for i in range(40)])}
    own = tokenize(tmp_path / "bpe", domains, tokenizer=tokenizer, validation_fraction=0.3)
    plain = tokenize(tmp_path / "bytes", domains, validation_fraction=0.3)
    texts = [d.text.encode() for d in domains["a"] if split_of(d.source, 0.3) == "validation"]
    held = sum(map(len, texts))
    assert own.bytes_per_token["a"] == held / own.validation_tokens[0] > 1
    assert plain.bytes_per_token["a"] == held / (held + len(texts))


def test_a_tokenizer_file_that_will_not_do_is_named(bpe: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no special token '</s>'; it has: <\|endoftext\|>"):
        FileTokenizer.load(bpe, separator="</s>")
    with pytest.raises(InputError, match="no such file"):
        FileTokenizer.load(tmp_path / "none.json", separator="</s>")
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(InputError, match=r"bad\.json: not a `tokenizers` JSON file"):
        FileTokenizer.load(tmp_path / "bad.json", separator="</s>")


def test_a_text_that_encodes_to_the_separator_is_refused(tmp_path: Path) -> None:
    fake = ByteTokenizer(separator=ord("|"))
    with pytest.raises(InputError, match="1: its text encodes to the separator, token 124"):
        tokenize(tmp_path / "c", {"a": _documents(["fine", "a|b"])}, tokenizer=fake)
    assert not list(tmp_path.iterdir())


@given(source=st.text(), low=st.floats(0.01, 0.99), high=st.floats(0.01, 0.99))
@settings(deadline=None)
def test_a_larger_fraction_only_moves_sources_into_validation(source: str, low: float, high: float) -> None:
    low, high = sorted((low, high))
    assert not (split_of(source, low) == "validation" and split_of(source, high) == "train")


def test_the_split_follows_the_fraction() -> None:
    share = np.mean([split_of(f"source {i}", 0.2) == "validation" for i in range(20_000)])
    assert abs(share - 0.2) < 4 * np.sqrt(0.2 * 0.8 / 20_000)


def test_every_text_is_in_one_split_of_one_domain(tmp_path: Path) -> None:
    first = [f"first {i}" for i in range(60)] + ["shared 1", "first 3", ""]
    second = [f"second {i}" for i in range(60)] + ["shared 1", "shared 1", "first 5"]
    store = tokenize(
        tmp_path / "c", {"x": _documents(first, "x"), "y": _documents(second, "y")}, validation_fraction=0.3
    )
    texts = _all_texts(store, "x") + _all_texts(store, "y")
    assert len(texts) == len(set(texts))
    assert set(texts) == {*first, *second} - {""}
    assert "shared 1" in _all_texts(store, "x")
    assert store.notes == (
        "x: documents dropped: 1 already in x, 1 empty",
        "y: documents dropped: 3 already in x",
    )


def test_one_source_never_parts(tmp_path: Path) -> None:
    documents = [Document(source=f"book {i % 20}", text=f"{i % 20} page {i}") for i in range(400)]
    store = tokenize(tmp_path / "c", {"a": documents}, validation_fraction=0.3)
    train, validation = ({text.split()[0] for text in _texts(t)} for t in (store.train("a"), store.validation("a")))
    assert train
    assert validation
    assert not train & validation


def test_batches_do_not_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    documents = _documents([f"number {i}" for i in range(100)])
    whole = tokenize(tmp_path / "whole", {"a": documents}, validation_fraction=0.3)
    monkeypatch.setattr("bimixjax.corpus.tokenization._BATCH_CHARACTERS", 20)
    parts = tokenize(tmp_path / "parts", {"a": iter(documents)}, validation_fraction=0.3)
    assert parts.digest == whole.digest
    assert parts.shards == whole.shards


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, float("nan")])
def test_a_fraction_outside_its_range_is_refused(tmp_path: Path, fraction: float) -> None:
    with pytest.raises(InputError, match=r"validation_fraction is .*; allowed: between 0 and 1"):
        tokenize(tmp_path / "c", {"a": _documents(["x"])}, validation_fraction=fraction)


def test_a_domain_without_documents_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"domain 'b' has no train tokens \(documents in all: 0\)"):
        tokenize(tmp_path / "c", {"a": _documents([str(i) for i in range(99)]), "b": []})
    assert not list(tmp_path.iterdir())


def test_damage_in_the_middle_of_a_corpus_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jsonl").write_text('{"text": "one"}\nbroken')
    with pytest.raises(InputError, match=r"a\.jsonl, line 2"):
        tokenize(tmp_path / "out", {"a": read_documents(tmp_path / "in")})
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
