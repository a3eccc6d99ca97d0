"""How the tests are distributed over the processes of a run (pytest-xdist).

What takes seconds to start is shared by the tests of a module. If these were spread over all
processes, each would start its own: a run spent a tenth of its time on that.
"""

from functools import cache
from pathlib import Path
from typing import Final

from xdist.scheduler import LoadScopeScheduling

from tests.support.dask_clusters import DASK_MODES

ROOT: Final = Path(__file__).parents[2]

_SHARED: Final = (
    "archive: Archive",
    'scope="module"',
    "dask_scheduler_address",
    "reference: Path",
    "browser: Browser",
)
"""What a module contains whose tests share something."""

_OF_A_SESSION: Final = ("tests/pipeline/test_profile", "tests/pipeline/", "tests/examples/")
"""Where services, or products of the demonstration, serve all tests of a process.

Few processes do these tests: others would start services of their own, or wait half a minute for
the products that one makes.
"""

LONGEST_FIRST: Final = (
    "tests/orchestrator/test_modes.py",
    "tests/cluster/test_conformance.py",
    "tests/pipeline/",
    "tests/examples/",
    "tests/system/",
    "tests/cluster/dask/",
    "tests/cluster/",
    "tests/orchestrator/",
    "tests/profiling/",
)
"""Where tests take long: begun last, a few of them would keep one process busy at the end."""


class SharingScheduling(LoadScopeScheduling):  # type: ignore[misc]  # it has no types
    """Gives each test to a process that is free, and those that share something to the same one."""

    def _split_scope(self, nodeid: str) -> str:
        return unit_of(nodeid)


def unit_of(nodeid: str) -> str:
    """Return the name of what is done in one process: a test, or those that share something.

    Tests of one mode of dask share its cluster.
    """
    for start in _OF_A_SESSION:
        if nodeid.startswith(start):
            return start
    path, _, name = nodeid.partition("::")
    if not _shares(path):
        return nodeid
    _, _, parameters = name.removesuffix("]").partition("[")
    modes = [each for each in parameters.split("-") if each in DASK_MODES]
    return "::".join([path, *modes])


@cache
def _shares(path: str) -> bool:
    text = (ROOT / path).read_text(encoding="utf-8")
    return any(each in text for each in _SHARED)


def rank(nodeid: str) -> int:
    """Return which part of `LONGEST_FIRST` a test belongs to."""
    ranks = (number for number, start in enumerate(LONGEST_FIRST) if nodeid.startswith(start))
    return next(ranks, len(LONGEST_FIRST))
