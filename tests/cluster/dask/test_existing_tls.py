"""What is said of certificates for a cluster that is there, before anything is connected."""

from pathlib import Path
from typing import Any

import pytest

from batuta.errors import ConfigurationError
from batuta.orchestrator import Orchestrator

ADDRESS = "tls://127.0.0.1:1"


def problems(**keys: Any) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        Orchestrator({"mode": "dask", "scheduler_address": ADDRESS, **keys})
    return list(caught.value.problems)


def test_each_file_of_tls_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    there = tmp_path / "ca.pem"
    there.touch()
    missing = [str(tmp_path / name) for name in ("cert.pem", "key.pem")]
    assert problems(tls_ca_file=str(there), tls_cert=missing[0], tls_key=missing[1]) == [
        f"tls_cert: {missing[0]!r} given, a file that can be read expected",
        f"tls_key: {missing[1]!r} given, a file that can be read expected",
    ]


def test_an_address_of_tls_without_certificates_is_refused() -> None:
    assert problems() == [
        f"scheduler_address: {ADDRESS!r} given, which needs tls_ca_file, tls_cert and tls_key"
    ]
