"""The TLS of an orchestra: one certificate for all its services, checked before they start."""

import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field

from batuta.errors import ConfigurationError, one_line
from batuta.service.client import tls_context
from batuta.tls import KeyPair, ServerCertificate, context_of

CONNECT_S: Final = 3.0
"""How long a connection to a name of this machine may take."""


class OrchestraTls(BaseModel):
    """The certificate of all services; its paths are relative to the folder of the file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    cert: Path = Field(description="Certificate that services show, PEM, with those above it.")
    key: Path = Field(description="Its key, PEM; only its owner may read it.")
    ca: Path | None = Field(
        None, description="Authorities that services trust, PEM; by default those of the web."
    )

    def within(self, folder: Path) -> "OrchestraTls":
        """Return it with the paths of its files."""
        paths = {name: folder / path for name, path in self if path is not None}
        return self.model_copy(update=paths)

    @property
    def pair(self) -> KeyPair:
        """The files of the certificate."""
        return KeyPair(cert=self.cert, key=self.key, cert_name="tls.cert", key_name="tls.key")

    @property
    def options(self) -> dict[str, Path | None]:
        """The options of each service."""
        return {"tls_cert": self.cert, "tls_key": self.key, "tls_ca": self.ca}

    @property
    def nats_options(self) -> dict[str, Path]:
        """The options of the clients of the NATS that is started."""
        return {} if self.ca is None else {"nats_tls_ca": self.ca}


@dataclass(frozen=True)
class BoundAddress:
    """An address that a service will answer at, whose socket listens already."""

    where: str
    url: str
    host: str
    certificate: ServerCertificate


def problems_of(addresses: list[BoundAddress], ca: Path | None) -> list[str]:
    """Return what keeps the services from calling one another, a line each; the same one once.

    It would be found by what waits for them only, minutes later.
    """
    try:
        client = tls_context() if ca is None else context_of(ca, "tls.ca")
    except ConfigurationError as exc:
        return list(exc.problems)
    found: dict[str, None] = {}
    for each in addresses:
        name = urlsplit(each.url).hostname or ""
        refusal = each.certificate.refusal_of(name, client)
        if refusal is not None:
            found[
                f"tls: the services do not trust their own certificate, as that of {name}: "
                f"{refusal} (tls.ca names the file of its authority; of one that is signed by "
                "itself, tls.ca is that certificate)"
            ] = None
        elif (reason := _unreachable(each.url)) is not None:
            found[
                f"{each.where}: it listens on {each.host}, and its certificate is for "
                f"{', '.join(each.certificate.names)}: it cannot be reached as {name} ({reason}; "
                "accepted: a certificate for the host, a host that the name leads to)"
            ] = None
    return list(found)


def _unreachable(url: str) -> str | None:
    parts = urlsplit(url)
    try:
        socket.create_connection((parts.hostname, parts.port), CONNECT_S).close()
    except OSError as exc:
        return one_line(exc)
    return None
