"""`batuta profile`: what it prints, what it writes, and its exit codes."""

import json
from pathlib import Path

import pytest

from batuta.cli.app import run
from tests.profiling.profile_builder import ProfileBuilder, TaskSpec, make_run, simulate_run

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def out_dir(tmp_path: Path) -> Path:
    return simulate_run([TaskSpec(name="match", tile=("dsm", 0, n)) for n in range(6)]).write(
        tmp_path
    )


@pytest.mark.parametrize("inside", ["", "profile"])
def test_show_prints_the_text(out_dir: Path, inside: str, capsys: Capture) -> None:
    assert run(["profile", "show", str(out_dir / inside)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("6 tasks in 3.00 s on 2 workers")
    assert "match" in out


def test_show_as_json_gives_the_figures(out_dir: Path, capsys: Capture) -> None:
    assert run(["profile", "show", str(out_dir), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["names"][0]["total_s"] == pytest.approx(6)


def test_show_writes_the_page_and_replaces_one_that_is_there(
    out_dir: Path, tmp_path: Path, capsys: Capture
) -> None:
    page = tmp_path / "page.html"
    page.write_text("an old one")
    assert run(["profile", "show", str(out_dir), "--html", str(page)]) == 0
    assert page.read_text().startswith("<!doctype html>")
    assert "6 tasks" in capsys.readouterr().out


def test_show_of_a_killed_run_says_that_it_has_not_ended(tmp_path: Path, capsys: Capture) -> None:
    simulate_run([TaskSpec()] * 4, state="running", ended_s=None).write(tmp_path, parts=2)
    assert run(["profile", "show", str(tmp_path)]) == 0
    assert "it is still running, or was killed" in capsys.readouterr().out


def test_compare_prints_what_changed(tmp_path: Path, capsys: Capture) -> None:
    first = simulate_run([TaskSpec(name="match")] * 4).write(tmp_path / "a")
    second = simulate_run([TaskSpec(name="match", wall_s=2)] * 4).write(tmp_path / "b")
    assert run(["profile", "compare", str(first), str(second)]) == 0
    assert "x 2.00" in capsys.readouterr().out
    assert run(["profile", "compare", str(first), str(second), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["names"][0]["median_s"]["ratio"] == 2


@pytest.mark.parametrize("command", [["show"], ["compare", "."]])
def test_a_folder_without_a_profile_is_one_line_and_the_code_is_2(
    command: list[str], tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    ProfileBuilder(make_run()).write(tmp_path)
    monkeypatch.chdir(tmp_path)
    missing = tmp_path / "nowhere"
    assert run(["profile", *command, str(missing)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"batuta: {missing}: no such folder"


def test_a_garbled_profile_is_one_line_and_the_code_is_2(out_dir: Path, capsys: Capture) -> None:
    (out_dir / "profile" / "run.json").write_text("[]")
    assert run(["profile", "show", str(out_dir)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "run.json" in line


def test_a_page_that_cannot_be_written_is_one_line(out_dir: Path, capsys: Capture) -> None:
    assert run(["profile", "show", str(out_dir), "--html", str(out_dir / "no" / "page.html")]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "page.html: No such file or directory" in line
