"""Programs that are stopped together, and one after the other."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from batuta.cli.deployment import supervisor as supervisor_module
from batuta.cli.deployment.plan import DeploymentPlan, OrchestraConfig
from batuta.cli.deployment.supervisor import Program, python_program, supervising

LOGGED = """
import os, pathlib, signal, sys

name, *fifos = sys.argv[1:]

def log(what):
    with open("stops", "a") as file:
        file.write(f"{what} {name}\\n")

signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
pathlib.Path(f"{name}.ready").touch()
signal.sigwait([signal.SIGTERM])
log("signalled")
"""
MEETING = """
# Opening a FIFO ends once its other end is opened too: by one that was signalled meanwhile.
mine, other = fifos
if mine < other:
    open(mine, "w").close(), open(other).close()
else:
    open(other).close(), open(mine, "w").close()
"""
ENDED = """
log("ended")
"""
STUBBORN = """
signal.sigwait([signal.SIGINT])
"""


def program(folder: Path, name: str, stop_order: int, *fifos: str, how: str = "") -> Program:
    async def ready() -> bool:
        return (folder / f"{name}.ready").exists()

    return Program(
        name=name,
        command=python_program("-c", LOGGED + how + ENDED, name, *fifos),
        url="nowhere",
        ready=ready,
        folder=folder,
        stop_order=stop_order,
    )


async def stopped(folder: Path, *programs: Program) -> tuple[list[str], list[str]]:
    """Start programs and stop them; return what they logged, and what was reported."""
    reported: list[str] = []
    async with supervising(folder / "logs", reported.append) as supervisor:
        for each in programs:
            await supervisor.start(each)
    return (folder / "stops").read_text().splitlines(), reported


async def test_a_program_does_not_have_what_is_hidden_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEY_OF_ANOTHER", "secret")
    told = "pathlib.Path('environment').write_text('\\n'.join(os.environ))\n"
    hiding = replace(program(tmp_path, "a", 0, how=told), hidden=frozenset({"KEY_OF_ANOTHER"}))
    await stopped(tmp_path, hiding)
    names = (tmp_path / "environment").read_text().splitlines()
    assert "PATH" in names
    assert "KEY_OF_ANOTHER" not in names


async def test_programs_of_one_stop_order_are_stopped_at_the_same_time(tmp_path: Path) -> None:
    for name in ("a.fifo", "b.fifo"):
        os.mkfifo(tmp_path / name)
    logged, reported = await stopped(
        tmp_path,
        program(tmp_path, "a", 1, "a.fifo", "b.fifo", how=MEETING),
        program(tmp_path, "b", 1, "b.fifo", "a.fifo", how=MEETING),
    )
    # Each ends only once the other was signalled: one after the other, they would be killed.
    assert [line for line in reported if "killed" in line] == []
    assert sorted(logged[:2]) == ["signalled a", "signalled b"]
    assert sorted(logged[2:]) == ["ended a", "ended b"]


async def test_programs_of_a_higher_stop_order_are_stopped_once_the_others_have_ended(
    tmp_path: Path,
) -> None:
    orders = {"nats": 3, "sdb": 2, "conductor": 0, "pipeline": 1}
    logged, _ = await stopped(
        tmp_path, *(program(tmp_path, name, order) for name, order in orders.items())
    )
    wanted = ("conductor", "pipeline", "sdb", "nats")
    assert logged == [f"{what} {name}" for name in wanted for what in ("signalled", "ended")]


async def test_one_that_does_not_end_is_killed_and_the_others_end_by_themselves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor_module, "STOP_TIMEOUT_S", 2.0)
    logged, reported = await stopped(
        tmp_path,
        program(tmp_path, "stubborn", 0, how=STUBBORN),
        program(tmp_path, "beside", 0),
        program(tmp_path, "after", 1),
    )
    assert "ended stubborn" not in logged
    assert logged[-2:] == ["signalled after", "ended after"]
    assert set(logged[:-2]) == {"signalled stubborn", "signalled beside", "ended beside"}
    (killed,) = (line for line in reported if "killed" in line)
    assert killed == "stubborn did not exit within 2 s: killed"


async def test_what_stopping_one_raises_is_raised_once_all_are_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop = supervisor_module._ProgramRunner.stop

    async def stop_and_fail(runner: supervisor_module._ProgramRunner) -> None:
        await stop(runner)
        if runner.program.name == "broken":
            raise PermissionError("not ours")

    monkeypatch.setattr(supervisor_module._ProgramRunner, "stop", stop_and_fail)
    names = {"broken": 0, "beside": 0, "after": 1}
    with pytest.raises(ExceptionGroup) as caught:
        await stopped(tmp_path, *(program(tmp_path, name, order) for name, order in names.items()))
    assert [str(each) for each in caught.value.exceptions] == ["not ours"]
    assert (tmp_path / "stops").read_text().splitlines()[-2:] == ["signalled after", "ended after"]


def test_services_are_stopped_before_those_that_they_call(tmp_path: Path) -> None:
    (tmp_path / "graph.json").write_text(json.dumps({"inputs": ["A"], "products": {}}))
    config = OrchestraConfig(conductor={"graph": "graph.json"}, simulate={})
    with DeploymentPlan(config, tmp_path) as plan:
        assert plan.dashboard is not None
        assert plan.simulate is not None
        order = {
            each.name: each.stop_order
            for each in (
                plan.service("conductor", plan.conductor({})),
                plan.service("simulate", plan.simulate),
                plan.service("sdb", plan.sdb),
                plan.service("dashboard", plan.dashboard),
                plan.service("pipeline", plan.simulate, "a:b"),
                plan.nats(),
            )
        }
    assert order["conductor"] < order["simulate"] == order["a-b"] < order["sdb"] < order["nats"]
    assert order["dashboard"] < order["sdb"]
