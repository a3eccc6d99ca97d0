"""An environment is installed by uv where that gets packages from where pip would."""

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tools.install import main, names_an_index


@pytest.mark.parametrize(
    ("configuration", "expected"),
    [
        ("", False),
        ("global.cert='/ca.pem'\nglobal.extra-index-url='file:///more'", False),
        ("global.cert='/ca.pem'\nglobal.index-url='https://packages.example/simple'", True),
        (":env:.index-url='https://packages.example/simple'", True),
        ("install.no-index='true'", True),
    ],
)
def test_an_index_of_pip_is_noticed(configuration: str, expected: bool) -> None:
    assert names_an_index(configuration) is expected


class Commands:
    """Stands for the commands that are run."""

    def __init__(self, answers: dict[str, tuple[int, str]]) -> None:
        self._answers = answers
        self.run: list[str] = []

    def __call__(
        self, command: Sequence[str], *, check: bool = False, **_: Any
    ) -> subprocess.CompletedProcess[str]:
        self.run.append(" ".join([Path(command[0]).name, *command[1:]]))
        found = [answer for part, answer in self._answers.items() if part in self.run[-1]]
        code, told = found[0] if found else (0, "")
        if check and code:
            raise subprocess.CalledProcessError(code, list(command))
        return subprocess.CompletedProcess(list(command), code, told)

    def installs(self) -> list[str]:
        return [each.split()[0] for each in self.run if "--editable" in each]


@pytest.mark.parametrize(
    ("answers", "by", "code"),
    [
        ({}, ["uv"], 0),
        ({"config list": (0, "global.index-url='x'")}, ["python"], 0),
        ({"config list": (2, "")}, ["python"], 0),
        ({"uv pip install": (1, "")}, ["uv", "python"], 0),
        ({"constraints.txt uv": (1, "")}, ["python"], 0),
        ({"--editable": (3, "")}, ["uv", "python"], 3),
        ({"-m venv": (4, "")}, [], 4),
    ],
)
def test_pip_installs_where_uv_may_not_or_cannot(
    answers: dict[str, tuple[int, str]], by: list[str], code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands = Commands(answers)
    monkeypatch.setattr(subprocess, "run", commands)
    assert main([".venv", "pins.txt", "--editable", ".[dev]"]) == code
    assert commands.installs() == by
    assert all("--constraint pins.txt" in each for each in commands.run if "--editable" in each)
