"""The subcommands from corpora to observations, and the demo: what they print and leave, and how they fail."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tokenizers
import yaml

from bimixjax import FitResult, Observations, OptimalMixture
from bimixjax._base.records import read_json
from bimixjax._base.stopping import STOPPED, Stopped
from bimixjax.cli import run
from bimixjax.cli.console import BAD_INPUT, DONE, FAILED
from bimixjax.cli.training import Swarm
from bimixjax.corpus import TokenStore
from bimixjax.loop import designs, workflow
from bimixjax.loop.workflow import LoopConfig, LoopResult
from bimixjax.proxy import Design
from bimixjax.proxy.model import PRESETS

TINY = "--steps 4 --batch 1 --context 8 --eval-windows 2"


def bimix(line: str) -> int:
    return run(line.split())


def test_corpus_tokenizes_texts_as_asked(capsys: pytest.CaptureFixture[str], store: TokenStore) -> None:
    assert (store.domains, store.tokenizer) == (("web", "code"), "bytes")
    assert (store.tokens + store.validation_tokens).tolist() == [60 * 61] * 2
    shown = capsys.readouterr()
    assert "Corpus, tokenizer bytes" in shown.out
    assert shown.err == "bimix: corpus\n"


def test_corpus_repeats_itself_from_its_config(store: TokenStore) -> None:
    written = yaml.safe_load(Path("store/config.yaml").read_text())
    assert (written["command"], written["domain"]) == ("corpus", ["web=web.jsonl", "code=code.jsonl"])
    Path("again.yaml").write_text(yaml.safe_dump({**written, "folder": "again"}))
    assert bimix("corpus --config again.yaml") == DONE
    assert TokenStore.open("again").digest == store.digest


def test_corpus_takes_a_tokenizer_file_and_a_source_field(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({"?": 0, "a": 1}, unk_token="?"))
    words.add_special_tokens(["<end>"])
    words.save("words.json")
    line = "corpus store --domain web=web.jsonl --tokenizer words.json --separator <end> --id-field page --json"
    assert bimix(line + " --validation-fraction 0.5") == DONE
    document = json.loads(capsys.readouterr().out)
    assert document["vocab_size"] == 3
    assert document["tokenizer"].startswith("words.json sha256:")
    # Two rows have one source, which lies in one split.
    assert [split["documents"] % 2 for split in document["domains"]["web"].values()] == [0, 0]


def test_corpus_is_the_local_one_by_default(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    from bimixjax import corpus

    def documents(*, cap: int) -> dict[str, list[corpus.Document]]:
        return {"a": [corpus.Document(source=str(i), text=f"text {i} {cap}") for i in range(50)]}

    monkeypatch.setattr(corpus, "local_documents", documents)
    assert bimix("corpus store --cap 77") == DONE
    assert TokenStore.open("store").domains == ("a",)
    assert b" 77" in TokenStore.open("store").train("a").tobytes()


def test_entropy_prints_and_writes_the_same(store: TokenStore, capsys: pytest.CaptureFixture[str]) -> None:
    assert bimix("entropy store --out entropy.json --json") == DONE
    document = json.loads(capsys.readouterr().out)
    assert document == read_json("entropy.json")
    web = document["entropies"]["web"]
    assert web["joint"] == pytest.approx(web["first"] + web["conditional"])
    assert set(document["mixtures"]) == {"natural", "uniform", *(f"{m}-entropy" for m in designs.MEASURES)}
    assert bimix("entropy store") == DONE
    shown = capsys.readouterr().out
    assert "Entropies, nats" in shown
    assert "conditional-entropy" in shown


def test_design_leaves_a_table_that_a_swarm_reads(store: TokenStore, capsys: pytest.CaptureFixture[str]) -> None:
    assert bimix("design store --out design.csv --spread 2 --entropy joint --run-seeds 0,5 --seed 3") == DONE
    design = Design.read("design.csv")
    assert design.runs[-1] == "spread-2/seed-5"
    assert (len(design), design.domains) == (10, ("web", "code"))
    base = designs.training_free(store, {}, ())
    drawn = designs.Spread(count=2, seed=3).draw(base | {"joint-entropy": design.proportions[4]})
    assert design.proportions[-1] == pytest.approx(drawn["spread-2"])
    assert "joint-entropy" in capsys.readouterr().out


def test_design_from_token_counts_is_that_of_a_store(store: TokenStore, capsys: pytest.CaptureFixture[str]) -> None:
    counts = ",".join(f"{name}={count}" for name, count in zip(store.domains, store.tokens, strict=True))
    assert bimix(f"design --inventory {counts} --out counts.csv --spread 2") == DONE
    design = Design.read("counts.csv")
    assert design.runs == ("natural", "uniform", "spread-1", "spread-2")
    base = designs.training_free(store, {}, ())
    drawn = designs.Spread(count=2).draw(base)
    assert design.proportions == pytest.approx(np.array([*base.values(), *drawn.values()]))
    assert bimix("design --config counts.config.yaml --out again.csv") == DONE
    assert Path("again.csv").read_text() == Path("counts.csv").read_text()
    capsys.readouterr()
    Path("stock.csv").write_text("domain,tokens\nweb,8B\ncode,500M\n")
    for given in ("web=8B,code=500M", "stock.csv", "stock.csv --inventory code=0.5e9"):
        assert bimix(f"design --inventory {given} --spread 0 --json") == DONE
        assert json.loads(capsys.readouterr().out)["natural"] == pytest.approx({"web": 8 / 8.5, "code": 0.5 / 8.5})


def test_swarm_trains_a_design_and_shows_its_losses(store: TokenStore, capsys: pytest.CaptureFixture[str]) -> None:
    assert bimix("design store --out design.csv --spread 0") == DONE
    capsys.readouterr()
    line = f"swarm design.csv store swarm {TINY} --eval-steps 2,4"
    assert bimix(line) == DONE
    printed = capsys.readouterr()
    assert "Table: swarm/observations.csv" in printed.out
    plan, begun = printed.err.splitlines()[:2]
    assert "a device: tokens" in plan
    assert begun == "bimix: swarm of 3 runs"
    table = Observations.read("swarm/observations.csv")
    assert table.runs == ("natural", "uniform", "conditional-entropy")
    assert table.volumes("steps").tolist() == [2, 2, 2, 4, 4, 4]
    before = Path("swarm/observations.csv").read_bytes()
    assert bimix(f"{line} --json") == DONE
    document = json.loads(capsys.readouterr().out)
    assert document["observations"] == "swarm/observations.csv"
    # Every document of this store ends with a token that is no byte.
    validation, nats = store.shards["code"]["validation"], table.losses[3:, table.targets.index("code")]
    nats_per_byte = nats * validation.tokens / (validation.tokens - validation.documents)
    bits = [document["bits_per_byte"][run]["code"] for run in table.runs]
    assert bits == pytest.approx(nats_per_byte / np.log(2))
    assert "bits per byte" in printed.out
    assert Path("swarm/observations.csv").read_bytes() == before
    assert yaml.safe_load(Path("swarm/config.yaml").read_text())["steps"] == 4
    assert bimix("swarm --status swarm") == DONE
    assert "Swarm in swarm" in capsys.readouterr().out
    assert bimix("swarm --status swarm --json") == DONE
    (part,) = json.loads(capsys.readouterr().out)["parts"]
    assert (part["state"], part["runs"], part["step"]) == ("done", 3, 4)


def test_a_design_of_several_models_is_trained_and_costed(
    store: TokenStore, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PRESETS, "1m", (1, 8, 2))
    monkeypatch.setitem(PRESETS, "10m", (1, 16, 2))
    assert bimix("design store --out design.csv --spread 0 --models 1m,10m") == DONE
    capsys.readouterr()
    assert bimix(f"swarm design.csv store swarm {TINY} --eval-steps 4 --json") == DONE
    document = json.loads(capsys.readouterr().out)
    table = Observations.read("swarm/observations.csv")
    assert (len(document["runs"]), len(table.model_sizes)) == (6, 2)
    sizes = np.array(table.model_sizes)
    # 3 runs of 32 tokens of a model of width 8, and of one of 16.
    assert document["flops"] == 3 * 32 * (6 * sizes + 12 * np.array([8, 16]) * 8).sum()
    Path("wrong.csv").write_text("run,model,mixture/web,mixture/code\nr,2m,0.5,0.5\n")
    assert bimix("swarm wrong.csv store other") == BAD_INPUT
    assert "wrong.csv: model is '2m'; allowed: 0.1m, 1m, 10m" in capsys.readouterr().err


def test_a_swarm_repeats_as_the_real_run_will(store: TokenStore) -> None:
    assert bimix("design store --out design.csv --spread 0") == DONE
    # A run here has 32 tokens.
    line = f"swarm design.csv store swarm {TINY} --eval-steps 4 --simulate-epochs 1T --inventory code=3.125T"
    assert bimix(line) == DONE
    table = Observations.read("swarm/observations.csv")
    assert table.unique is not None
    assert table.unique.tolist() == [[np.inf, 100.0]] * 3


def test_a_swarm_in_shards_is_gathered(store: TokenStore, monkeypatch: pytest.MonkeyPatch) -> None:
    assert bimix("design store --out design.csv --spread 0") == DONE
    for index in (1, 0):
        monkeypatch.setenv("SLURM_ARRAY_TASK_ID", str(index))
        assert bimix(f"swarm design.csv store swarm {TINY} --eval-steps 4 --shard auto/2") == DONE
        assert Path("swarm/observations.csv").exists() == (index == 0)
    assert set(Observations.read("swarm/observations.csv").runs) == set(Design.read("design.csv").runs)


def test_swarm_options_reach_the_swarm() -> None:
    options = Swarm(
        design=Path(), store=Path(), folder=Path(), model="1m", context=32, dtype="bfloat16", batch=7, steps=90
    )
    options = dataclasses.replace(options, schedule="wsd", base_width=32, z_loss=1e-4, targets=("a", "b,c"))
    config = options.swarm_config(1000)
    assert (config.train.schedule.shape, config.train.base_width, config.train.z_loss) == ("wsd", 32, 1e-4)
    assert config.targets == ("a", "b", "c")
    model = config.train.model
    assert (model.layers, model.vocab, model.context, model.dtype) == (5, 1000, 32, "bfloat16")
    assert (config.train.batch, config.steps, config.measured[-1]) == (7, 90, 90)


def test_a_swarm_that_diverged_is_a_failure(store: TokenStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def diverge(*_: object, **__: object) -> Path:
        columns = {"run": ["even"], "step": 2, "status": "diverged at step 2", "mixture/web": 0.5, "mixture/code": 0.5}
        pd.DataFrame({**columns, "loss/web": np.nan, "loss/code": np.nan}).to_csv("diverged.csv", index=False)
        return Path("diverged.csv")

    Path("swarm").mkdir()
    monkeypatch.setattr("bimixjax.proxy.train_swarm", diverge)
    assert bimix("design store --out design.csv --spread 0") == DONE
    assert bimix(f"swarm design.csv store swarm {TINY}") == FAILED


def test_a_swarm_that_was_stopped_has_its_own_exit_code(
    store: TokenStore, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise Stopped("stopped at step 7")

    monkeypatch.setattr("bimixjax.proxy.train_swarm", stop)
    assert bimix("design store --out design.csv --spread 0") == DONE
    assert bimix(f"swarm design.csv store swarm {TINY}") == STOPPED == 75
    assert capsys.readouterr().err.endswith("bimix: stopped at step 7 (exit code 75)\n")


def test_demo_shows_the_loop_and_leaves_its_page(
    folder: Path, tiny_loop: LoopResult, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[LoopConfig] = []

    def looped(place: Path, config: LoopConfig, **_: object) -> LoopResult:
        asked.append(config)
        Path(place).mkdir()
        return tiny_loop

    monkeypatch.setattr(workflow, "run_loop", looped)
    assert bimix("demo --steps 50") == DONE
    assert (asked[0].swarm.steps, asked[0].law) == (50, "auto")
    shown = capsys.readouterr().out
    assert "Lowest measured mean loss" in shown
    assert "Report: bimix-demo/report.html" in shown
    assert Path("bimix-demo/report.html").exists()
    assert Path("bimix-demo/report.md").exists()
    assert yaml.safe_load(Path("bimix-demo/config.yaml").read_text())["steps"] == 50
    Path("other.yaml").write_text("folder: elsewhere\nsteps: 60\n")
    assert bimix("demo --config other.yaml --json") == DONE
    assert json.loads(capsys.readouterr().out)["proof"]["ranked"] == list(tiny_loop.proof.ranked)
    assert Path("elsewhere/report.md").exists()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("corpus new --domain web", "allowed: NAME=PATH"),
        ("corpus new --domain web=none.txt", "none.txt: no such file"),
        ("corpus new --domain a=web.jsonl --domain a=code.jsonl", "twice"),
        ("corpus new --domain a=web.jsonl --tokenizer web.jsonl", "not a `tokenizers` JSON file"),
        ("corpus web.jsonl --domain a=code.jsonl", "a file is there"),
        ("entropy none", "none: no such folder"),
        ("entropy store --out entropy.txt", "suffix is '.txt'"),
        ("entropy store --sequence-length 1", "allowed: 2 or more"),
        ("entropy torn", "write the token store anew"),
        ("design store --out design.parquet", "suffix is '.parquet'"),
        ("design", "either a token store or --inventory"),
        ("design store --inventory web=1,code=1", "either a token store or --inventory"),
        ("design --inventory web=1,code=1 --entropy joint", "--entropy needs a token store"),
        ("design --inventory web=1,code=x", "inventory 'code' is 'x'; allowed: a number"),
        ("design store --entropy joind", "entropy is 'joind'"),
        ("design store --run-seeds 1,x", "--run-seeds has 'x'"),
        ("design store --concentration 0", "concentration is 0"),
        ("swarm none.csv store new", "none.csv: no such file"),
        ("swarm web.jsonl store new", "the file's suffix is '.jsonl'"),
        ("swarm design.csv torn new", "write the token store anew"),
        ("swarm design.csv store new --shard 1", "allowed: I/N"),
        ("swarm design.csv store new --shard auto", "--shard auto finds none of SLURM_ARRAY_TASK_ID"),
        ("swarm design.csv store new --schedule wsd --targets books", "unknown target 'books'"),
        ("swarm design.csv store", "takes DESIGN STORE FOLDER, or --status FOLDER"),
        ("swarm --status store", "store: holds no swarm"),
        ("swarm design.csv store new --shard 9/9", "shard is 9/9"),
        ("swarm design.csv store new --eval-steps 600", "eval_steps has 600"),
        ("swarm design.csv store new --steps 0", "steps is 0"),
        ("swarm design.csv store new --simulate-epochs 1B", "--simulate-epochs TOKENS and --inventory go together"),
        ("swarm design.csv store new --inventory web=1B", "--simulate-epochs TOKENS and --inventory go together"),
        ("swarm design.csv store new --simulate-epochs 1T --inventory web=1", "allowed: at least one window of 129"),
        ("swarm design.csv store new --simulate-epochs 1 --inventory web=9B", "and there are 2989; allowed"),
        ("swarm design.csv store gs://bucket/new", "gs://bucket/new is in an object store"),
        ("demo new --law bimx", "law is 'bimx'"),
        ("demo web.jsonl/new", "Not a directory"),
    ],
)
def test_wrong_input_is_one_clean_line(
    line: str, words: str, store: TokenStore, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bimix("design store --out design.csv --spread 0") == DONE
    assert bimix("corpus torn --domain web=web.jsonl") == DONE
    with Path("torn/web/train.bin").open("r+b") as file:
        file.truncate(100)
    capsys.readouterr()
    assert bimix(line) == (FAILED if words == "Not a directory" else BAD_INPUT)
    printed = capsys.readouterr()
    assert printed.out == ""
    *progress, error = printed.err.splitlines()
    assert words in error
    assert error.startswith("bimix: ")
    assert progress in ([], ["bimix: corpus"], [f"bimix: swarm of {len(Design.read('design.csv'))} runs"])
    assert not [path for path in Path().glob("*") if path.name.startswith((".new", "new"))]


def test_an_interrupt_is_said_in_one_line(
    store: TokenStore, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("bimixjax.corpus.entropy.corpus_entropies", interrupt)
    capsys.readouterr()
    assert bimix("entropy store --out entropy.json") == FAILED
    assert capsys.readouterr() == ("", "bimix: interrupted\n")
    assert not Path("entropy.json").exists()


def test_a_sparse_config_may_hold_some_positional_options(store: TokenStore) -> None:
    assert bimix("design store --out design.csv --spread 0") == DONE
    Path("sparse.yaml").write_text("design: design.csv\nstore: none\n")
    assert bimix("swarm --config sparse.yaml") == BAD_INPUT


def test_a_swarm_in_rounds_plans_trains_and_plans_again(capsys: pytest.CaptureFixture[str], store: TokenStore) -> None:
    # 32 tokens of a run, 4 of which may be of code: share .5 of 32 in 4 epochs.
    limits = "--upper web=0.8 --inventory web=1M,code=4 --max-epochs 4 --group both=web+code:1 --near uniform:0.5"
    assert bimix(f"swarm plan store swarm --rounds 2 --per-round 2 {limits} --law bimix {TINY}") == DONE
    shown = capsys.readouterr()
    assert "round 2 of 2" in shown.err
    assert "outside the limits" in shown.out
    table, best = Observations.read("swarm/observations.csv"), OptimalMixture.load("swarm/mixture.json")
    assert table.runs == ("plan-1", "plan-2", "plan-3", "plan-4")
    for shares in (*table.proportions, best.proportions):
        by_domain = dict(zip(table.domains, shares.tolist(), strict=True))
        assert by_domain["web"] <= 0.8 + 1e-9
        assert by_domain["code"] <= 0.5 + 1e-9
    assert FitResult.load("swarm/fit.json").domains == best.domains == table.domains


def test_rounds_begin_with_a_design_that_is_given(store: TokenStore) -> None:
    assert bimix("plan --domains web,code --runs 2 --out first.csv") == DONE
    assert bimix(f"swarm first.csv store swarm --rounds 1 --upper web=0.9 {TINY}") == DONE
    assert Observations.read("swarm/observations.csv").runs == ("plan-1", "plan-2")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("swarm plan store swarm", "go with --rounds"),
        ("swarm first.csv store swarm --upper web=0.5", "go with --rounds"),
        ("swarm first.csv store swarm --law bimix", "go with --rounds"),
        ("swarm plan store swarm --rounds 2 --shard 0/2", "leave --shard out"),
        ("swarm plan store swarm --rounds 2 --law bimx", "Did you mean 'bimix'"),
    ],
)
def test_what_does_not_go_with_rounds_is_said(line: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert bimix(line) == BAD_INPUT
    assert message in capsys.readouterr().err
