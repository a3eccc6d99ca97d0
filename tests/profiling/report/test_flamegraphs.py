"""`batuta profile memory-report` and `make profile-memory-all`: pages that open offline."""

import re
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from batuta.cli.app import run
from batuta.profiling.capture.layout import LEAKS, MEMRAY_FOLDER, PROFILE_FOLDER
from batuta.profiling.capture.options import ProfileOptions
from batuta.profiling.capture.records import LeakRow
from batuta.profiling.files.schemas import leak_table
from tests.profiling.profiled_tasks import TaskRunner, allocates

Capture = pytest.CaptureFixture[str]

ROOT = Path(__file__).parents[3]
LOADS = re.compile(r"""<(?:script|img|link|iframe)\b[^>]*\b(?:src|href)=["']?(?:https?:)?//""")
"""What makes a page load something from the network."""


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """The output folder of a run that memray profiled, two tasks."""
    runner = TaskRunner(tmp_path / PROFILE_FOLDER, ProfileOptions(mode="memray", scope="task"))
    runner.run(allocates, 3)
    runner.run(allocates, 20)
    return tmp_path


def pages(output: Path) -> dict[str, str]:
    folder = output / PROFILE_FOLDER / MEMRAY_FOLDER
    return {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.html")}


@pytest.mark.parametrize("inside", ["", PROFILE_FOLDER])
def test_each_file_has_its_flame_graph_and_one_page_links_to_them(
    output: Path, capsys: Capture, inside: str
) -> None:
    assert run(["profile", "memory-report", str(output / inside)]) == 0
    index = output / PROFILE_FOLDER / MEMRAY_FOLDER / "index.html"
    assert capsys.readouterr().out == f"open {index}\n"
    drawn = pages(output)
    assert set(drawn) == {
        "index.html",
        "000000-allocates-1.html",
        "000001-allocates-1.html",
    }
    links = re.findall(r'href="([^"]+)"', drawn["index.html"])
    assert links == ["000001-allocates-1.html", "000000-allocates-1.html"]  # the highest first
    assert re.search(r"20\.0 MB allocates <small>\S*profiled_tasks\.py:\d+", drawn["index.html"])
    assert "allocates" in drawn["000001-allocates-1.html"]


def test_what_was_not_freed_is_drawn_when_asked_for_and_pages_load_nothing(output: Path) -> None:
    assert run(["profile", "memory-report", str(output), "--leaks"]) == 0
    drawn = pages(output)
    assert "000001-allocates-1-leaks.html" in drawn
    assert "000001-allocates-1-leaks.html" in drawn["index.html"]
    for name, page in drawn.items():
        assert LOADS.search(page) is None, name


def test_the_highest_peaks_are_drawn_and_the_others_are_listed(output: Path) -> None:
    assert run(["profile", "memory-report", str(output), "--most", "1"]) == 0
    drawn = pages(output)
    assert set(drawn) == {"index.html", "000001-allocates-1.html"}
    assert "000000-allocates-1" in drawn["index.html"]


def test_what_cannot_be_read_is_named_and_names_are_only_text(output: Path) -> None:
    profile = output / PROFILE_FOLDER
    (profile / MEMRAY_FOLDER / "broken.bin").write_bytes(b"broken")
    leak = LeakRow(0, "<b>match</b>", "process 1", "match.py", 12, "<lambda>", 1000)
    pq.write_table(leak_table([leak]), profile / f"{LEAKS}.parquet")
    assert run(["profile", "memory-report", str(output)]) == 0
    index = pages(output)["index.html"]
    assert "broken.bin cannot be read" in index
    assert "&lt;b&gt;match&lt;/b&gt;" in index
    assert "&lt;lambda&gt; (match.py:12)" in index


@pytest.mark.parametrize(
    ("folder", "message"), [("none", "no such folder"), (".", "no memray files found")]
)
def test_a_folder_without_files_of_memray_is_one_line(
    tmp_path: Path, capsys: Capture, folder: str, message: str
) -> None:
    assert run(["profile", "memory-report", str(tmp_path / folder)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert message in lines[0]


PROGRAM = """
import sys

def held():
    return bytearray(30_000_000)  # the line

held()
sys.exit(int(sys.argv[1]))
"""


def test_make_draws_the_main_process_of_a_program_whatever_its_exit_code(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    folder = tmp_path / "memory-all"
    for exit_code, make_code in ((3, 2), (0, 0)):
        command = [
            "make", "--no-print-directory", f"--file={ROOT / 'Makefile'}",
            "--old-file=.venv/.installed", f"BIN={Path(sys.executable).parent}",
            "profile-memory-all", f"PROGRAM=program.py {exit_code}",
        ]  # fmt: skip
        ended = subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, text=True)
        assert ended.returncode == make_code, ended.stderr
        assert "held at" in ended.stdout
        for name in ("main.html", "main-leaks.html"):
            page = folder / name
            drawn = page.read_text(encoding="utf-8")
            assert "<script" in drawn
            assert LOADS.search(drawn) is None
            page.write_text("to be replaced by the next run")


def test_make_draws_a_run_and_names_the_variable_it_needs() -> None:
    asked = subprocess.run(
        ["make", "--no-print-directory", "--dry-run", "profile-memory-report", "DIR=out folder"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert "batuta profile memory-report 'out folder'" in asked.stdout
    missing = subprocess.run(
        ["make", "--no-print-directory", "--old-file=.venv/.installed", "profile-memory-report"],
        cwd=ROOT, check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert missing.returncode == 2
    assert "DIR=" in missing.stdout
