"""Tables and figures of the open questions: `python -m experiments.open_questions.summary`."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import tyro

from bimixjax import Observations
from bimixjax.loop.proof import judged
from bimixjax.loop.proposals import Proposals
from bimixjax.reports.figures import save
from experiments.open_questions import domains, epochs, media, shares
from experiments.open_questions.config import PROOF_SEEDS, Domains, Epochs

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True, kw_only=True)
class Options:
    """Fit laws to the runs, and write what they predict of others."""

    tables: Path = HERE / "results" / "tables"
    """Tables of runs: those kept here, or the folder `tables` of one's own."""
    out: Path = HERE / "results"
    """Folder for tables and figures of what was found."""
    parts: tuple[str, ...] = ("domains", "shares", "epochs", "media")
    """Of the questions."""


def main(options: Options) -> None:
    options.out.mkdir(parents=True, exist_ok=True)
    parts = {"domains": of_domains, "shares": of_shares, "epochs": of_epochs, "media": of_media}
    for part in options.parts:
        parts[part](options.tables, options.out)


def of_domains(tables: Path, out: Path) -> None:
    errors, chosen = [], []
    for count in Domains.COUNTS:
        table = Observations.read(tables / f"domains-{count}.parquet")
        errors.append(domains.judged(table).assign(domains=count))
        proposals = Proposals.load(tables / f"domains-{count}-proposals.json")
        proof = judged(proposals, Observations.read(tables / f"domains-{count}-proof.parquet"), PROOF_SEEDS)
        chosen.append(domains.chosen(proof).assign(domains=count))
    found, trained = pd.concat(errors, ignore_index=True), pd.concat(chosen, ignore_index=True)
    write(found, out / "domains.csv")
    write(trained, out / "domains_chosen.csv")
    save(domains.figure(found, trained), out / "domains.png")


def of_shares(tables: Path, out: Path) -> None:
    found = shares.judged(Observations.read(tables / "shares.parquet"))
    write(found, out / "shares.csv")
    save(shares.figure(found), out / "shares.png")


def of_epochs(tables: Path, out: Path) -> None:
    runs = {scarce: Observations.read(tables / f"epochs-{scarce}.parquet") for scarce, _ in Epochs.PAIRS}
    rows = [epochs.judged(table, scarce).assign(scarce=scarce) for scarce, table in runs.items()]
    write(pd.concat(rows, ignore_index=True), out / "epochs.csv")
    ends = {scarce: epochs.measured(table, scarce) for scarce, table in runs.items()}
    write(pd.concat([table.assign(scarce=scarce) for scarce, table in ends.items()]), out / "epochs_measured.csv")
    save(epochs.figure(ends), out / "epochs.png")


def of_media(tables: Path, out: Path) -> None:
    table = Observations.read(tables / "media.parquet")
    write(media.judged(table), out / "media.csv")
    found, error = media.taught(table)
    print(f"\nstandard error of what a domain teaches another: {error:.4f} nats per byte")
    write(found.reset_index(names="loss of"), out / "media_taught.csv")
    save(media.figure(found, error), out / "media.png")


def write(found: pd.DataFrame, path: Path) -> None:
    found.round(5).to_csv(path, index=False)
    print(f"\n{path.stem}\n{found.round(4).to_string(index=False)}", flush=True)


if __name__ == "__main__":
    main(tyro.cli(Options))
