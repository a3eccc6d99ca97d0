"""What is recorded of a program, and what may be left of it."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from tests.support.power_loss.disk import Disk, Loss, Tree, UnknownChangeError
from tests.support.power_loss.recorder import SOURCE, Kind, Recorder
from tests.support.preloading import build_library, require_preloading

Run = Callable[[str], tuple[Disk, Path]]


@pytest.fixture(scope="module")
def preloaded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    require_preloading()
    return build_library(SOURCE, tmp_path_factory.mktemp("recorder"))


@pytest.fixture
def run(preloaded: Path, tmp_path: Path) -> Run:
    """Run a program in a folder with the file ``old``, and return its disk."""
    root = tmp_path / "root"
    root.mkdir()
    (root / "old").write_bytes(b"before")

    def run_it(program: str) -> tuple[Disk, Path]:
        recorder = Recorder(preloaded, root, tmp_path / "log")
        disk = Disk(root)
        environment = {**os.environ, **recorder.environment}
        command = [sys.executable, "-c", f"import os\nfrom pathlib import Path\n{program}"]
        subprocess.run(command, check=True, cwd=root, env=environment, stdout=subprocess.PIPE)
        for event in recorder.events():
            disk.take(event)
        return disk, root

    return run_it


def left(disk: Disk, loss: Loss, seed: int = 0) -> dict[str, bytes | str | None]:
    return dict(disk.after_power_loss(loss, Random(seed)).paths())  # noqa: S311


EVERYTHING = """
Path("folder/inner").mkdir(parents=True)
Path("folder/inner/file").write_text("a" * 1000)
os.rename("folder/inner/file", "folder/moved")
os.link("folder/moved", "folder/second")
os.symlink("moved", "folder/link")
os.unlink("old")
with open("appended", "ab") as file:
    file.write(b"one")
with open("appended", "ab") as file:
    file.write(b"two")
    file.flush()
    file.truncate(4)
descriptor = os.open("positioned", os.O_RDWR | os.O_CREAT)
os.pwrite(descriptor, b"there", 100)
os.writev(descriptor, [b"x", b"y"])
os.posix_fallocate(descriptor, 0, 4096)
source = os.open("appended", os.O_RDONLY)
os.copy_file_range(source, descriptor, 4, 0, 2000)
os.sendfile(descriptor, source, 0, 3)
if (child := os.fork()) == 0:
    Path("of-a-child").write_text("child")
    os._exit(0)
os.waitpid(child, 0)
Path("folder/emptied").write_text("full")
Path("folder/emptied").open("w").close()
os.mkdir("gone")
os.rmdir("gone")
import sqlite3
database = sqlite3.connect("data.db")
database.execute("CREATE TABLE numbers (number)")
database.execute("INSERT INTO numbers VALUES (1)")
database.commit()
"""


def test_what_was_recorded_is_what_is_there(run: Run) -> None:
    disk, root = run(EVERYTHING)
    disk.check_complete(root)
    seen = dict(disk.seen.paths())
    assert seen["appended"] == b"onet"
    assert seen["folder/link"] == "moved"
    assert seen["of-a-child"] == b"child"
    assert len(seen["positioned"] or "") == 4096
    assert "old" not in seen


def test_what_is_written_unseen_is_told(run: Run) -> None:
    program = """
import mmap
with open("old", "r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
    memory[0:1] = b"B"
"""
    disk, root = run(program)
    with pytest.raises(UnknownChangeError, match="not recorded as they are: old"):
        disk.check_complete(root)


NEW_FILE = """
new = os.open("new", os.O_WRONLY | os.O_CREAT)
os.write(new, b"n" * 1300)
"""
SYNC_FILE = "os.fsync(new)\n"
SYNC_FOLDER = "os.fsync(os.open('.', os.O_RDONLY))\n"


def test_nothing_that_was_not_synced_need_be_left(run: Run) -> None:
    disk, _ = run(f"{NEW_FILE}os.rename('old', 'renamed')")
    assert left(disk, Loss.ALL) == {"old": b"before"}


def test_a_name_and_a_content_are_synced_each_on_its_own(run: Run) -> None:
    disk, _ = run(NEW_FILE + SYNC_FILE)
    assert left(disk, Loss.ALL) == {"old": b"before"}
    disk, _ = run("os.unlink('new')\n" + NEW_FILE + SYNC_FOLDER)
    assert left(disk, Loss.ALL) == {"old": b"before", "new": b""}
    assert left(disk, Loss.CONTENT)["new"] == bytes(1300)


def test_what_was_synced_is_always_left(run: Run) -> None:
    disk, _ = run(NEW_FILE + SYNC_FILE + SYNC_FOLDER + "os.pwrite(new, b'later', 0)\n")
    for loss in set(Loss) - {Loss.ANY, Loss.IN_ORDER}:
        found = left(disk, loss)["new"]
        assert isinstance(found, bytes)
        assert found[5:] == b"n" * 1295
    assert left(disk, Loss.ALL)["new"] == b"n" * 1300


def test_a_write_is_torn_between_sectors_alone(run: Run) -> None:
    disk, _ = run(NEW_FILE + SYNC_FOLDER)
    parts = {bytes(512), b"n" * 512}
    found = set()
    for seed in range(40):
        content = left(disk, Loss.ANY, seed)["new"]
        assert isinstance(content, bytes)
        found.add(content)
        assert content[:512] in parts | {b""}
        assert content[512:1024] in parts | {b""}
    assert len(found) == 8


def test_a_file_that_is_renamed_has_one_of_its_names_at_least(run: Run) -> None:
    disk, _ = run("os.rename('old', 'renamed')")
    found = {tuple(sorted(left(disk, Loss.ANY, seed))) for seed in range(40)}
    assert found == {("old",), ("old", "renamed"), ("renamed",)}


def test_what_is_said_is_recorded_before_it_leaves(preloaded: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    recorder = Recorder(preloaded, root, tmp_path / "log")
    program = (
        "import os, socket\n"
        "os.close(os.open('first', os.O_WRONLY | os.O_CREAT))\n"
        "listener = socket.create_server(('127.0.0.1', 0))\n"
        "client = socket.create_connection(listener.getsockname())\n"
        "client.sendall(b'hello')\n"
        "one, other = socket.socketpair()\n"
        "one.send(b'to itself')\n"
        "os.write(1, b'on standard output')\n"
        "os.close(os.open('last', os.O_WRONLY | os.O_CREAT))\n"
    )
    subprocess.run(
        [sys.executable, "-c", program],
        check=True,
        cwd=root,
        env={**os.environ, **recorder.environment},
        stdout=subprocess.PIPE,
    )
    told = [
        event.first if event.kind is Kind.SAID else Path(os.fsdecode(event.first)).name
        for event in recorder.events()
    ]
    assert told == ["first", b"hello", b"on standard output", "last"]


def test_what_is_left_is_written_for_its_owner_alone(tmp_path: Path) -> None:
    tree = Tree()
    tree.folders[0] = {"inner": 1}
    tree.folders[1] = {}
    tree.write_to(tmp_path / "disk")
    assert (tmp_path / "disk/inner").stat().st_mode & 0o777 == 0o700
