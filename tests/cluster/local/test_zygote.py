"""The forkserver that is a copy of the program: when it is one, and what it leaves out."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.waiting import eventually_sync

PROGRAM = """
import sys
from pathlib import Path

from batuta.cluster import check_configuration, create_cluster


def is_copied(_):
    return "COMPUTES" in vars(sys.modules["__main__"])


def compute(function, **settings):
    conf = check_configuration({{"mode": "multiprocessing", "max_tasks_per_worker": 1, **settings}})
    cluster = create_cluster(conf, Path("out"))
    tasks = [cluster.create_task(function)(each) for each in range(4)]
    values = list(cluster.future_iterator(cluster.start_tasks(tasks)))
    return cluster, values


{definitions}

if __name__ == "__main__":
    COMPUTES = True
{body}
"""


def run(folder: Path, body: str, definitions: str = "") -> subprocess.CompletedProcess[str]:
    """Run a program that computes."""
    indented = "\n".join(f"    {line}" for line in body.strip().splitlines())
    (folder / "main.py").write_text(PROGRAM.format(body=indented, definitions=definitions))
    return subprocess.run(
        [sys.executable, "main.py"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def played(folder: Path, body: str, definitions: str = "") -> str:
    """Run a program that computes; return what it prints."""
    done = run(folder, body, definitions)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.strip()


PRINT_COPIED = """
cluster, copied = compute(is_copied)
cluster.cleanup()
print(copied)
"""


def test_workers_come_from_a_copy_of_a_program_without_threads(tmp_path: Path) -> None:
    assert played(tmp_path, PRINT_COPIED) == "[True, True, True, True]"


WITH_A_THREAD = """
import threading
ended = threading.Event()
threading.Thread(target=ended.wait).start()
"""
WITH_A_THREAD_OF_A_LIBRARY = """
import pyarrow, pyarrow.compute
batches = pyarrow.table({"n": pyarrow.chunked_array([range(1000)] * 50)})
batches.group_by("n").aggregate([("n", "sum")])
ended = None
"""


WITH_A_CONNECTION = """
import socket
kept = socket.socketpair()
ended = None
"""
WITH_MUCH_MEMORY = """
from batuta.cluster.local import zygote
zygote.MAX_MEMORY_BYTES = 1
ended = None
"""
# In the place of CUDA's library, one that every process has.
WITH_CUDA = """
from batuta.cluster.local import zygote
zygote._NO_COPIES = ("libc.so",)
ended = None
"""


@pytest.mark.parametrize(
    "before",
    [
        WITH_A_THREAD,
        WITH_A_THREAD_OF_A_LIBRARY,
        "sys.settrace(lambda *_: None)\nended = None",
        WITH_A_CONNECTION,
        WITH_MUCH_MEMORY,
        WITH_CUDA,
    ],
    ids=["a thread", "a library's threads", "a debugger", "a connection", "much memory", "CUDA"],
)
def test_what_would_not_survive_a_copy_has_workers_from_a_new_interpreter(
    tmp_path: Path, before: str
) -> None:
    after = "if ended: ended.set()"
    assert played(tmp_path, before + PRINT_COPIED + after) == "[False, False, False, False]"


def test_a_pipe_of_the_program_ends_though_its_workers_live(tmp_path: Path) -> None:
    body = """
import os
out, into = os.pipe()
cluster, copied = compute(is_copied)
os.close(into)
print(copied, os.read(out, 1))
cluster.cleanup()
"""
    assert played(tmp_path, body) == "[True, True, True, True] b''"


def test_a_lock_of_the_program_is_free_once_it_closes_the_file(tmp_path: Path) -> None:
    body = """
import fcntl
locked = open("lock", "w")
fcntl.flock(locked, fcntl.LOCK_EX)
cluster, copied = compute(is_copied)
locked.close()
fcntl.flock(open("lock", "w"), fcntl.LOCK_EX | fcntl.LOCK_NB)
print(copied)
cluster.cleanup()
"""
    assert played(tmp_path, body) == "[True, True, True, True]"


def test_a_file_that_a_module_reads_can_be_read_by_its_tasks(tmp_path: Path) -> None:
    definitions = """
opened = open("table", "rb")


def at(offset):
    import os
    return os.pread(opened.fileno(), 1, offset)
"""
    (tmp_path / "table").write_bytes(b"abcd")
    body = """
cluster, values = compute(at)
print(b"".join(sorted(values)))
cluster.cleanup()
"""
    assert played(tmp_path, body, definitions) == "b'abcd'"


def test_a_task_that_writes_to_a_file_of_the_program_is_told_that_it_cannot(tmp_path: Path) -> None:
    definitions = """
opened = []


def write(_):
    try:
        opened[0].write("x")
        opened[0].flush()
    except OSError as exc:
        return exc.strerror
"""
    body = """
opened.append(open("written", "w"))
cluster, values = compute(write)
print(set(values))
cluster.cleanup()
"""
    assert played(tmp_path, body, definitions) == "{'Bad file descriptor'}"


def test_tasks_add_to_the_log_of_a_module(tmp_path: Path) -> None:
    definitions = """
import logging
LOG = logging.getLogger("science")
LOG.addHandler(logging.FileHandler("science.log"))


def log(number):
    LOG.warning("tile %d", number)
"""
    body = """
cluster, values = compute(log)
print(values)
cluster.cleanup()
"""
    assert played(tmp_path, body, definitions) == "[None, None, None, None]"
    lines = (tmp_path / "science.log").read_text().splitlines()
    assert sorted(lines) == ["tile 0", "tile 1", "tile 2", "tile 3"]


def test_what_the_program_does_at_its_end_or_on_a_signal_workers_do_not(tmp_path: Path) -> None:
    body = """
import atexit, logging, os, signal, tempfile
folder = tempfile.TemporaryDirectory()
os.mkdir("ends")
atexit.register(lambda: open(f"ends/{os.getpid()}", "w"))
signal.signal(signal.SIGUSR2, lambda *_: None)
logging.basicConfig(filename="all.log")
handlers = logging.root.handlers
cluster, values = compute(inherited)
print(values, os.path.isdir(folder.name), len(handlers))
cluster.cleanup()
"""
    definitions = """
def inherited(_):
    import logging, signal
    files = [getattr(each, "baseFilename", "") for each in logging.root.handlers]
    ours = sum(each.endswith("all.log") for each in files)
    return ours, signal.getsignal(signal.SIGUSR2) is signal.SIG_DFL
"""
    assert played(tmp_path, body, definitions) == f"{[(0, True)] * 4} True 1"
    assert len(list((tmp_path / "ends").iterdir())) == 1


def test_the_copy_ends_with_the_program_however_that_ends(tmp_path: Path) -> None:
    body = """
import os, psutil, signal
cluster, copied = compute(is_copied)
print(copied, *(each.pid for each in psutil.Process().children(recursive=True)), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = run(tmp_path, body)
    copied, _, after = done.stdout.partition("]")
    assert copied == "[True, True, True, True"
    pids = after.split()
    assert pids
    eventually_sync(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))
