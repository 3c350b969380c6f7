"""Unique tokens per domain: read from anything, checked, and turned into epochs."""

import json
import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bimixjax import InputError, Inventory
from bimixjax.corpus import TokenStore

DOMAINS = ("code", "web")


def test_epochs_are_share_times_tokens_over_unique_tokens() -> None:
    stock = Inventory({"web": 8e9, "code": 2e9})
    mixtures = np.array([[0.25, 0.75], [1.0, 0.0]])
    assert stock.epochs(mixtures, 16e9, DOMAINS).tolist() == [[2.0, 1.5], [8.0, 0.0]]
    assert stock.epochs(mixtures, [16e9, 4e9], DOMAINS).tolist() == [[2.0, 1.5], [2.0, 0.0]]
    assert stock.epochs(mixtures[0], 16e9, DOMAINS).tolist() == [2.0, 1.5]


def test_a_domain_that_is_not_named_has_no_limit() -> None:
    stock = Inventory({"code": 1e9})
    assert stock.array(DOMAINS).tolist() == [1e9, np.inf]
    assert stock.epochs([0.5, 0.5], 4e9, DOMAINS).tolist() == [2.0, 0.0]
    assert stock == Inventory({"code": 1_000_000_000})
    assert {stock: 1}[pickle.loads(pickle.dumps(stock))] == 1


def test_every_kind_of_file_says_the_same(tmp_path: Path) -> None:
    files = {
        "stock.csv": 'domain,tokens\nweb,8B\n"code, old",2e9\n',
        "stock.tsv": "tokens\tdomain\n8000000000\tweb\n2G\tcode, old\n",
        "stock.json": json.dumps({"web": 8e9, "code, old": "2B"}),
        "stock.yaml": "web: 8e9\ncode, old: 2B\n",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    pd.DataFrame({"domain": ["web", "code, old"], "tokens": [8e9, 2e9]}).to_parquet(tmp_path / "stock.parquet")
    expected = Inventory.parse('web=8B,"code, old"=2e9')
    for name in (*files, "stock.parquet"):
        assert Inventory.read(tmp_path / name) == expected, name


def test_a_table_whose_runs_had_the_same_is_an_inventory(tmp_path: Path) -> None:
    rows = {"run": ["a", "b"], "mixture/web": [0.5, 0.2], "mixture/code": [0.5, 0.8], "loss/web": [3.0, 3.1]}
    frame = pd.DataFrame(rows | {"unique/code": [1e6, 1e6], "unique/web": [None, None]})
    frame.to_csv(tmp_path / "table.csv", index=False)
    assert Inventory.read(tmp_path / "table.csv").tokens == {"code": 1e6, "web": np.inf}
    frame.assign(**{"unique/code": [1e6, 2e6]}).to_csv(tmp_path / "table.csv", index=False)
    with pytest.raises(InputError, match=r"column 'unique/code', run 'b': 2e\+06, in the first row 1e\+06"):
        Inventory.read(tmp_path / "table.csv")


def test_a_token_store_is_an_inventory_of_its_training_tokens(tmp_path: Path) -> None:
    TokenStore.write(tmp_path / "store", {"a": ([0, 1, 1], [1]), "b": ([2, 2], [0])}, vocab_size=3)
    assert Inventory.read(tmp_path / "store").tokens == {"a": 3, "b": 2}


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.csv", "domain,number\nweb,1\n", "no column 'tokens'"),
        ("a.csv", "domain,tokens\nweb,1\nweb,2\n", r"data row 2 \(line 3\), column 'domain': 'web' a second time"),
        ("a.csv", "domain,tokens\nweb,\n", r"data row 1 \(line 2\), column 'tokens' is ''; allowed: a number above 0"),
        ("a.csv", "domain,tokens\nweb,-1\n", "is '-1'"),
        ("a.json", "[1]", "holds list"),
        ("a.json", '{"web": true}', "'web' is True"),
        ("a.json", '{"web": null}', "'web' is None"),
        ("a.yaml", "web: [1", "not YAML"),
        ("a.yaml", "web: 2020-01-01", "'web' is"),
        ("a.yaml", "", "holds NoneType"),
        ("a.txt", "web=1", "suffix is '.txt'"),
    ],
)
def test_a_file_that_is_no_inventory_is_an_error(name: str, text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=words):
        Inventory.read(tmp_path / name)


@pytest.mark.parametrize("tokens", [{}, {"web": 0}, {"web": -1.0}, {"web": np.nan}, {"web": "8e9"}, {"web": True}, [1]])
def test_tokens_that_are_not_above_zero_are_an_error(tokens: object) -> None:
    with pytest.raises(InputError, match="inventory"):
        Inventory(tokens)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("text", ["", "web", "web=x", "web=0", "web=1,web=2"])
def test_a_text_that_is_no_inventory_is_an_error(text: str) -> None:
    with pytest.raises(InputError, match="inventory"):
        Inventory.parse(text)


def test_a_name_that_is_no_domain_is_an_error() -> None:
    with pytest.raises(InputError, match="unknown domain 'cod' in the inventory; known: code, web"):
        Inventory({"cod": 1e9}).array(DOMAINS)


def test_the_natural_mixture_needs_every_domain() -> None:
    assert Inventory({"web": 3.0, "code": 1.0}).natural(DOMAINS).tolist() == [0.25, 0.75]
    assert Inventory({"web": 1.5e308, "code": 1.5e308}).natural(DOMAINS).tolist() == [0.5, 0.5]
    with pytest.raises(InputError, match="no number of tokens of 'code'"):
        Inventory({"web": 3.0, "code": np.inf}).natural(DOMAINS)
