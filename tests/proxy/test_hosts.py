import pytest

from bimixjax._base.checks import InputError
from bimixjax.proxy import hosts


def test_one_process_joins_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*hosts.LAUNCHERS, "TPU_WORKER_HOSTNAMES"):
        monkeypatch.delenv(name, raising=False)
    assert hosts.join() == (0, 1)


@pytest.mark.parametrize("ntasks", ["1", "4"])
def test_tasks_of_a_scheduler_join(monkeypatch: pytest.MonkeyPatch, ntasks: str) -> None:
    given = {"SLURM_NTASKS": ntasks, "SLURM_JOB_ID": "7", "SLURM_STEP_NODELIST": "n[1-2]", "SLURM_PROCID": "0"}
    for name, value in (given | {"SLURM_LOCALID": "0"}).items():
        monkeypatch.setenv(name, value)
    called: list[tuple[object, ...]] = []
    monkeypatch.setattr(hosts.jax.distributed, "initialize", lambda *given: called.append(given))
    hosts.join()
    assert called == [()] * (ntasks == "4")
    assert hosts.join("alone") == (0, 1)
    hosts.join("1/3", "host:9")
    assert called[-1] == ("host:9", 3, 1)


@pytest.mark.parametrize("process", ["3/3", "-1/3", "x", "1"])
def test_what_is_no_process_is_an_error(process: str) -> None:
    with pytest.raises(InputError, match="allowed: I/N"):
        hosts.join(process, "host:9")
    with pytest.raises(InputError, match="go together"):
        hosts.join("0/2")
