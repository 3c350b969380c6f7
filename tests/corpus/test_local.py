"""The local default corpus: real, different, repeatable, and without leaks."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bimixjax._base.checks import InputError
from bimixjax.corpus import TokenStore, local, local_corpus, local_documents
from bimixjax.corpus.entropy import corpus_entropies

# Files above 256 KiB are passed over.
LARGEST_FILE = 1 << 18
NAMES = ("python", "cpp", "prose", "data", "arithmetic")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> TokenStore:
    return local_corpus(tmp_path_factory.mktemp("local") / "corpus")


def test_five_domains_of_useful_size(store: TokenStore) -> None:
    assert store.domains == NAMES
    assert store.vocab_size == 256
    total = store.tokens + store.validation_tokens
    assert (total >= local.LEAST_BYTES).all()
    assert (total <= 4_000_000 + 2 * LARGEST_FILE).all()
    assert (store.validation_tokens / total > 0.02).all()
    assert (store.validation_tokens / total < 0.25).all()


def test_domains_differ_clearly_in_entropy(store: TokenStore) -> None:
    values = corpus_entropies(store)
    levels = sorted(value.conditional for value in values.values())
    assert levels[-1] - levels[0] > 0.2
    assert all(1.0 < level < 4.0 for level in levels)


def test_no_long_unit_is_in_two_places(store: TokenStore) -> None:
    for domain, unit, long in [("prose", b"\n\n", 40), ("cpp", b"\n\n", 100), ("data", b"\n", 20)]:
        train, validation = (
            {part for text in bytes(tokens).split(b"\xff") for part in text.split(unit) if len(part) >= long}
            for tokens in (store.train(domain), store.validation(domain))
        )
        assert validation
        assert not train & validation


def test_equations_are_true_and_occur_once() -> None:
    lines = [line for document in local_documents(cap=100_000)["arithmetic"] for line in document.text.splitlines()]
    assert len(lines) == len(set(lines)) > 1000
    for line in lines[::50]:
        question, answer = line.split(" = ")
        assert eval(question) == int(answer)


HARVEST = "import sys; from bimixjax.corpus import local_corpus as c; print(c(sys.argv[1], cap=400_000).digest)"


def test_the_same_in_another_process_with_another_hash_seed(tmp_path: Path) -> None:
    digests = {
        subprocess.run(
            [sys.executable, "-c", HARVEST, str(tmp_path / seed)],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(digests) == 1


def test_too_little_text_names_the_domain_and_what_was_searched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "only.py").write_text("x = 1\n")
    monkeypatch.setattr(local.sysconfig, "get_path", lambda _: str(tmp_path))
    with pytest.raises(InputError, match=r"domain 'python' found 6 bytes; at least 200000 are needed") as caught:
        local_documents()
    assert f".py in {tmp_path}" in str(caught.value)


def test_files_that_are_not_text_are_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too little text is refused with the number of bytes that were found: those of the good file, line ends as \\n."""
    lines = "".join(f"line_{i} = {i}\n" for i in range(10))
    (tmp_path / "good.py").write_bytes(lines.replace("\n", "\r\n").encode())
    (tmp_path / "nul.py").write_bytes(b"a\0b")
    (tmp_path / "latin.py").write_bytes(b"caf\xe9")
    (tmp_path / "large.py").write_bytes(b"x" * (LARGEST_FILE + 1))
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "skipped.py").write_text("skipped = 1")
    monkeypatch.setattr(local.sysconfig, "get_path", lambda _: str(tmp_path))
    with pytest.raises(InputError, match=f"domain 'python' found {len(lines)} bytes"):
        local_documents()


def test_docstrings_of_broken_source_are_none_and_of_nested_source_all() -> None:
    assert list(local._docstrings("def (")) == []
    source = '"""Module."""\nclass A:\n    """Class."""\n    async def f(self):\n        "Method \\d."\n'
    assert list(local._docstrings(source)) == ["Module.", "Class.", "Method \\d."]


def test_a_cap_without_room_is_refused() -> None:
    with pytest.raises(InputError, match="cap is 0; allowed: 1 byte or more"):
        local_documents(cap=0)
