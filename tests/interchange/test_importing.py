"""Runs are joined by id, and whatever does not fit together is an error with its place, or a note."""

import json
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from benchmarks.foreign_files import FORMATS
from bimixjax import InputError, Observations, import_runs

RATIOS = {"run_id": ["a", "b", "c"], "web": [0.75, 0.4, 0.0], "code": [0.25, 0.6, 1.0]}
METRICS = {"run_id": ["c", "a", "b"], "arc": [3.0, 1.0, 2.0]}


def pair(folder: Path, ratios: dict[str, Any] | None = None, metrics: dict[str, Any] | None = None) -> list[Path]:
    """olmix's two files, whose rows are in different orders."""
    pd.DataFrame(RATIOS | (ratios or {})).to_csv(folder / "ratios.csv", index=False)
    pd.DataFrame(METRICS | (metrics or {})).to_csv(folder / "metrics.csv", index=False)
    return [folder / "ratios.csv", folder / "metrics.csv"]


def by_run(found: Observations, column: str) -> dict[str, float]:
    frame = found.to_frame()
    return dict(zip(frame["run"], frame[column], strict=True))


def log(path: Path, rows: list[tuple[int, dict[str, float]]]) -> Path:
    """A log of MaxText, of a run that is called as its file."""
    lines = [{**metrics, "step": float(step), "run_name": path.stem} for step, metrics in rows]
    path.write_text("\n".join(map(json.dumps, lines)))
    return path


def test_rows_meet_by_id_and_zero_shares_stay(tmp_path: Path) -> None:
    found = import_runs(pair(tmp_path))
    assert by_run(found.observations, "loss/arc") == {"a": 1.0, "b": 2.0, "c": 3.0}
    assert by_run(found.observations, "mixture/web") == {"a": 0.75, "b": 0.4, "c": 0.0}
    assert found.notes == ()


def test_a_folder_of_the_pair_is_read_too(tmp_path: Path) -> None:
    pair(tmp_path)
    assert import_runs(tmp_path).kinds == {str(tmp_path): "olmix metrics, olmix ratios"}


def test_a_pair_comes_back_as_the_table_that_it_was_made_of(observations_folder: Path, tmp_path: Path) -> None:
    whole = Observations.read(observations_folder / "topics_24.csv")
    frame = whole.to_frame()
    for name, prefix, seed in (("ratios", "mixture/", 1), ("metrics", "loss/", 2)):
        columns = [column for column in frame if column.startswith(prefix)]
        part = pd.DataFrame(frame[["run", *columns]]).sample(frac=1, random_state=seed)
        part = part.set_axis([column.removeprefix(prefix) for column in part], axis=1)
        part.to_csv(tmp_path / f"{name}.csv")
    found = import_runs([tmp_path / "ratios.csv", tmp_path / "metrics.csv"]).observations
    made = found.to_frame().set_index("run").loc[frame["run"]].reset_index()
    pd.testing.assert_frame_equal(made, pd.DataFrame(frame[list(made)]), check_exact=True)
    assert len(made) == 127


def test_a_metric_missing_in_one_run_is_missing_there_only(tmp_path: Path) -> None:
    found = import_runs(pair(tmp_path, metrics={"arc": [3.0, None, 2.0], "piqa": [1.1, 1.2, 1.3]})).observations
    assert np.isnan(by_run(found, "loss/arc")["a"])
    assert by_run(found, "loss/piqa") == {"c": 1.1, "a": 1.2, "b": 1.3}


def test_weights_that_do_not_sum_to_one_are_refused_unless_they_are_to_be_divided(tmp_path: Path) -> None:
    paths = pair(tmp_path, {"web": [3.0, 2.0, 0.0], "code": [1.0, 3.0, 5.0]})
    with pytest.raises(
        InputError,
        match=r"ratios\.csv, data row 3 .*, run 'c': the 2 shares .*\('web', 'code'\) sum to 5; .*--normalize",
    ):
        import_runs(paths)
    found = import_runs(paths, normalize=True)
    assert by_run(found.observations, "mixture/web") == {"a": 0.75, "b": 0.4, "c": 0.0}
    assert "shares are divided by their sums, as asked" in found.notes


def test_percent_is_seen_and_never_mixed_with_shares(tmp_path: Path) -> None:
    found = import_runs(pair(tmp_path, {"web": [75, 40, 0], "code": [25, 60, 100]}))
    assert by_run(found.observations, "mixture/code") == {"a": 0.25, "b": 0.6, "c": 1.0}
    assert "shares are percent there, and are divided by 100" in found.notes
    with pytest.raises(InputError, match=r"run 'b': the 2 shares .* sum to 1; .*those of run 'c' are percent"):
        import_runs(pair(tmp_path, {"web": [75, 0.4, 0], "code": [25, 0.6, 100]}))


def test_a_blank_share_is_zero_only_where_the_others_are_all(tmp_path: Path) -> None:
    found = import_runs(pair(tmp_path, {"web": [0.75, 0.4, None]}))
    assert by_run(found.observations, "mixture/web")["c"] == 0
    assert "1 blank shares are taken as 0, since the others sum to all: web" in found.notes
    with pytest.raises(InputError, match=r"run 'b': .* sum to 0\.6"):
        import_runs(pair(tmp_path, {"web": [0.75, None, None]}))


def test_runs_on_one_side_are_left_out_and_named(tmp_path: Path) -> None:
    found = import_runs(pair(tmp_path, metrics={"run_id": ["d", "a", "b"]}))
    assert found.observations.runs == ("a", "b")
    assert "1 runs have losses and no shares, and are left out: 'd'" in found.notes
    assert "1 runs have shares and no losses, and are left out: 'c'" in found.notes
    with pytest.raises(InputError, match="no run has both .*: losses are of 'x', 'y', 'z', shares of 'a'"):
        import_runs(pair(tmp_path, metrics={"run_id": ["x", "y", "z"]}))


@pytest.mark.parametrize(
    ("ratios", "metrics", "words"),
    [
        (
            {"run_id": ["a", "b", "a"]},
            {},
            r"run 'a' has two values of 'mixture/web': 0\.75 \(.*ratios\.csv, data row 1 ",
        ),
        (
            {},
            {"run_id": ["a", "a", "b"]},
            r"run 'a' has several losses of 'arc' and no step: 3 \(.*metrics\.csv, data row",
        ),
        ({"web": [-0.1, 0.4, 0]}, {}, r"ratios\.csv, data row 1 \(line 2\), column 'web'.*: the share is -0\.1"),
        ({}, {"arc": [3, -1, 2]}, r"metrics\.csv, data row 2 .*, run 'a': the loss is -1; .*--map NAME=accuracy/"),
        ({}, {"arc": ["3", "low", "2"]}, r"metrics\.csv, data row 2 .*got 'low', a number belongs here"),
    ],
)
def test_what_cannot_be_right_is_named_with_its_place(
    ratios: dict[str, Any], metrics: dict[str, Any], words: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=words):
        import_runs(pair(tmp_path, ratios, metrics))


def test_an_error_is_one_line_whatever_the_names_are(tmp_path: Path) -> None:
    paths = pair(tmp_path)
    pd.DataFrame({"run_id": ["a"], "we\nb": [0.5], "code": [0.25]}).to_csv(paths[0], index=False)
    with pytest.raises(InputError) as caught:
        import_runs(paths)
    assert str(caught.value).count("\n") == 0
    assert "('we\\nb', 'code') sum to 0.75" in str(caught.value)


def test_rows_that_are_twice_the_same_are_one(tmp_path: Path) -> None:
    paths = pair(tmp_path)
    for path in paths:
        frame = pd.read_csv(path)
        pd.concat([frame, frame]).to_csv(path, index=False)
    assert len(import_runs(paths).observations) == 3


def test_after_a_restart_the_later_losses_count(tmp_path: Path) -> None:
    """Up to the step to which it went back, the first losses stay; what was logged beyond it is of a lost branch."""
    steps = [(100, 5.0), (200, 4.0), (250, 3.9), (300, 3.8), (200, 4.1), (300, 3.7)]
    path = log(tmp_path / "a.jsonl", [(step, {"eval/avg_loss": loss}) for step, loss in steps])
    mixtures = tmp_path / "mixtures.csv"
    pd.DataFrame({"run": ["a"], "mixture/web": [1.0]}).to_csv(mixtures)
    found = import_runs([path, mixtures], weighted_by="tokens")
    assert found.observations.step.tolist() == [100, 200, 300]  # type: ignore[union-attr]
    assert found.observations.losses.ravel().tolist() == [5.0, 4.1, 3.7]
    assert any(note.startswith("3 losses are left out, since a later row") and "'a'" in note for note in found.notes)


def test_of_a_table_the_last_row_of_a_step_counts_and_no_other_is_lost(tmp_path: Path) -> None:
    """Rows of a table are in no order of time: a step below that of the row before it is no restart."""
    table = {"run": ["a"] * 4, "step": [300, 100, 200, 100], "loss/x": [3.0, 5.0, 4.0, 5.5], "mixture/web": [1.0] * 4}
    pd.DataFrame(table).to_csv(tmp_path / "runs.csv")
    found = import_runs(tmp_path / "runs.csv")
    assert found.observations.losses.ravel().tolist() == [5.5, 4.0, 3.0]
    assert any(note.startswith("1 losses are left out") for note in found.notes)


def test_metrics_that_are_logged_apart_come_together_and_step_zero_goes(tmp_path: Path) -> None:
    rows = [(0, {"eval/web/loss": 9.0}), (100, {"eval/web/loss": 4.0}), (100, {"eval/code/loss": 3.0, "lr": 1e-3})]
    files = [log(tmp_path / f"{run}.jsonl", rows) for run in "ab"]
    pd.DataFrame({"run": ["a", "b"], "mixture/web": [1.0, 0.5], "mixture/code": [0.0, 0.5]}).to_csv(tmp_path / "m.csv")
    found = import_runs([*files, tmp_path / "m.csv"], weighted_by="tokens")
    assert found.observations.losses.tolist() == [[4.0, 3.0], [4.0, 3.0]]
    assert found.unused == ("lr", "Unnamed: 0")
    assert "2 rows at step 0, before the training, are left out" in found.notes


def test_a_file_that_goes_on_with_a_run_follows_whatever_the_order_of_files(tmp_path: Path) -> None:
    pd.DataFrame({"run": ["a"], "mixture/web": [1.0]}).to_csv(tmp_path / "m.csv")
    paths = []
    for name, steps in (("second", (200, 300)), ("first", (100, 200))):
        losses = [1000 / step + len(name) for step in steps]
        rows = {"run": ["a"] * 2, "_step": steps, "_timestamp": [1, 2], "eval/web/loss": losses}
        paths.append(tmp_path / f"{name}.parquet")
        pd.DataFrame(rows).to_parquet(paths[-1])
    found = import_runs([*paths, tmp_path / "m.csv"]).observations
    assert by_run(found, "loss/web") == {"a": 1000 / 300 + 6}
    assert found.losses.ravel().tolist() == pytest.approx([15, 11, 1000 / 300 + 6])


def test_runs_of_several_sizes_under_one_id_are_told_apart(tmp_path: Path) -> None:
    """As where the id is that of a mixture, on which several models were trained."""
    losses = {"run": ["a", "a", "b"], "model_size": [1e6, 4e6, 1e6], "loss/x": [3.0, 2.0, 4.0]}
    pd.DataFrame(losses).to_csv(tmp_path / "losses.csv")
    pd.DataFrame({"run": ["a", "b"], "mixture/web": [1.0, 0.5], "mixture/y": [0.0, 0.5]}).to_csv(tmp_path / "m.csv")
    found = import_runs([tmp_path / "losses.csv", tmp_path / "m.csv"]).observations
    assert by_run(found, "mixture/web") == {"a/model_size-1000000": 1.0, "a/model_size-4000000": 1.0, "b": 0.5}


def test_higher_is_better_becomes_an_error_that_is_least_where_the_accuracy_is_most(tmp_path: Path) -> None:
    paths = pair(tmp_path, metrics={"arc": [0.5, 0.75, 1.0]})
    found = import_runs(paths, names={"arc": "accuracy/arc"})
    assert found.observations.targets == ("1-arc",)
    # A run that never errs leaves nothing to fit.
    assert by_run(found.observations, "loss/1-arc") == {"c": 0.5, "a": 0.25}
    assert "1 runs have shares and no losses, and are left out: 'b'" in found.notes
    assert any("higher is better in arc; kept as the error 1-arc" in note for note in found.notes)
    assert any("1 accuracies of 1 leave no error to fit" in note for note in found.notes)
    percent = import_runs(pair(tmp_path, metrics={"arc": [50, 75, 90]}), names={"arc": "accuracy/arc"}).observations
    assert by_run(percent, "loss/1-arc") == pytest.approx({"c": 0.5, "a": 0.25, "b": 0.1})
    with pytest.raises(InputError, match="the accuracy is 1.2 of 1; allowed: 0 to 1, or 0 to 100"):
        import_runs(pair(tmp_path, metrics={"arc": [50, 120, 90]}), names={"arc": "accuracy/arc"})


def test_two_accuracies_of_one_run_are_named_with_their_places(tmp_path: Path) -> None:
    paths = pair(tmp_path, metrics={"run_id": ["a", "a", "b"], "arc": [0.5, 0.6, 0.7]})
    with pytest.raises(InputError, match=r"several losses of '1-arc' and no step: 0\.5 \(.*metrics\.csv, data row 1 "):
        import_runs(paths, names={"arc": "accuracy/arc"})


def test_what_is_kept_beside_may_be_in_either_file(tmp_path: Path) -> None:
    paths = pair(tmp_path, {"lr": [1e-3, 2e-3, 3e-3]}, {"cluster": ["x", "y", "z"]})
    found = import_runs(paths, names={"lr": "meta/lr", "cluster": "meta/cluster"}).observations
    assert by_run(found, "lr") == {"c": 3e-3, "a": 1e-3, "b": 2e-3}
    assert by_run(found, "cluster") == {"c": "x", "a": "y", "b": "z"}


def test_shares_of_documents_are_converted_or_refused(tmp_path: Path) -> None:
    """Half of the documents of web, three times as long as those of code, are three quarters of the tokens."""
    path = log(tmp_path / "a.jsonl", [(100, {"eval/avg_loss": 3.0})])
    pd.DataFrame({"run": ["a"], "mixture/web": [0.5], "mixture/code": [0.5]}).to_csv(tmp_path / "m.csv")
    paths = [path, tmp_path / "m.csv"]
    with pytest.raises(InputError, match="shares are of documents, as that trainer draws them.*--weighted-by tokens"):
        import_runs(paths)
    found = import_runs(paths, tokens_per_document={"web": 3000, "code": 1000}).observations
    assert found.proportions.tolist() == [[0.75, 0.25]]
    assert import_runs(paths, weighted_by="tokens").observations.proportions.tolist() == [[0.5, 0.5]]
    with pytest.raises(InputError, match="tokens per document lack 'code'; needed: every domain"):
        import_runs(paths, tokens_per_document={"web": 3000})
    with pytest.raises(InputError, match="leave one out"):
        import_runs(paths, weighted_by="tokens", tokens_per_document={"web": 3000})


def test_ids_that_are_written_in_another_way_are_read_by_a_template(tmp_path: Path) -> None:
    names = ["ckpt__a__step-100", "ckpt__a__step-200", "ckpt__b__step-100"]
    pd.DataFrame({"run": names, "loss/x": [3.0, 2.0, 4.0]}).to_csv(tmp_path / "losses.csv")
    pd.DataFrame({"run": ["a", "b"], "mixture/web": [1.0, 0.5], "mixture/y": [0.0, 0.5]}).to_csv(tmp_path / "m.csv")
    paths = [tmp_path / "losses.csv", tmp_path / "m.csv"]
    found = import_runs(paths, ids="*__{run}__step-{step}").observations
    assert found.run.tolist() == ["a", "a", "b"]
    assert found.step.tolist() == [100, 200, 100]  # type: ignore[union-attr]
    with pytest.raises(InputError, match="no id is written as --ids 'x_{run}'; ids: 'ckpt__a__step-100'"):
        import_runs(paths, ids="x_{run}")
    with pytest.raises(InputError, match="--ids is '{run}{run}'; needed: {run} once"):
        import_runs(paths, ids="{run}{run}")


def test_a_table_of_our_own_comes_back_with_all_that_is_in_it(tmp_path: Path) -> None:
    table = {"run": ["a", "a"], "step": [1, 2], "tokens": [10, 20], "mixture/web": [1.0, 1.0], "unique/web": [5.0, 5.0]}
    frame = pd.DataFrame(table | {"loss/web": [3.0, 2.0], "cluster": ["x", "y"]})
    frame.to_csv(tmp_path / "own.csv", index=False)
    pd.testing.assert_frame_equal(
        import_runs(tmp_path / "own.csv").observations.to_frame(), Observations.from_frame(frame).to_frame()
    )


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"m.csv": "run,mixture/x\na,1"}, r"m\.csv: no column is taken for losses; .*--map 'eval/\*/loss=loss/\*'"),
        ({"m.csv": "run,loss/x,w_x\na,1,1"}, "no column is taken for shares of domains; .*unused: 'w_x'"),
        ({"m.csv": "loss/x,mixture/x\n1,1"}, "has no column with the id of a run; name it"),
        (
            {"m.csv": "run,step,loss/x,mixture/x\na,,1,1"},
            r"m\.csv, data row 1 .*'step'.*blank; every row needs",
        ),
        (
            {"a.csv": "run,step,loss/x,mixture/x\na,1,1,1", "b.csv": "run,loss/y\na,1"},
            r"a\.csv has losses by step and .*b\.csv has none",
        ),
        ({"a.csv": "Relative Time (Process),r - eval/x/loss\n1,2"}, "the panel's axis is 'Relative Time"),
        ({"a.jsonl": '{"run": "a"\n'}, r"a\.jsonl, line 1: not JSON at line 1"),
        ({"a.jsonl": '{"a": "\\ud800"}'}, "line 1: not JSON that can be read: .*surrogates"),
        ({"a.txt": "no object\n"}, "no line of it holds a JSON object"),
        ({"a.yaml": "x: 1"}, r"a\.yaml: of no kind that is known by its name; allowed: \.csv"),
        ({"a.json": "[1]"}, "neither results of lm-eval nor configurations by run"),
        ({"a.db": "x"}, "of no kind that is known"),
    ],
)
def test_what_is_lacking_is_said_with_the_way_out(files: dict[str, str], words: str, tmp_path: Path) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=words):
        import_runs([tmp_path / name for name in files])


def test_a_rule_that_matches_nothing_and_a_file_that_is_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no column is matched by 'evla/\*'; columns: 'run_id', 'web'"):
        import_runs(pair(tmp_path), names={"evla/*": "loss/*"})
    with pytest.raises(InputError, match=r"none\.csv: no such file"):
        import_runs(tmp_path / "none.csv")
    with pytest.raises(InputError, match="no file to import"):
        import_runs([])


def test_a_kind_that_no_file_is_of_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="none of the files is read as trackio: they are olmix ratios, olmix metrics"):
        import_runs(pair(tmp_path), kind="trackio")


def test_a_last_line_that_is_cut_off_is_left_out_and_told_and_any_other_is_refused(tmp_path: Path) -> None:
    path = log(tmp_path / "a.jsonl", [(100, {"eval/avg_loss": 3.0}), (200, {"eval/avg_loss": 2.0})])
    pd.DataFrame({"run": ["a"], "mixture/web": [1.0]}).to_csv(tmp_path / "m.csv")
    whole = path.read_text()
    path.write_text(whole[:-9])
    found = import_runs([path, tmp_path / "m.csv"], weighted_by="tokens")
    assert found.observations.losses.tolist() == [[3.0]]
    assert any("the last line is cut off" in note for note in found.notes)
    path.write_text(whole[9:])
    with pytest.raises(InputError, match=r"a\.jsonl, line 1: not JSON"):
        import_runs([path, tmp_path / "m.csv"], weighted_by="tokens")


def test_a_project_that_is_being_written_is_read_with_its_log(tmp_path: Path) -> None:
    (path,) = FORMATS["trackio"].make(tmp_path)
    with closing(sqlite3.connect(path)) as project:
        project.execute("PRAGMA journal_mode=WAL")
        fixed = "INSERT INTO metrics (run_id, run_name, step, metrics) VALUES ('id-1', '1', 300, ?)"
        project.execute(fixed, ('{"eval/web/loss": 1.5}',))
        project.commit()
        found = import_runs(path).observations
    assert found.losses[found.step == 300][:, 0].tolist() == [1.5]


def test_runs_of_wandb_that_did_not_finish_are_told(tmp_path: Path) -> None:
    table = {"Name": ["a", "b"], "State": ["finished", "crashed"], "loss/x": [3.0, 2.0]}
    pd.DataFrame(table | {"train_weights.web": [1.0, 1.0]}).to_csv(tmp_path / "runs.csv")
    found = import_runs(tmp_path / "runs.csv")
    assert any(note.endswith("1 runs are not finished there: crashed") for note in found.notes)


def results(folder: Path, date: str, **found: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"results_{date}.json").write_text(json.dumps({"model_name": "m", **found}))


def test_of_results_the_last_date_and_the_group_count_and_unknown_scales_do_not(tmp_path: Path) -> None:
    of = {"mmlu": {"acc,none": 0.5}, "mmlu_law": {"acc,none": 0.4}, "gen": {"bleu,none": 31.0, "f1,first": 0.2}}
    more = {"group_subtasks": {"mmlu": ["mmlu_law"]}, "higher_is_better": {"gen": {"bleu": True, "f1": True}}}
    results(tmp_path / "lm" / "a", "2026-11-01", results={"mmlu": {"acc,none": 0.1}}, **more)
    results(tmp_path / "lm" / "a", "2026-11-02", results=of, **more)
    pd.DataFrame({"run": ["a"], "mixture/web": [1.0]}).to_csv(tmp_path / "m.csv")
    found = import_runs([tmp_path / "lm", tmp_path / "m.csv"])
    assert by_run(found.observations, "loss/1-mmlu/acc") == {"a": 0.5}
    assert found.observations.targets == ("1-mmlu/acc", "1-gen/f1/first")
    assert any("those of the last date count" in note for note in found.notes)
    assert any("gen/bleu, mmlu_law/acc" in note for note in found.notes)


def test_event_files_need_their_library_and_say_what_is_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        (tmp_path / "events.out.tfevents.1").write_bytes(b"")
        patch.setitem(sys.modules, "tensorboard.util.tensor_util", None)
        with pytest.raises(InputError, match=r"event files need tensorboard: pip install 'bimixjax\[tensorboard\]'"):
            import_runs(tmp_path)
    pytest.importorskip("tensorboard")
    events, mixtures = FORMATS["tensorboard"].make(tmp_path)
    file = next(events.rglob("*tfevents*"))
    whole = file.read_bytes()
    file.write_bytes(whole[:-5])
    assert any("the last record is cut off" in note for note in import_runs([events, mixtures]).notes)
    file.write_bytes(whole[:-30] + bytes([whole[-30] ^ 1]) + whole[-29:])
    with pytest.raises(InputError, match="record 3 of 3 is damaged"):
        import_runs([events, mixtures])
