"""The same two runs in every format that `bimix import` reads, after the schema of each, to import and to damage.

Shares and losses are made up; `SHARES` and `loss` say what every import must give.
"""

import json
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import pandas as pd

SHARES = {"1": {"web": 0.75, "code": 0.25}, "2": {"web": 0.4, "code": 0.6}}
STEPS = (100, 200)
DOMAINS = ("web", "code")


def loss(run: str, step: int, domain: str) -> float:
    """The loss of a run on a domain at a step."""
    return round(3 - SHARES[run][domain] + 50 / step, 4)


@dataclass(frozen=True)
class Foreign:
    """Files of one format.

    Attributes:
        make: writes them into a folder and returns their paths, that to damage first.
        kinds: what they are recognized as, in the order of their paths.
        steps: which steps they tell of; () where they have no steps, and the last losses.
        targets: name in the table -> domain whose losses they are.
        options: what the import has to be told.
    """

    make: Callable[[Path], list[Path]]
    kinds: tuple[str, ...]
    steps: tuple[int, ...] = STEPS
    targets: Mapping[str, str] = field(default_factory=lambda: {"web": "web", "code": "code"})
    options: Mapping[str, Any] = field(default_factory=dict)


def _rows() -> list[dict[str, Any]]:
    return [
        {"run": run, "step": step} | {f"eval/{domain}/loss": loss(run, step, domain) for domain in DOMAINS}
        for run in SHARES
        for step in STEPS
    ]


def _mixtures(folder: Path) -> Path:
    rows = [{"run": run} | {f"mixture/{domain}": share for domain, share in of.items()} for run, of in SHARES.items()]
    pd.DataFrame(rows[::-1]).to_csv(folder / "mixtures.csv", index=False)
    return folder / "mixtures.csv"


def _olmix(folder: Path) -> list[Path]:
    ratios = [{"run_id": run, "name": f"olmo-{run}", "index": i} | of for i, (run, of) in enumerate(SHARES.items())]
    last = [{"run_id": run} | {domain: loss(run, STEPS[-1], domain) for domain in DOMAINS} for run in reversed(SHARES)]
    pd.DataFrame(ratios).to_csv(folder / "ratios.csv", index=False)
    pd.DataFrame(last).to_csv(folder / "metrics.csv", index=False)
    return [folder / "metrics.csv", folder / "ratios.csv"]


def _regmix(folder: Path) -> list[Path]:
    shares = [{f"train_the_pile_{domain}": share for domain, share in of.items()} for of in SHARES.values()]
    index = pd.Index([int(run) for run in SHARES], name="index")
    pd.DataFrame(shares, index=index).to_csv(folder / "train_mixture_1m.csv")
    last = [
        {"index": int(run)} | {f"metric/the_pile_{domain}_val_loss": loss(run, STEPS[-1], domain) for domain in DOMAINS}
        for run in reversed(SHARES)
    ]
    pd.DataFrame(last).to_csv(folder / "train_pile_loss_1m.csv", index=False)
    return [folder / "train_mixture_1m.csv", folder / "train_pile_loss_1m.csv"]


def _wide() -> pd.DataFrame:
    frame = pd.DataFrame(_rows()).rename(columns={"run": "run_name"})
    for domain in DOMAINS:
        frame[f"w_{domain}"] = [f"{100 * SHARES[run][domain]:g}%" for run in frame["run_name"]]
    return frame


def _wide_csv(folder: Path) -> list[Path]:
    """As a spreadsheet writes it in much of Europe, with the index of pandas."""
    text = _wide().assign(step=lambda frame: [f"{step:,}" for step in frame["step"]]).to_csv(sep=";", decimal=",")
    (folder / "wide.csv").write_text(text, encoding="utf-8-sig")
    return [folder / "wide.csv"]


def _wide_parquet(folder: Path) -> list[Path]:
    _wide().to_parquet(folder / "wide.parquet")
    return [folder / "wide.parquet"]


def _lines(folder: Path) -> list[Path]:
    nested = [
        {"run": run, "step": step, "train_weights": SHARES[run]}
        | {"eval": {domain: {"loss": loss(run, step, domain)} for domain in DOMAINS}}
        for run in SHARES
        for step in STEPS
    ]
    (folder / "runs.jsonl").write_text("\n".join(map(json.dumps, nested)))
    return [folder / "runs.jsonl"]


def _long(folder: Path) -> list[Path]:
    rows = [(run, step, domain, loss(run, step, domain)) for run in SHARES for step in STEPS for domain in DOMAINS]
    pd.DataFrame(rows[::-1], columns=["run", "step", "target", "loss"]).to_csv(folder / "long.csv", index=False)
    shares = [(run, domain, share) for run, of in SHARES.items() for domain, share in of.items()]
    pd.DataFrame(shares, columns=["run", "domain", "share"]).to_csv(folder / "shares.csv", index=False)
    return [folder / "long.csv", folder / "shares.csv"]


def _panel(folder: Path) -> list[Path]:
    curves: dict[str, Any] = {"Step": STEPS}
    for run in SHARES:
        for domain in DOMAINS:
            values = [loss(run, step, domain) for step in STEPS]
            curves |= {f"{run} - eval/{domain}/loss{behind}": values for behind in ("", "__MIN", "__MAX")}
    pd.DataFrame(curves).to_csv(folder / "wandb_export.csv", index=False)
    runs = [
        {"Name": run, "State": "finished"} | {f"data.train_weights.{domain}": share for domain, share in of.items()}
        for run, of in SHARES.items()
    ]
    pd.DataFrame(runs).to_csv(folder / "runs.csv", index=False)
    return [folder / "wandb_export.csv", folder / "runs.csv"]


def _history(folder: Path) -> list[Path]:
    paths = []
    for run in SHARES:
        rows = [{"_step": row["step"], "_timestamp": 1e9, **row} for row in _rows() if row["run"] == run]
        paths.append(folder / f"run-{run}-history.parquet")
        pd.DataFrame(rows).drop(columns=["run", "step"]).to_parquet(paths[-1])
    configs = {run: {"data": {"value": {"train_weights": of}, "desc": None}} for run, of in SHARES.items()}
    (folder / "configs.json").write_text(json.dumps(configs))
    return [*paths, folder / "configs.json"]


def _maxtext(folder: Path) -> list[Path]:
    lines: list[dict[str, Any]] = []
    for row in _rows():
        fixed = {"step": float(row["step"]), "run_name": row["run"]}
        lines.append({"learning/loss": 9.0, "perf/step_time_seconds": 1.0} | fixed)
        lines.append({"eval/avg_loss": row["eval/web/loss"]} | fixed)
    (folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return [folder / "metrics.jsonl", _mixtures(folder)]


def _levanter(folder: Path) -> list[Path]:
    paths = []
    for run, of in SHARES.items():
        config = {"trainer": {"id": run}, "data": {"train_weights": of}}
        events: list[dict[str, Any]] = [{"event": "hparams", "hparams": config}]
        for row in (row for row in _rows() if row["run"] == run):
            metrics = {name: value for name, value in row.items() if name.startswith("eval/")}
            events.append({"event": "log", "step": row["step"], "metrics": metrics | {"train/loss": 9.0}})
        events.append({"event": "finish", "summary": {}})
        paths.append(folder / f"{run}.log")
        lines = [f"2026-11-30 INFO levanter: {json.dumps({'tracker': 'json_logger'} | event)}" for event in events]
        paths[-1].write_text("\n".join(["2026-11-30 INFO starting", *lines]))
    return paths


def _tensorboard(folder: Path) -> list[Path]:
    event = import_module("tensorboard.compat.proto.event_pb2").Event
    summary = import_module("tensorboard.compat.proto.summary_pb2").Summary
    writer_of = import_module("tensorboard.summary.writer.event_file_writer").EventFileWriter
    for run in SHARES:
        writer = writer_of(str(folder / "events" / run / "tensorboard"))
        for row in (row for row in _rows() if row["run"] == run):
            values = [summary.Value(tag=f"eval/{d}/loss", simple_value=row[f"eval/{d}/loss"]) for d in DOMAINS]
            writer.add_event(event(step=row["step"], wall_time=1e9, summary=summary(value=values)))
        writer.close()
    return [folder / "events", _mixtures(folder)]


def _mlflow(folder: Path) -> list[Path]:
    rows = [
        {"run_id": run, "experiment_id": "0", "status": "FINISHED", "tags.mlflow.runName": f"run-{run}"}
        | {f"metrics.eval/{domain}/loss": loss(run, STEPS[-1], domain) for domain in DOMAINS}
        | {f"params.mixture/{domain}": str(share) for domain, share in of.items()}
        for run, of in SHARES.items()
    ]
    pd.DataFrame(rows).to_csv(folder / "mlflow.csv")
    return [folder / "mlflow.csv"]


def _trackio(folder: Path) -> list[Path]:
    path = folder / "project.db"
    path.unlink(missing_ok=True)
    fixed = "id INTEGER PRIMARY KEY AUTOINCREMENT, run_id TEXT NOT NULL, run_name TEXT NOT NULL"
    with closing(sqlite3.connect(path)) as project, project:
        project.execute(f"CREATE TABLE metrics ({fixed}, step INTEGER NOT NULL, metrics TEXT NOT NULL)")
        project.execute(f"CREATE TABLE configs ({fixed}, config TEXT NOT NULL)")
        for row in _rows():
            metrics = json.dumps({f"eval/{domain}/loss": row[f"eval/{domain}/loss"] for domain in DOMAINS})
            insert = "INSERT INTO metrics (run_id, run_name, step, metrics) VALUES (?, ?, ?, ?)"
            project.execute(insert, (f"id-{row['run']}", row["run"], row["step"], metrics))
        for run, of in SHARES.items():
            insert = "INSERT INTO configs (run_id, run_name, config) VALUES (?, ?, ?)"
            project.execute(insert, (f"id-{run}", run, json.dumps({"train_weights": of, "_Username": "x"})))
    return [path]


def _harness(folder: Path) -> list[Path]:
    for run in SHARES:
        made = folder / "lm_eval" / run
        made.mkdir(parents=True, exist_ok=True)
        web, code = (loss(run, STEPS[-1], domain) for domain in DOMAINS)
        arc = {"alias": "arc_easy", "acc,none": 1 - web / 10, "acc_stderr,none": 0.01}
        wikitext = {"bits_per_byte,none": code, "bits_per_byte_stderr,none": "N/A", "word_perplexity,none": 99.0}
        found = {
            "results": {"arc_easy": arc, "wikitext": wikitext},
            "group_subtasks": {"arc_easy": [], "wikitext": []},
            "higher_is_better": {"arc_easy": {"acc": True}, "wikitext": {"bits_per_byte": False}},
            "n-samples": {"arc_easy": {"original": 2376, "effective": 2376}},
            "config": {"model": "hf", "model_args": f"pretrained={run}"},
            "model_name": run,
            "model_name_sanitized": run,
        }
        (made / "results_2026-11-30T01-02-03.456789.json").write_text(json.dumps(found, indent=2))
    return [folder / "lm_eval", _mixtures(folder)]


PERCENT_NAMES = {"w_*": "mixture/*"}
FORMATS: Mapping[str, Foreign] = {
    "olmix": Foreign(_olmix, ("olmix metrics", "olmix ratios"), steps=()),
    "regmix": Foreign(_regmix, ("regmix", "regmix"), steps=()),
    "wide, CSV": Foreign(_wide_csv, ("wide",), options={"names": PERCENT_NAMES}),
    "wide, Parquet": Foreign(_wide_parquet, ("wide",), options={"names": PERCENT_NAMES}),
    "wide, JSON lines": Foreign(_lines, ("wide",)),
    "long": Foreign(_long, ("long", "long")),
    "wandb, panel": Foreign(_panel, ("wandb panel", "wandb runs")),
    "wandb, history": Foreign(_history, ("wandb history", "wandb history", "configs")),
    "maxtext": Foreign(_maxtext, ("maxtext", "wide"), targets={"eval": "web"}, options={"weighted_by": "tokens"}),
    "levanter": Foreign(_levanter, ("levanter", "levanter")),
    "tensorboard": Foreign(_tensorboard, ("tensorboard", "wide")),
    "mlflow": Foreign(_mlflow, ("mlflow",), steps=()),
    "trackio": Foreign(_trackio, ("trackio",)),
    "lm-eval": Foreign(_harness, ("lm-eval", "wide"), steps=(), targets={"wikitext/bits_per_byte": "code"}),
}
