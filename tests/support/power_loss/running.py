"""Plays a scenario by its name, with what surrounds its service."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from tests.support.power_loss.points import Recorded
from tests.support.power_loss.recorder import SOURCE
from tests.support.power_loss.scenarios.backup import backup
from tests.support.power_loss.scenarios.conductor import conductor
from tests.support.power_loss.scenarios.maps import maps
from tests.support.power_loss.scenarios.pipeline import pipeline
from tests.support.power_loss.scenarios.resume import resume
from tests.support.power_loss.scenarios.sdb import sdb
from tests.support.power_loss.scenarios.surroundings import Scenario, Surroundings
from tests.support.preloading import build_library
from tests.support.servers import NatsServer

MEMORY: Final = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108
"""Where all is written, and synced: to a disk as fast as memory, if there is such."""

SCENARIOS: Final[dict[str, Scenario]] = {
    "sdb": sdb,
    "conductor": conductor,
    "pipeline": pipeline,
    "resume": resume,
    "maps": maps,
    "backup": backup,
}


@contextmanager
def played(name: str) -> Iterator[Recorded]:
    """Play a scenario; what surrounds its service is there until the context ends."""
    with TemporaryDirectory(prefix="batuta-power-loss-", dir=MEMORY) as path:
        folder = Path(path).resolve()
        preloaded = build_library(SOURCE, folder)
        nats = NatsServer(folder / "nats")
        nats.start()
        try:
            around = Surroundings(folder, preloaded, nats)
            with SCENARIOS[name](around) as recorded:
                yield recorded
        finally:
            nats.stop()
