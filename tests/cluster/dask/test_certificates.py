"""Other users can neither read what passes between machines nor run anything in workers."""

import http.client
import os
import socket
import ssl
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from distributed import Security

from batuta.cluster import check_configuration, create_cluster
from tests.cluster.conftest import compute
from tests.cluster.dask.batch_jobs import SLURM, tiles, worker_processes
from tests.cluster.dask.gated import Gate
from tools.slurm import LocalSlurm

Address = tuple[str, int]

ANSWER_S = 2.0


@dataclass(frozen=True)
class RunningCluster:
    """A cluster in batch jobs whose workers are connected."""

    folder: Path
    addresses: frozenset[Address]
    """What it and its workers listen on, and other machines can reach."""


@pytest.fixture(scope="module")
def running(
    slurm_environment: LocalSlurm, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningCluster]:
    folder = tmp_path_factory.mktemp("safe")
    before = _listening_addresses(os.getpid())
    conf = check_configuration({**SLURM, "nb_workers": 1})
    cluster: Any = create_cluster(conf, folder)
    try:
        Gate(folder)
        compute(cluster, tiles(cluster, folder, 1))
        addresses = _listening_addresses(os.getpid()) - before
        for pid in worker_processes(slurm_environment):
            addresses |= _listening_addresses(pid)
        yield RunningCluster(folder, frozenset(addresses))
    finally:
        cluster.cleanup()


def _listening_addresses(pid: int) -> set[Address]:
    found = psutil.Process(pid).net_connections(kind="tcp4")
    listening = {each.laddr for each in found if each.status == psutil.CONN_LISTEN}
    return {(each.ip, each.port) for each in listening if each.ip != "127.0.0.1"}


def test_connections_without_a_certificate_of_the_run_are_refused(running: RunningCluster) -> None:
    refusals = [_refusal(address, _unauthenticated_context()) for address in running.addresses]
    asks_for_certificates = [each for each in refusals if "CERTIFICATE_REQUIRED" in each]
    assert len(asks_for_certificates) == 3  # the scheduler, a worker and its nanny
    with_another = _unauthenticated_context()
    _load_certificate(with_another, Security.temporary(), running.folder)
    refusals = [_refusal(address, with_another) for address in running.addresses]
    assert sum("UNKNOWN_CA" in each for each in refusals) == 3


def _unauthenticated_context() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _load_certificate(context: ssl.SSLContext, security: Any, folder: Path) -> None:
    pair = folder / "another.pem"
    pair.write_text(security.tls_client_key + security.tls_client_cert)
    context.load_cert_chain(pair)


def _refusal(address: Address, context: ssl.SSLContext) -> str:
    """Return why a connection to dask is refused; or what it answers, if it is not."""
    with socket.create_connection(address, timeout=ANSWER_S) as raw:
        try:
            with context.wrap_socket(raw) as connection:
                connection.settimeout(ANSWER_S)
                return f"answered: {connection.recv(1)!r}"
        except (OSError, ssl.SSLError) as exc:
            return str(exc)


def test_nothing_is_served_to_a_browser(running: RunningCluster) -> None:
    assert len(running.addresses) == 4
    pages = ("/", "/health", "/status", "/info/main/workers.html", "/metrics", "/json/counts.json")
    statuses = {_status_of(address, page) for address in running.addresses for page in pages}
    assert statuses == {0, 404}


def _status_of(address: Address, page: str) -> int:
    """Return the HTTP status of a page; 0 where the server is not one of HTTP."""
    connection = http.client.HTTPConnection(*address, timeout=ANSWER_S)
    try:
        connection.request("GET", page)
        with connection.getresponse() as answer:
            return answer.status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()


def test_keys_are_in_a_folder_that_only_this_user_can_read(running: RunningCluster) -> None:
    (folder,) = running.folder.glob(".batuta-tls-*")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    files = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert files == dict.fromkeys(
        ("tls_ca_file.pem", "tls_worker_cert.pem", "tls_worker_key.pem"), 0o600
    )
