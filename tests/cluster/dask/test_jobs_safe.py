"""Who is not this user can neither read what passes between machines, nor have anything run."""

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
from tests.cluster.dask.gated import Gate
from tests.cluster.dask.slurm_jobs import SLURM, tiles, worker_processes
from tools.slurm import LocalSlurm

Address = tuple[str, int]

ANSWER_S = 2.0


@dataclass(frozen=True)
class Opened:
    """A cluster of jobs with its workers there."""

    folder: Path
    doors: frozenset[Address]
    """All that it and its workers listen on, and that other machines can reach."""


@pytest.fixture(scope="module")
def opened(
    slurm_environment: LocalSlurm, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Opened]:
    folder = tmp_path_factory.mktemp("safe")
    before = _doors(os.getpid())
    conf = check_configuration({**SLURM, "nb_workers": 1})
    cluster: Any = create_cluster(conf, folder)
    try:
        Gate(folder)
        compute(cluster, tiles(cluster, folder, 1))
        doors = _doors(os.getpid()) - before
        for pid in worker_processes(slurm_environment):
            doors |= _doors(pid)
        yield Opened(folder, frozenset(doors))
    finally:
        cluster.cleanup()


def _doors(pid: int) -> set[Address]:
    found = psutil.Process(pid).net_connections(kind="tcp4")
    listening = {each.laddr for each in found if each.status == psutil.CONN_LISTEN}
    return {(each.ip, each.port) for each in listening if each.ip != "127.0.0.1"}


def test_whoever_has_no_certificate_of_the_run_is_refused(opened: Opened) -> None:
    refusals = [_refusal(door, _stranger()) for door in opened.doors]
    asks_for_certificates = [each for each in refusals if "CERTIFICATE_REQUIRED" in each]
    assert len(asks_for_certificates) == 3  # the scheduler, a worker and its nanny
    with_another = _stranger()
    _give_certificate(with_another, Security.temporary(), opened.folder)
    refusals = [_refusal(door, with_another) for door in opened.doors]
    assert sum("UNKNOWN_CA" in each for each in refusals) == 3


def _stranger() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _give_certificate(context: ssl.SSLContext, security: Any, folder: Path) -> None:
    pair = folder / "another.pem"
    pair.write_text(security.tls_client_key + security.tls_client_cert)
    context.load_cert_chain(pair)


def _refusal(door: Address, context: ssl.SSLContext) -> str:
    """Say what becomes of a stranger who would talk to dask; empty if nobody answers at all."""
    with socket.create_connection(door, timeout=ANSWER_S) as raw:
        try:
            with context.wrap_socket(raw) as talk:
                talk.settimeout(ANSWER_S)
                return f"heard: {talk.recv(1)!r}"
        except (OSError, ssl.SSLError) as exc:
            return str(exc)


def test_nothing_is_served_to_a_browser(opened: Opened) -> None:
    assert len(opened.doors) == 4
    pages = ("/", "/health", "/status", "/info/main/workers.html", "/metrics", "/json/counts.json")
    statuses = {_status_of(door, page) for door in opened.doors for page in pages}
    assert statuses == {0, 404}


def _status_of(door: Address, page: str) -> int:
    """Give the status of a page; 0 where the door does not speak HTTP."""
    connection = http.client.HTTPConnection(*door, timeout=ANSWER_S)
    try:
        connection.request("GET", page)
        with connection.getresponse() as answer:
            return answer.status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()


def test_keys_are_in_a_folder_of_this_user_alone(opened: Opened) -> None:
    (folder,) = opened.folder.glob(".batuta-tls-*")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    files = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert files == dict.fromkeys(
        ("tls_ca_file.pem", "tls_worker_cert.pem", "tls_worker_key.pem"), 0o600
    )
