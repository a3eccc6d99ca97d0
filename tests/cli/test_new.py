"""`batuta new` makes a project that runs and passes its own test at once."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from batuta.cli.app import run
from tests.support.checkout import PYTHON_PATH

FILES = [
    ".gitignore",
    "README.md",
    "batuta.yaml",
    "image.tif",
    "sky_survey.py",
    "test_sky_survey.py",
]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("new") / "survey"
    assert run(["new", "sky_survey", "--folder", str(folder)]) == 0
    return folder


def in_project(project: Path, *command: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", *command],
        cwd=project,
        env={**os.environ, "PYTHONPATH": PYTHON_PATH},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


def test_it_is_named_throughout_as_its_author_names_it(project: Path) -> None:
    assert sorted(path.name for path in project.iterdir()) == FILES
    for path in project.iterdir():
        assert b"starter" not in path.read_bytes()
    assert 'Pipeline("sky_survey")' in (project / "sky_survey.py").read_text()


def test_it_passes_its_own_test(project: Path) -> None:
    done = in_project(project, "pytest", "-q", "-p", "no:cacheprovider")
    assert done.returncode == 0, done.stdout


def test_its_products_are_made_by_the_command_of_its_readme(project: Path, tmp_path: Path) -> None:
    [command] = re.findall(
        r"^batuta (run .*) -o out$", (project / "README.md").read_text(), re.MULTILINE
    )
    done = in_project(project, "batuta", *command.split(), "-o", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["BACKGROUND.tif", "SOURCES.csv"]


def test_its_code_is_checked_as_ours_is(project: Path) -> None:
    # Not the order of imports: Batuta is a library there, and a package of ours here.
    for command in ("check --select=E,F,B --line-length=100", "format --check --line-length=100"):
        done = in_project(project, "ruff", *command.split(), "--isolated", ".")
        assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("sky survey", "'sky survey': not the name of a module"),
        ("3d", "'3d': not the name of a module"),
        ("class", "'class': not the name of a module"),
        ("../sky", "'../sky': not the name of a module"),
        ("numpy", "'numpy': the name of a module that is installed"),
        ("json", "'json': the name of a module that is installed"),
    ],
)
def test_a_name_that_cannot_be_a_module_of_ones_own_is_refused(
    name: str,
    problem: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["new", name]) == 2
    assert capsys.readouterr().err.startswith(f"batuta: {problem}")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_not_empty_is_left_as_it_is(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (project / "sky_survey.py").stat().st_mtime_ns
    assert run(["new", "sky_survey", "--folder", str(project)]) == 2
    assert "not empty (accepted: a new or empty folder)" in capsys.readouterr().err
    assert (project / "sky_survey.py").stat().st_mtime_ns == before
