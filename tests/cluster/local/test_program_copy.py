"""``mp_mode: fork``: a copy of the program, as it is when the cluster is made, forks workers."""

from pathlib import Path

import pytest

from tests.cluster.local.test_zygote import WITH_A_CONNECTION, WITH_A_THREAD, played


@pytest.mark.parametrize(
    "before", ["", WITH_A_THREAD, WITH_A_CONNECTION], ids=["alone", "a thread", "a connection"]
)
def test_workers_are_forked_whatever_the_program_has(tmp_path: Path, before: str) -> None:
    body = """
ended = None
{before}
cluster, copied = compute(is_copied, mp_mode="fork")
cluster.cleanup()
print(copied)
if ended: ended.set()
"""
    assert played(tmp_path, body.format(before=before)) == "[True, True, True, True]"


def test_a_worker_that_starts_while_the_program_imports_a_module_can_import_it_too(
    tmp_path: Path,
) -> None:
    (tmp_path / "slow.py").write_text(
        "import time\n"
        "from pathlib import Path\n"
        "Path('importing').touch()\n"
        "while not Path('go').exists(): time.sleep(0.01)\n"
    )
    definitions = """
def use(_):
    Path("go").touch()
    import slow
    return slow.__name__
"""
    body = """
import threading
cluster, _ = compute(is_copied, mp_mode="fork")
importing = threading.Thread(target=lambda: __import__("slow"))
importing.start()
while not Path("importing").exists(): pass
print(list(cluster.future_iterator(cluster.start_tasks([cluster.create_task(use)(0)]))))
importing.join()
cluster.cleanup()
"""
    assert played(tmp_path, body, definitions) == "['slow']"


def test_each_cluster_has_the_program_as_it_was_when_the_cluster_was_made(tmp_path: Path) -> None:
    definitions = """
state = []


def length(_):
    return len(state)
"""
    body = """
one, _ = compute(length, mp_mode="fork")
state.append(1)
other, _ = compute(length, mp_mode="fork")
state.append(2)
for cluster in (one, other, one):
    (task,) = [cluster.create_task(length)(0)]
    print(*cluster.future_iterator(cluster.start_tasks([task])))
one.cleanup()
other.cleanup()
"""
    assert played(tmp_path, body, definitions).split() == ["0", "1", "0"]


def test_a_run_goes_on_when_the_copy_is_killed(tmp_path: Path) -> None:
    body = """
import psutil
cluster, copied = compute(is_copied, mp_mode="fork", max_tasks_per_worker=100)
children = psutil.Process().children()
(copy,) = (each for each in children if "resource_tracker" not in str(each.cmdline()))
workers = copy.children(recursive=True)
copy.kill()
psutil.wait_procs(workers, timeout=60)
tasks = [cluster.create_task(is_copied)(each) for each in range(4)]
print(copied, list(cluster.future_iterator(cluster.start_tasks(tasks))))
cluster.cleanup()
"""
    assert played(tmp_path, body) == f"{4 * [True]} {4 * [False]}"


def test_a_cluster_that_is_cleaned_up_leaves_no_copy(tmp_path: Path) -> None:
    body = """
import psutil
cluster, copied = compute(is_copied, mp_mode="fork")
cluster.cleanup()
left = [str(each.cmdline()) for each in psutil.Process().children()]
print([each for each in left if "resource_tracker" not in each])
"""
    assert played(tmp_path, body) == "[]"


def test_a_cluster_that_cannot_be_made_leaves_neither_a_copy_nor_a_folder(tmp_path: Path) -> None:
    body = """
import os, psutil
Path("out").mkdir()
Path("out/workers_log").write_text("no folder")
try:
    compute(is_copied, mp_mode="fork", dump_to_disk=True)
except OSError as exc:
    print(type(exc).__name__, os.listdir("out"))
left = [str(each.cmdline()) for each in psutil.Process().children()]
print([each for each in left if "resource_tracker" not in each])
"""
    assert played(tmp_path, body).split("\n") == ["FileExistsError ['workers_log']", "[]"]
