"""Entropies against direct formulas and oracles, their identities, and the mixtures that the paper prints."""

import jax
import numpy as np
import pytest
from hypothesis import assume, given, settings, strategies as st

from bimixjax._base.checks import InputError
from bimixjax.corpus import TokenStore, count_tokens
from bimixjax.corpus.entropy import corpus_entropies, entropies, entropy_mixture, von_neumann

# arXiv 2405.14908 v4, Tables 4 and 5: per domain (Baseline, DoReMi, SE, CE, JE, VNE); kept here: SE, CE, JE.
PILE = {
    "ArXiv": (0.0336, 0.0350, 0.0236),
    "BookCorpus2": (0.0349, 0.0461, 0.0323),
    "Books3": (0.0544, 0.0697, 0.0763),
    "DM Mathematics": (0.0047, 0.0078, 0.0007),
    "Enron Emails": (0.0416, 0.0272, 0.0228),
    "EuroParl": (0.0681, 0.0314, 0.0431),
    "FreeLaw": (0.0375, 0.0394, 0.0297),
    "GitHub": (0.0382, 0.0451, 0.0346),
    "Gutenberg": (0.0348, 0.0535, 0.0375),
    "HackerNews": (0.0343, 0.0474, 0.0328),
    "NIH ExPorter": (0.0437, 0.0406, 0.0357),
    "OpenSubtitles": (0.0161, 0.0202, 0.0065),
    "OpenWebText2": (0.0719, 0.0761, 0.1101),
    "PhilPapers": (0.0772, 0.0603, 0.0936),
    "Pile-CC": (0.0549, 0.0841, 0.0928),
    "PubMed Abstracts": (0.0541, 0.0497, 0.0541),
    "PubMed Central": (0.0536, 0.0462, 0.0498),
    "StackExchange": (0.0431, 0.0506, 0.0439),
    "USPTO": (0.0362, 0.0423, 0.0308),
    "Ubuntu IRC": (0.0374, 0.0281, 0.0212),
    "Wikipedia(en)": (0.0626, 0.0639, 0.0804),
    "YoutubeSubtitles": (0.0670, 0.0353, 0.0476),
}
SLIMPAJAMA = {
    "ArXiv": (0.0738, 0.0710, 0.0339),
    "Books": (0.1474, 0.1669, 0.1592),
    "C4": (0.1619, 0.2079, 0.2179),
    "CommonCrawl": (0.1863, 0.2175, 0.2623),
    "GitHub": (0.0952, 0.0902, 0.0556),
    "StackExchange": (0.1152, 0.1177, 0.0878),
    "Wikipedia": (0.2202, 0.1287, 0.1834),
}
STREAMS = st.lists(st.integers(0, 6), min_size=2, max_size=120)
LENGTHS = st.integers(2, 40)


def _direct(tokens: list[int], length: int) -> tuple[float, float, float]:
    """SE, JE and CE by dense float tables, straight from the definitions."""
    joint = np.zeros((7, 7))
    for start in range(0, len(tokens), length):
        sequence = tokens[start : start + length]
        np.add.at(joint, (sequence[:-1], sequence[1:]), 1)
    joint /= joint.sum()
    single = np.bincount(tokens, minlength=7) / len(tokens)
    given_first = joint / np.where(joint.sum(axis=1, keepdims=True) > 0, joint.sum(axis=1, keepdims=True), 1)
    shannon = -sum(p * np.log(p) for p in single if p > 0)
    pairs = [(p, q) for p, q in zip(joint.ravel(), given_first.ravel(), strict=True) if p > 0]
    return shannon, -sum(p * np.log(p) for p, _ in pairs), -sum(p * np.log(q) for p, q in pairs)


@given(tokens=STREAMS, length=LENGTHS)
@settings(deadline=None)
def test_entropies_are_those_of_the_definitions(tokens: list[int], length: int) -> None:
    result = entropies(count_tokens(tokens, vocab_size=7, sequence_length=length))
    np.testing.assert_allclose((result.shannon, result.joint, result.conditional), _direct(tokens, length), atol=1e-13)


@given(tokens=STREAMS, length=LENGTHS)
@settings(deadline=None)
def test_chain_rule_and_bounds(tokens: list[int], length: int) -> None:
    result = entropies(count_tokens(tokens, vocab_size=7, sequence_length=length))
    assert abs(result.joint - (result.first + result.conditional)) < 1e-12
    assert result.edge == result.first - result.shannon
    for value in (result.shannon, result.first, result.conditional):
        assert 0 <= value <= np.log(7) + 1e-12
    assert max(result.first, result.conditional) - 1e-12 <= result.joint <= 2 * np.log(7) + 1e-12


@pytest.mark.parametrize("vocab_size", [256, 50_277])
def test_chain_rule_on_many_tokens(vocab_size: int) -> None:
    tokens = np.random.default_rng(1).zipf(1.3, size=400_000) % vocab_size
    result = entropies(count_tokens(tokens, vocab_size=vocab_size))
    assert abs(result.joint - (result.first + result.conditional)) < 1e-12
    assert abs(result.edge) < 1e-3


def test_known_values() -> None:
    constant = entropies(count_tokens([3] * 50, vocab_size=7, sequence_length=10))
    assert constant.shannon == constant.joint == constant.conditional == constant.edge == 0
    coin = np.random.default_rng(0).integers(0, 2, size=1_000_000)
    fair = entropies(count_tokens(coin, vocab_size=2))
    np.testing.assert_allclose([fair.shannon, fair.conditional, fair.joint], np.log([2, 2, 4]), atol=1e-5)


def test_the_edge_term_is_what_the_last_positions_add() -> None:
    # Every sequence is 0 1: the first position is always 0, while the tokens are half 0, half 1.
    result = entropies(count_tokens([0, 1] * 30, vocab_size=2, sequence_length=2))
    np.testing.assert_allclose([result.shannon, result.first, result.joint, result.edge], [np.log(2), 0, 0, -np.log(2)])


def test_a_store_gives_one_row_per_domain(tmp_path) -> None:
    store = TokenStore.write(tmp_path / "c", {"b": ([0, 1] * 9, [0]), "a": ([1] * 9, [1])}, vocab_size=2)
    table = corpus_entropies(store, sequence_length=18)
    assert list(table) == ["b", "a"]
    assert table["b"] == entropies(count_tokens([0, 1] * 9, vocab_size=2, sequence_length=18))


@pytest.mark.parametrize("table", [PILE, SLIMPAJAMA], ids=["Pile", "SlimPajama"])
def test_the_papers_joint_mixture_follows_from_its_other_two(table: dict[str, tuple[float, float, float]]) -> None:
    shannon, conditional, joint = np.array(list(table.values())).T
    np.testing.assert_allclose([shannon.sum(), conditional.sum(), joint.sum()], 1, atol=2e-4)
    mixture = entropy_mixture(np.log(shannon) + np.log(conditional))
    np.testing.assert_allclose(mixture, joint, rtol=0, atol=1e-4)


@given(st.lists(st.floats(-700, 700), min_size=1, max_size=30), st.floats(-1e3, 1e3))
@settings(deadline=None)
def test_an_entropy_mixture_is_a_softmax(values: list[float], shift: float) -> None:
    mixture = entropy_mixture(values)
    np.testing.assert_allclose(mixture.sum(), 1, rtol=1e-14)
    assert (mixture >= 0).all()
    np.testing.assert_allclose(entropy_mixture(np.array(values) + shift), mixture, rtol=1e-9, atol=1e-300)
    np.testing.assert_allclose(mixture / mixture.max(), np.exp(np.array(values) - max(values)), rtol=1e-12, atol=1e-300)


@pytest.mark.parametrize("values", [[], [np.nan, 1.0], [np.inf], [[1.0, 2.0]], 1.0])
def test_entropies_that_make_no_mixture_are_refused(values: object) -> None:
    with pytest.raises(InputError, match="one finite number per domain"):
        entropy_mixture(np.asarray(values))


def _von_neumann_by_kernel(embeddings: np.ndarray) -> float:
    directions = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    eigenvalues = np.linalg.eigvalsh(directions @ directions.T / len(embeddings))
    eigenvalues = eigenvalues[eigenvalues > 1e-15]
    return float(-np.sum(eigenvalues * np.log(eigenvalues)))


@pytest.mark.parametrize("enabled", [False, True])
@pytest.mark.parametrize("shape", [(200, 12), (5, 30), (1, 4)])
def test_von_neumann_is_that_of_the_whole_kernel(shape: tuple[int, int], enabled: bool) -> None:
    embeddings = np.random.default_rng(2).normal(size=shape) * np.geomspace(1, 1e-3, shape[1])
    with jax.enable_x64(enabled):
        assert von_neumann(embeddings) == pytest.approx(_von_neumann_by_kernel(embeddings), abs=1e-11)


def test_von_neumann_in_blocks_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    embeddings = np.random.default_rng(3).normal(size=(50, 6)).astype(np.float32)
    whole = von_neumann(embeddings)
    monkeypatch.setattr("bimixjax.corpus.entropy._ROWS", 16)
    assert von_neumann(embeddings) == pytest.approx(whole, abs=1e-13)


@given(scale=st.floats(1e-300, 1e300), copies=st.integers(1, 5))
@settings(deadline=None)
def test_von_neumann_depends_on_directions_alone(scale: float, copies: int) -> None:
    embeddings = np.random.default_rng(4).normal(size=(6, 3))
    assume(np.isfinite(embeddings * scale).all())
    value = von_neumann(np.tile(embeddings * scale, (copies, 1)))
    assert value == pytest.approx(von_neumann(embeddings), abs=1e-12)
    assert 0 <= value <= np.log(3) + 1e-12


def test_von_neumann_at_its_bounds() -> None:
    assert von_neumann(np.ones((9, 4))) == pytest.approx(0, abs=1e-12)
    assert von_neumann(np.tile(np.eye(7), (3, 1))) == pytest.approx(np.log(7), abs=1e-12)


@pytest.mark.parametrize(
    ("embeddings", "message"),
    [
        ([1.0, 2.0], r"shape \[2\]; allowed: \[samples, dimensions\]"),
        (np.ones((0, 3)), r"shape \[0, 3\]"),
        ([[1.0, 2.0], [0.0, 0.0]], "embedding 1 is zero or not finite"),
        ([[1.0, np.nan]], "embedding 0 is zero or not finite"),
        ([[np.inf, 1.0]], "embedding 0 is zero or not finite"),
    ],
)
def test_embeddings_without_a_direction_are_named(embeddings: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        von_neumann(np.asarray(embeddings))
