"""Declaring tasks: what it imports."""

import subprocess
import sys

DECLARE = """
import sys
from batuta.cluster.tasks import declare

declare(len, ([],), {}, 1)
workers = ("batuta.cluster.execution", "batuta.cluster.local", "batuta.cluster.store")
print(sorted(name for name in sys.modules if name.startswith((*workers, "batuta.profiling"))))
"""


def test_declaring_a_task_imports_nothing_of_the_workers_that_run_it() -> None:
    done = subprocess.run([sys.executable, "-c", DECLARE], capture_output=True, check=True)
    assert done.stdout.decode().strip() == "[]"


def test_the_package_is_imported_without_pydantic_and_without_a_mode() -> None:
    script = "import sys, batuta.cluster as c; print('pydantic' in sys.modules, len(c.__all__) > 0)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert done.stdout.decode().split() == ["False", "True"]
