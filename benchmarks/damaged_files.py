"""Every file that is read, damaged at random: does a reader refuse it in one line, or fail, or load nonsense?

Per reader: how many inputs loaded, were refused with an `InputError`, raised anything else, or loaded and predicted
numbers that are not finite. Most inputs of a file with a hash have it removed or made to fit again, so that the fields
are looked at.

Run: `python benchmarks/damaged_files.py`, or with `--inputs 300` in some minutes.
"""

import argparse
import contextlib
import dataclasses
import json
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import _report
import jax
import numpy as np
import pandas as pd

import bimixjax
from bimixjax import Budget, FitResult, InputError, Observations, OptimalMixture, Resampled, estimation
from bimixjax._base.records import HASH, write_json
from bimixjax.cli import COMMANDS
from bimixjax.cli.console import _with_config
from bimixjax.corpus import FileTokenizer, TokenStore, read_documents
from bimixjax.proxy import Design, gather_shards, storage

HERE = Path(__file__).resolve().parent
LOADED, REFUSED, FAILED, NOT_FINITE = "loaded", "refused", "failed", "not finite"
TOKENS: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**31, 2**63, -(2**63), 10**400, 0.0, -0.0, 1e-320, 1e308, -1e308, 0.5),
    *("", "x", "\ud800", [], {}, [[]], [1], [[1, 2], [3]], {"a": 1}, [None], ["a", "a"], [[[[0]]]]),
)
TEXT = (
    *(b"NaN", b"Infinity", b"-Infinity", b"1e999", b"9" * 5000, b"null", b"[" * 3000),
    *(b"\xff\xfe", b"\x00", b"\xc3", b'"', b",", b"-"),
)


@dataclasses.dataclass(frozen=True)
class Reader:
    """A file to damage, what reads it, and which numbers the result stands for."""

    path: Path
    read: Callable[[Path], Any]
    numbers: Callable[[Any], Any] = lambda _: 0.0


def damaged(content: bytes, random: np.random.Generator) -> bytes:
    """The bytes with one damage, or several."""
    for _ in range(random.geometric(0.6)):
        content = BYTES[random.integers(len(BYTES))](content, random)
    return content


def _flip(content: bytes, random: np.random.Generator) -> bytes:
    if not content:
        return content
    at = int(random.integers(len(content)))
    return content[:at] + bytes([int(random.integers(256))]) + content[at + 1 :]


def _digit(content: bytes, random: np.random.Generator) -> bytes:
    places = [i for i, byte in enumerate(content) if 48 <= byte < 58]
    if not places:
        return content
    at = places[random.integers(len(places))]
    return content[:at] + str(random.integers(10)).encode() + content[at + 1 :]


def _cut(content: bytes, random: np.random.Generator) -> bytes:
    return content[: random.integers(len(content) + 1)]


def _span(content: bytes, random: np.random.Generator) -> tuple[int, int]:
    start = int(random.integers(len(content) + 1))
    return start, min(len(content), start + int(2 ** random.uniform(0, 8)))


def _drop(content: bytes, random: np.random.Generator) -> bytes:
    start, stop = _span(content, random)
    return content[:start] + content[stop:]


def _double(content: bytes, random: np.random.Generator) -> bytes:
    start, stop = _span(content, random)
    return content[:stop] + content[start:]


def _insert(content: bytes, random: np.random.Generator) -> bytes:
    start, stop = _span(content, random)
    return content[:start] + TEXT[random.integers(len(TEXT))] + content[stop if random.random() < 0.5 else start :]


BYTES = (_flip, _digit, _cut, _drop, _double, _insert)


def changed(value: Any, random: np.random.Generator) -> Any:
    """A parsed file with one value changed: of another type, far away, gone, twice, or under another name."""
    value = json.loads(json.dumps(value))
    parent, key = _place(value, random)
    if parent is None:
        return TOKENS[random.integers(len(TOKENS))]
    old, choice = parent[key], random.integers(6)
    if choice == 0 and isinstance(old, int | float) and not isinstance(old, bool):
        far = random.uniform(-300, 300) if random.random() < 0.5 else random.normal()
        parent[key] = old * float(10**far) * float(random.choice([-1, 1, 1, 1]))
    elif choice == 1 and isinstance(parent, list):
        parent.insert(key, old)
    elif choice <= 2:
        del parent[key]
    elif choice == 3 and isinstance(parent, dict):
        parent[f"{key}s"] = parent.pop(key)
    else:
        parent[key] = TOKENS[random.integers(len(TOKENS))]
    return value


def _place(value: Any, random: np.random.Generator) -> tuple[Any, Any]:
    """A random place in lists and objects, deep ones as likely as shallow ones."""
    parent, key = None, None
    while isinstance(value, list | dict) and value and (parent is None or random.random() < 0.8):
        keys = list(value) if isinstance(value, dict) else range(len(value))
        parent, key = value, keys[random.integers(len(keys))]
        value = parent[key]
    return parent, key


def inputs(reader: Reader, random: np.random.Generator) -> Iterator[bytes]:
    """Damaged contents of a file without end."""
    content = reader.path.read_bytes()
    parsed = json.loads(content) if reader.path.suffix == ".json" else None
    while True:
        if parsed is None or random.random() < 0.4:
            yield damaged(content, random)
            continue
        bare = {key: item for key, item in parsed.items() if key != HASH}
        if random.random() < 0.3:
            yield damaged(json.dumps(bare, indent=2).encode(), random)
            continue
        found = changed(bare, random)
        try:
            write_json(reader.path, found, hashed=isinstance(found, dict) and bool(random.random() < 0.5))
            yield reader.path.read_bytes()
        except (ValueError, OverflowError):
            yield json.dumps(found).encode()


def outcome(reader: Reader, content: bytes) -> tuple[str, str]:
    """How reading it ends, and in which words."""
    reader.path.write_bytes(content)
    try:
        found = reader.read(reader.path)
    except InputError as error:
        return (REFUSED, str(error)) if "\n" not in str(error).strip() else (FAILED, f"several lines: {error}")
    except Exception as error:  # what a user must never see
        return FAILED, f"{type(error).__name__}: {error}"
    try:
        finite = np.isfinite(np.asarray(reader.numbers(found), float)).all()
    except InputError as error:
        return REFUSED, str(error)
    except Exception as error:
        return FAILED, f"after it was loaded: {type(error).__name__}: {error}"
    return (LOADED, "") if finite else (NOT_FINITE, "")


def count(reader: Reader, number: int, seed: int = 0) -> tuple[Counter[str], list[str]]:
    """How many inputs ended how, and the words of those that failed."""
    random, ends, words = np.random.default_rng(seed), Counter(), []
    whole = reader.path.read_bytes()
    for _, content in zip(range(number), inputs(reader, random), strict=False):
        end, said = outcome(reader, content)
        ends[end] += 1
        words += [said] if end in (FAILED, NOT_FINITE) else []
    reader.path.write_bytes(whole)
    return ends, words


def readers(folder: Path) -> Mapping[str, Reader]:
    """A small file of each kind, and what reads it."""
    table = _table()
    table.write(folder / "table.csv")
    table.write(folder / "table.parquet")
    bimixjax.fit("bimix", table).save(folder / "fit.json")
    bimixjax.fit("additive_sized", table).save(folder / "sized.json")
    small = table.select(model_size=1e6)
    auto = bimixjax.fit(bimixjax.Auto(members=("offset", "transfer")), small)
    auto.save(folder / "auto.json")
    one = bimixjax.fit("bimix", small)
    bimixjax.optimize(one, budget=Budget(volume=2000)).save(folder / "mixture.json")
    bimixjax.bootstrap("bimix", small, key=0, count=3).save(folder / "resampled.json")
    return {
        "fit": Reader(folder / "fit.json", FitResult.load, _predicted),
        "fit with model size": Reader(folder / "sized.json", FitResult.load, _predicted),
        "fit of auto": Reader(folder / "auto.json", estimation.load, _predicted),
        "optimal mixture": Reader(folder / "mixture.json", OptimalMixture.load, _optimum),
        "resamples": Reader(folder / "resampled.json", Resampled.load, _predicted),
        "table, CSV": Reader(folder / "table.csv", Observations.read, lambda found: found.proportions),
        "table, Parquet": Reader(folder / "table.parquet", Observations.read, lambda found: found.proportions),
        **_of_training(folder),
        **_of_corpora(folder),
    }


def _table() -> Observations:
    random, rows, names = np.random.default_rng(0), [], ("web", "code")
    for run, r in enumerate(random.dirichlet([3, 3], size=4)):
        for size in (1e6, 4e6):
            for step in (1000, 2000, 4000):
                row: dict[str, Any] = {"run": f"{run}-{size:g}", "step": step, "model_size": size, "note": "é"}
                loss = (30 / step**0.5 + 2 + 30 / size**0.3) * r**-0.1 * np.exp(0.003 * random.standard_normal(2))
                row |= {f"mixture/{name}": r[i] for i, name in enumerate(names)}
                rows.append(row | {f"loss/{name}": loss[i] for i, name in enumerate(names)})
    return Observations.from_frame(pd.DataFrame(rows))


def _predicted(found: Any) -> Any:
    """Losses over the simplex of the domains; sizes and domains are those that the file says."""
    fit = getattr(found, "fit", found)
    mixtures = np.random.default_rng(0).dirichlet(np.ones(len(fit.domains)), size=8)
    sized = isinstance(fit, FitResult) and fit.law.sized
    return found.predict(mixtures, 3000.0, 3e6 if sized else next(iter(fit.model_sizes), None))


def _optimum(best: OptimalMixture) -> Any:
    return [*best.proportions, *best.weights, best.objective]


def _of_training(folder: Path) -> Mapping[str, Reader]:
    Design.make(["a", "b"], ["web", "code"], [[0.25, 0.75], [0.5, 0.5]], [1, 2]).write(folder / "design.csv")
    swarm = folder / "swarm"
    swarm.mkdir()
    settings = {"config": {"steps": 10, "lr": 0.1}, "domains": ["web"], "runs": {"a": {"seed": 1}}, "tokens": "f00"}
    storage.settle(swarm, settings)
    header = ["run", "step", "loss/web"]
    rows = [["a", "5", "2.5"], ["b", "5", "2.25"], ["a", "10", "2.1"]]
    storage.begin_table(swarm / "observations.csv", header, 0)
    storage.append_rows(swarm / "observations.csv", rows)
    for shard in (storage.shard_folder(folder, 0, 2), storage.shard_folder(folder, 1, 2)):
        shard.mkdir()
        storage.begin_table(shard / "observations.csv", header, 0)
        storage.append_rows(shard / "observations.csv", rows)
        write_json(shard / storage.DONE, {"runs": 2, "steps": 10}, hashed=True)
    (folder / "config.yaml").write_text("law: bimix\ntargets: [web, code]\npriors: true\ntable: table.csv\ndraws: 3\n")
    return {
        "design": Reader(folder / "design.csv", Design.read, lambda design: design.proportions),
        "swarm settings": Reader(swarm / "swarm.json", lambda path: storage.settle(path.parent, settings)),
        "swarm table": Reader(swarm / "observations.csv", lambda path: storage.begin_table(path, header, 7)),
        "shard of a swarm": Reader(shard / "observations.csv", lambda path: gather_shards(path.parents[1], 2)),
        "config": Reader(
            folder / "config.yaml", lambda path: _with_config("fit", COMMANDS["fit"], ["--config", str(path)])
        ),
    }


def _of_corpora(folder: Path) -> Mapping[str, Reader]:
    import tokenizers

    TokenStore.write(folder / "store", {"web": ([0, 1, 1], [1]), "code": ([2, 2], [0])}, vocab_size=3)
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({"[UNK]": 0, "a": 1, "b": 2}, unk_token="[UNK]"))
    words.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    words.add_special_tokens(["<end>"])
    words.save(str(folder / "tokenizer.json"))
    lines = [json.dumps({"text": f"number {i}", "id": i}) for i in range(8)]
    (folder / "texts.jsonl").write_text("\n".join(lines))
    pd.DataFrame({"text": [f"number {i}" for i in range(8)]}).to_parquet(folder / "texts.parquet")
    return {
        "token store": Reader(folder / "store" / "store.json", lambda path: TokenStore.open(path.parent)),
        "tokenizer": Reader(folder / "tokenizer.json", _tokenized),
        "texts, JSON lines": Reader(folder / "texts.jsonl", lambda path: list(read_documents(path, id_field="id"))),
        "texts, Parquet": Reader(folder / "texts.parquet", lambda path: list(read_documents(path))),
    }


def _tokenized(path: Path) -> Any:
    return FileTokenizer.load(path, separator="<end>").encode(["a b unknown \U0001f600", ""])


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without what libraries print of their own panics."""
    sys.stderr.flush()
    kept, none = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(none, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(none)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=10_000, help="damaged contents of each file")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "damaged_files.json", help="JSON file")
    options = parser.parse_args()
    ends, rows = {}, []
    with tempfile.TemporaryDirectory() as folder:
        for name, reader in readers(Path(folder)).items():
            began = time.process_time()
            with quiet():
                found, words = count(reader, options.inputs, options.seed)
            jax.clear_caches()
            ends[name] = {
                "inputs": options.inputs,
                **{end: found[end] for end in (LOADED, REFUSED, FAILED, NOT_FINITE)},
            }
            ends[name]["seconds"] = time.process_time() - began
            ends[name]["words"] = sorted(set(words))[:20]
            rows.append([name, *(str(ends[name][end]) for end in ("inputs", LOADED, REFUSED, FAILED, NOT_FINITE))])
            print(*rows[-1], f"{ends[name]['seconds']:.1f} s", *ends[name]["words"][:3], sep="  ", flush=True)
    print(_report.table(["reader", "inputs", LOADED, REFUSED, FAILED, NOT_FINITE], rows))
    _report.write(options.out, {"readers": ends})


if __name__ == "__main__":
    main()
