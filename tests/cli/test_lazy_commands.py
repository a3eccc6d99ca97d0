"""The commands are listed without what they import, and are what they import."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence

import pytest

from batuta.cli.app import run
from batuta.cli.command_list import COMMANDS
from batuta.cli.lazy_commands import load_command
from tests.support.checkout import PYTHON_PATH

LOADED_BY_SETTINGS = {"dashboard", "sdb", "conductor", "pipeline", "simulate", "up"}
"""Their options are made of settings, which are models of pydantic with their defaults."""

HEAVY = (
    "dask",
    "fastapi",
    "httpx",
    "nats",
    "numpy",
    "pandas",
    "pyarrow",
    "rasterio",
    "sqlalchemy",
    "uvicorn",
    "xarray",
    "yaml",
)


HELP_OF_ALL = f"""
import json, sys
from batuta.cli.app import run
loaded = {{}}
for arguments in json.loads(sys.argv[1]):
    run(arguments)
    found = {{name for name in {HEAVY!r} if name in sys.modules}}
    loaded[" ".join(arguments)] = sorted(found.difference(*loaded.values()))
print(json.dumps(loaded))
"""


def _loaded_by(helps: Sequence[Sequence[str]]) -> dict[str, list[str]]:
    """Return what each help is the first to load of `HEAVY`."""
    done = subprocess.run(
        [sys.executable, "-c", HELP_OF_ALL, json.dumps(helps)],
        env={**os.environ, "PYTHONPATH": PYTHON_PATH},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    loaded: dict[str, list[str]] = json.loads(done.stdout.splitlines()[-1])
    return loaded


def test_help_imports_nothing_that_only_commands_need() -> None:
    helps = [[name, "--help"] for name in COMMANDS if name not in LOADED_BY_SETTINGS]
    commands = [["--help"], ["--version"], ["imprt"], *helps]
    assert _loaded_by(commands) == {" ".join(each): [] for each in commands}


def test_settings_load_no_client_no_database_and_no_web_framework() -> None:
    # `up` asks NATS and services whether they answer.
    helps = [[name, "--help"] for name in sorted(LOADED_BY_SETTINGS - {"up"})]
    assert {name for loaded in _loaded_by(helps).values() for name in loaded} == {"yaml"}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_listed_with_the_beginning_of_its_help_in_its_panel(name: str) -> None:
    command = load_command(name)
    listed = COMMANDS[name].help.removesuffix(".")
    assert " ".join(command.help.split()).startswith(listed)
    panel = command.rich_help_panel
    assert (panel if isinstance(panel, str) else None) == COMMANDS[name].panel


def test_a_misspelt_command_is_suggested(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["imprt"]) == 2
    assert "Did you mean 'import'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("shell", "words", "expected"),
    [
        ("bash", {"COMP_WORDS": "batuta im", "COMP_CWORD": "1"}, "import"),
        ("bash", {"COMP_WORDS": "batuta graph fr", "COMP_CWORD": "2"}, "from"),
        ("bash", {"COMP_WORDS": "batuta import --prod", "COMP_CWORD": "2"}, "--product"),
        ("zsh", {"_TYPER_COMPLETE_ARGS": "batuta im"}, "import"),
        (
            "fish",
            {"_TYPER_COMPLETE_ARGS": "batuta im", "_TYPER_COMPLETE_FISH_ACTION": "get-args"},
            "import",
        ),
    ],
)
def test_shells_complete_commands_and_options(
    shell: str, words: dict[str, str], expected: str
) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "from batuta.cli.app import app; app(prog_name='batuta')",
        ],
        env={
            **os.environ,
            "PYTHONPATH": PYTHON_PATH,
            "_BATUTA_COMPLETE": f"complete_{shell}",
            **words,
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert expected in done.stdout, done.stderr


def test_profiles_are_shown_where_no_service_is_installed(tmp_path: object) -> None:
    program = (
        "import sys;"
        "sys.modules.update(dict.fromkeys(['fastapi', 'uvicorn', 'sqlalchemy', 'nats', 'httpx']));"
        "from batuta.cli.app import run; sys.exit(run(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "profile", "show", str(tmp_path)],
        env={**os.environ, "PYTHONPATH": PYTHON_PATH},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 2
    assert "profile" in done.stderr
    assert "Traceback" not in done.stderr
