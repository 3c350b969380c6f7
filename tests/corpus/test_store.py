"""The token store: what is written is what is read, and damage is named."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra import numpy as arrays

from bimixjax._base.checks import InputError
from bimixjax._base.records import read_json, write_json
from bimixjax.corpus import TokenStore
from bimixjax.corpus.layout import FORMAT
from bimixjax.corpus.writer import writing

DOMAINS = {"web": ([1, 2, 300], [4]), "Wikipedia (en)": ([5, 6], [7, 8])}


@pytest.fixture
def store(tmp_path: Path) -> TokenStore:
    return TokenStore.write(tmp_path / "corpus", DOMAINS, vocab_size=301, tokenizer="test", separator=0)


def test_reads_what_was_written(store: TokenStore) -> None:
    reopened = TokenStore.open(store.path)
    assert reopened == store
    assert reopened.domains == ("web", "Wikipedia (en)")
    assert reopened.tokens.tolist() == [3, 2]
    assert reopened.validation_tokens.tolist() == [1, 2]
    assert (reopened.vocab_size, reopened.separator, reopened.tokenizer) == (301, 0, "test")
    for domain, (train, validation) in DOMAINS.items():
        assert reopened.train(domain).tolist() == train
        assert reopened.validation(domain).tolist() == validation
    reopened.verify()


@given(
    tokens=arrays.arrays(np.int64, st.integers(1, 50), elements=st.integers(0, 2**20)), extra=st.integers(1, 2**32 - 1)
)
@settings(deadline=None)
def test_any_tokens_survive_the_narrowest_width(
    tmp_path_factory: pytest.TempPathFactory, tokens: np.ndarray, extra: int
) -> None:
    vocab_size = min(int(tokens.max()) + extra, 2**32)
    path = tmp_path_factory.mktemp("width") / "corpus"
    store = TokenStore.write(path, {"a": (tokens, tokens[:1])}, vocab_size=vocab_size)
    assert store.train("a").tolist() == tokens.tolist()
    assert np.iinfo(store.dtype).max >= vocab_size - 1


def test_bytes_of_the_text_are_known_where_every_piece_told_them(tmp_path: Path) -> None:
    with writing(tmp_path / "c", vocab_size=9) as writer:
        for domain, told in (("all", (3, 5)), ("some", (3, None))):
            writer.append(domain, "train", np.array([0]))
            for text_bytes in told:
                writer.append(domain, "validation", np.array([1, 2]), text_bytes=text_bytes)
    store = TokenStore.open(tmp_path / "c")
    assert store.bytes_per_token == {"all": 2.0}
    path = store.path / "store.json"
    sidecar = read_json(path)
    for splits in sidecar["domains"].values():
        for shard in splits.values():
            del shard["text_bytes"]
    write_json(path, sidecar, hashed=True)
    older = TokenStore.open(store.path)
    assert older.bytes_per_token == {}
    assert older.digest == store.digest


def test_maps_are_read_only(store: TokenStore) -> None:
    tokens = store.train("web")
    assert isinstance(tokens, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        tokens[0] = 1


def test_digest_is_of_the_content_alone(store: TokenStore, tmp_path: Path) -> None:
    arguments = {"vocab_size": 301, "tokenizer": "test", "separator": 0}
    same = TokenStore.write(tmp_path / "same", DOMAINS, **arguments)
    other = TokenStore.write(tmp_path / "other", DOMAINS | {"web": ([1, 2, 299], [4])}, **arguments)
    assert same.digest == store.digest != other.digest


def test_unknown_domain_names_the_known_ones(store: TokenStore) -> None:
    with pytest.raises(InputError, match=r"'books'.*web, Wikipedia \(en\)"):
        store.train("books")


@pytest.mark.parametrize("size", [0, 5, 7])
def test_a_file_of_another_size_is_named_at_open(store: TokenStore, size: int) -> None:
    file = store.path / "web" / "train.bin"
    file.write_bytes(bytes(size))
    with pytest.raises(InputError, match=rf"train\.bin: {size} bytes where the sidecar says 6"):
        TokenStore.open(store.path)


def test_a_missing_file_is_named_at_open(store: TokenStore) -> None:
    (store.path / "web" / "validation.bin").unlink()
    with pytest.raises(InputError, match=r"validation\.bin: missing"):
        TokenStore.open(store.path)


def test_verify_finds_changed_content_of_the_right_size(store: TokenStore) -> None:
    file = store.path / "web" / "train.bin"
    file.write_bytes(bytes(reversed(file.read_bytes())))
    with pytest.raises(InputError, match=r"web.train\.bin: its content has changed"):
        TokenStore.open(store.path).verify()


def test_no_folder_and_no_sidecar_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        TokenStore.open(tmp_path / "none")
    with pytest.raises(InputError, match=r"it has no store\.json"):
        TokenStore.open(tmp_path)


def _without(key: str) -> dict:
    whole = {"format": FORMAT, "version": 1, "dtype": "uint8", "tokenizer": "t", "vocab_size": 2, "separator": None}
    whole["notes"] = []
    return {name: value for name, value in (whole | {"domains": {}}).items() if name != key}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not JSON"),
        (b"\xff\xfe\x00", "not UTF-8 at byte 0"),
        (b"[]", "version is None"),
        (b'{"version": 2}', "version is 2; this release reads version 1"),
        (json.dumps(_without("domains")).encode(), "lacks domains"),
        (json.dumps(_without("") | {"dtype": "int8"}).encode(), r"dtype is .int8."),
        (json.dumps(_without("") | {"domains": {"a": {"train": {}}}}).encode(), r"domains\.a"),
    ],
)
def test_a_damaged_sidecar_is_one_clear_error(store: TokenStore, content: bytes, message: str) -> None:
    (store.path / "store.json").write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        TokenStore.open(store.path)
    assert "store.json" in str(caught.value)
