"""Files that start a worker for each shard of a swarm: on SLURM, Kubernetes, SkyPilot, and through xpk.

Each gives a worker that is told to end two minutes to save, and starts it again where it ends with code 75. What a
cluster calls its machines, images and volumes differs: the first lines of each file say what is to be there.
"""

import shlex
from collections.abc import Sequence
from typing import Any

from bimixjax import __version__
from bimixjax._base.stopping import STOPPED

GRACE = 120
NAME = "bimix-swarm"

# Options of sbatch: slurm.schedmd.com/sbatch.html. The shell outlives a signal of its own, and queues the worker again.
SLURM = """#!/bin/bash
# sbatch THIS-FILE, in a folder that every node sees. Add your partition, account and accelerators below.
#SBATCH --job-name={name}
#SBATCH --array=0-{last}
#SBATCH --ntasks=1
#SBATCH --gpus-per-task=1
#SBATCH --time=1-00:00:00
#SBATCH --signal=TERM@{grace}
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output={name}-%a.log

trap : TERM
srun {command}
code=$?
if [ "$code" -eq {stopped} ]; then
    scontrol requeue "${{SLURM_ARRAY_JOB_ID}}_${{SLURM_ARRAY_TASK_ID}}"
fi
exit "$code"
"""

# Options of AI-Hypercomputer/xpk, src/xpk/parser/workload.py.
XPK = """#!/bin/bash
# CLUSTER=my-cluster IMAGE=my/bimixjax:{version} bash THIS-FILE; TPU_TYPE and STORAGE (an `xpk storage`, where the
# command below finds its files) may be set, too.
set -eu
for index in $(seq 0 {last}); do
    xpk workload create --cluster "${{CLUSTER:?}}" --workload "{name}-$index" --num-slices 1 \\
        --tpu-type "${{TPU_TYPE:-v5litepod-8}}" --docker-image "${{IMAGE:?}}" ${{STORAGE:+--storage "$STORAGE"}} \\
        --env "BIMIX_SHARD=$index/{count}" --max-restarts 1000 --restart-on-exit-codes {stopped} \\
        --termination-grace-period-seconds {grace} --command {command}
done
"""


def job(kind: str, command: Sequence[str], count: int) -> str:
    """Return the text of a file that trains `count` shards of a swarm.

    Args:
        kind: "slurm", "k8s", "xpk" or "skypilot".
        command: `bimix swarm ...`, without --shard.
        count: n, shards and workers.

    Example:
        >>> print(job("slurm", ["bimix", "swarm", "my design.csv", "store", "swarm"], 8).splitlines()[13])
        srun bimix swarm 'my design.csv' store swarm --shard auto/8
    """
    whole = [*command, "--shard", "auto" if kind in ("xpk", "skypilot") else f"auto/{count}"]
    names = {"name": NAME, "last": count - 1, "count": count, "grace": GRACE, "stopped": STOPPED}
    if kind == "slurm":
        return SLURM.format(command=shlex.join(whole), **names)
    if kind == "xpk":
        return XPK.format(command=shlex.quote(shlex.join(whole)), version=__version__, **names)
    return kubernetes(whole, count) if kind == "k8s" else skypilot(whole, count)


def kubernetes(command: Sequence[str], count: int) -> str:
    """Return an indexed Job (kubernetes.io/docs/concepts/workloads/controllers/job), for Kubernetes 1.33 and later.

    Neither a disruption nor a worker that has saved counts as a failure; wrong input fails its index at once.
    """
    ended = {"containerName": "swarm", "operator": "In"}
    rules = [
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]},
        {"action": "Ignore", "onExitCodes": {**ended, "values": [STOPPED]}},
        {"action": "FailIndex", "onExitCodes": {**ended, "values": [2]}},
    ]
    container = {
        "name": "swarm",
        "image": f"bimixjax:{__version__}",
        "workingDir": "/work",
        "command": list(command),
        "resources": {"limits": {"nvidia.com/gpu": 1}},
        "volumeMounts": [{"name": "work", "mountPath": "/work"}],
    }
    spec = {
        "completionMode": "Indexed",
        "completions": count,
        "parallelism": count,
        "backoffLimitPerIndex": 3,
        "podReplacementPolicy": "Failed",
        "podFailurePolicy": {"rules": rules},
        "template": {
            "spec": {
                "restartPolicy": "Never",
                "terminationGracePeriodSeconds": GRACE,
                "containers": [container],
                "volumes": [{"name": "work", "persistentVolumeClaim": {"claimName": "work"}}],
            }
        },
    }
    about = (
        "kubectl apply -f THIS-FILE; with an image that has bimix, and a claim `work` with the files of the command."
    )
    return _yaml(about, {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": NAME}, "spec": spec})


def skypilot(command: Sequence[str], count: int) -> str:
    """Return a task (docs.skypilot.co/en/stable/reference/yaml-spec.html), launched once for each shard."""
    launch = f"sky jobs launch -y -d -n {NAME}-$i --env BIMIX_SHARD=$i/{count} THIS-FILE"
    there = "With a volume `work` (sky volumes apply) with the command's files, and this package in the folder here."
    about = f"for i in $(seq 0 {count - 1}); do {launch}; done\n# {there}"
    recovery = {"max_restarts_on_errors": 3, "recover_on_exit_codes": [STOPPED]}
    task = {
        "name": NAME,
        "resources": {"accelerators": "H100:1", "use_spot": True, "job_recovery": recovery},
        "envs": {"BIMIX_SHARD": None},
        "volumes": {"/work": "work"},
        "workdir": ".",
        "setup": "pip install .",
        "run": f"cd /work && {shlex.join(command)}",
    }
    return _yaml(about, task)


def _yaml(about: str, document: dict[str, Any]) -> str:
    import yaml

    return f"# {about}\n{yaml.safe_dump(document, sort_keys=False, width=1000)}"
