"""The files of `bimix swarm --print-job`: they parse, and start the right command with the scheduler's variables."""

import json
import os
import subprocess
from pathlib import Path

import pytest
import yaml

from bimixjax.cli import run
from bimixjax.cli.console import BAD_INPUT, DONE

LINE = ["swarm", "my design.csv", "store", "out", "--steps", "4", "--eval-steps", "2,4", "--shard", "auto/3"]
WANTED = ["swarm", "my design.csv", "store", "out", "--steps=4", "--eval-steps=2,4", "--shard"]
# Stands for a program of the scheduler or for bimix: writes its arguments, and ends as it is told.
STUB = """#!/bin/bash
for argument in "$0" "$@"; do printf '%s\\n' "$argument"; done >> "$LOG"
echo >> "$LOG"
if [ "$(basename "$0")" = srun ]; then exec "$@"; fi
if [ "$(basename "$0")" = bimix ]; then exit "$CODE"; fi
"""


def printed(kind: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert run([*LINE, "--print-job", kind]) == DONE
    return capsys.readouterr().out


def executed(script: str, folder: Path, **environment: str) -> tuple[int, list[list[str]]]:
    """Run a script among stubs; return its exit code, and the name and arguments of each program that it called."""
    for name in ("srun", "scontrol", "xpk", "bimix"):
        (folder / name).write_text(STUB)
        (folder / name).chmod(0o755)
    (folder / "job").write_text(script)
    path = f"{folder}:{os.environ['PATH']}"
    known = {"PATH": path, "LOG": str(folder / "log"), **environment}
    code = subprocess.run(["bash", str(folder / "job")], env=known, check=False).returncode
    calls = (folder / "log").read_text().strip("\n").split("\n\n")
    return code, [[Path(name).name, *rest] for name, *rest in (call.splitlines() for call in calls)]


@pytest.mark.parametrize("code", [0, 1, 75])
def test_a_slurm_job_trains_and_queues_what_was_stopped_again(
    code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = printed("slurm", capsys)
    assert "#SBATCH --array=0-2\n" in script
    array = {"SLURM_ARRAY_JOB_ID": "12", "SLURM_ARRAY_TASK_ID": "2"}
    ended, calls = executed(script, tmp_path, CODE=str(code), **array)
    assert ended == code
    assert calls[1] == ["bimix", *WANTED, "auto/3"]
    assert calls[2:] == ([["scontrol", "requeue", "12_2"]] if code == 75 else [])


def test_an_xpk_script_creates_a_workload_for_each_shard(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ended, calls = executed(printed("xpk", capsys), tmp_path, CLUSTER="mine", IMAGE="my/image")
    assert (ended, [call[0] for call in calls]) == (0, ["xpk"] * 3)
    for index, call in enumerate(calls):
        options = dict(zip(call[3::2], call[4::2], strict=True))
        assert (options["--env"], options["--restart-on-exit-codes"]) == (f"BIMIX_SHARD={index}/3", "75")
        command = subprocess.run(
            ["bash", "-c", f"printf '%s\\n' {options['--command']}"], capture_output=True, text=True
        )
        assert command.stdout.splitlines() == ["bimix", *WANTED, "auto"]


def test_a_kubernetes_job_is_an_indexed_one(capsys: pytest.CaptureFixture[str]) -> None:
    spec = yaml.safe_load(printed("k8s", capsys))["spec"]
    assert (spec["completionMode"], spec["completions"], spec["podReplacementPolicy"]) == ("Indexed", 3, "Failed")
    (container,) = spec["template"]["spec"]["containers"]
    assert container["command"] == ["bimix", *WANTED, "auto/3"]
    assert spec["podFailurePolicy"]["rules"][1]["onExitCodes"]["values"] == [75]


def test_a_skypilot_task_takes_its_shard_from_the_environment(capsys: pytest.CaptureFixture[str]) -> None:
    text = printed("skypilot", capsys)
    task = yaml.safe_load(text)
    assert task["run"] == "cd /work && bimix swarm 'my design.csv' store out --steps=4 --eval-steps=2,4 --shard auto"
    assert task["resources"]["job_recovery"]["recover_on_exit_codes"] == [75]
    assert "for i in $(seq 0 2); do sky jobs launch" in text


def test_a_job_needs_to_know_how_many_shards(capsys: pytest.CaptureFixture[str]) -> None:
    for wrong in ("auto", "0/3", "auto/0", "auto/x"):
        assert run([*LINE[:-1], wrong, "--print-job", "slurm"]) == BAD_INPUT
        assert f"--shard is '{wrong}'; allowed here: auto/N" in capsys.readouterr().err
    assert run(["swarm", "--print-job", "slurm"]) == BAD_INPUT
    assert "takes DESIGN STORE FOLDER" in capsys.readouterr().err


def test_a_job_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*LINE, "--print-job", "slurm", "--json"]) == DONE
    assert json.loads(capsys.readouterr().out)["job"].startswith("#!/bin/bash\n")
