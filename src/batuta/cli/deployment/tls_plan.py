"""The TLS of an orchestra: one certificate for all its services, checked before they start."""

import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field

from batuta.errors import ConfigurationError, one_line
from batuta.service.client import tls_context
from batuta.service.settings import ServiceSettings, is_loopback
from batuta.tls import KeyPair, ServerCertificate, context_of

CONNECT_S: Final = 3.0
"""How long a connection to a name of this machine may take."""


S = TypeVar("S", bound=ServiceSettings)


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


@dataclass(frozen=True)
class _Address:
    """An address that a service will answer at, whose socket listens already."""

    where: str
    url: str
    host: str
    certificate: ServerCertificate


class PlannedTls:
    """The TLS of an orchestra that is being planned, and what is wrong with it.

    Parameters
    ----------
    given : OrchestraTls or None
        The certificate of all services.
    folder : Path
        The folder that paths are relative to.

    Attributes
    ----------
    certificate : ServerCertificate or None
        That certificate, if there is one and it is accepted.
    """

    def __init__(self, given: OrchestraTls | None, folder: Path) -> None:
        self._given = given.within(folder) if given is not None else None
        self._folder = folder
        self._problems: list[str] = []
        self._addresses: list[_Address] = []
        self._in_clear: list[str] = []
        self.certificate = self._read()

    @property
    def pair(self) -> KeyPair | None:
        """The files of the certificate."""
        return self._given.pair if self._given is not None else None

    @property
    def ca(self) -> Path | None:
        """The authorities that all trust."""
        return self._given.ca if self._given is not None else None

    @property
    def options(self) -> dict[str, Path | None]:
        """The options of each service, where it has none of its own."""
        if self._given is None:
            return {}
        return {"tls_cert": self._given.cert, "tls_key": self._given.key, "tls_ca": self._given.ca}

    def nats_options(self, host: str) -> dict[str, Any]:
        """Return the options of the clients of the NATS that is started on `host`."""
        if self.certificate is None:
            return {}
        # The certificate may have no name for it: then clients check another one.
        name = {"nats_tls_name": self.certificate.name_for(host)}
        return name if self.ca is None else {"nats_tls_ca": self.ca, **name}

    def of_service(self, settings: S) -> tuple[S, ServerCertificate | None]:
        """Return settings with the paths of their certificate, and that; read once for all.

        Raises
        ------
        ConfigurationError
            One line per mistake, of a certificate that is the service's own.
        """
        names = ("tls_cert", "tls_key", "tls_ca")
        given = {name: getattr(settings, name) for name in names}
        paths = {name: self._folder / path for name, path in given.items() if path is not None}
        settings = settings.model_copy(update=paths)
        if self._given is not None and settings.tls_cert == self._given.cert:
            return settings, self.certificate
        return settings, settings.server_certificate()

    def note(
        self, where: str, url: str, settings: ServiceSettings, certificate: ServerCertificate | None
    ) -> None:
        """Note the address of a service, whose socket listens already."""
        if certificate is not None:
            name = urlsplit(url).hostname or ""
            if settings.token is None and not is_loopback(name):
                self._problems.append(
                    f"{where}: without a token it answers under the names of this machine alone, "
                    f"and its certificate is for {', '.join(certificate.names)} (accepted: a "
                    "token; a certificate for localhost or 127.0.0.1 too)"
                )
                return
            self._addresses.append(_Address(where, url, settings.host, certificate))
        elif settings.clear_text_warning is not None:
            self._in_clear.append(f"{where} ({settings.host})")

    def warnings(self) -> list[str]:
        """Return, in one line, what would be sent in clear over a network."""
        if not self._in_clear:
            return []
        return [
            (
                f"{', '.join(self._in_clear)}: no tls: whoever is on the network between can read "
                "the token and all data, unless a proxy with TLS is in front"
            )
        ]

    def problems(self) -> list[str]:
        """Return what keeps the services from calling one another, a line each, each line once.

        It would be found by what waits for them only, minutes later.
        """
        try:
            client = tls_context() if self.ca is None else context_of(self.ca, "tls.ca")
        except ConfigurationError as exc:
            return [*self._problems, *exc.problems]
        found = (_problem_of(each, client) for each in self._addresses)
        return [*self._problems, *dict.fromkeys(line for line in found if line is not None)]

    def _read(self) -> ServerCertificate | None:
        if self._given is None:
            return None
        try:
            return ServerCertificate(self._given.pair)
        except ConfigurationError as exc:
            self._problems += exc.problems
            return None


def _problem_of(address: _Address, client: ssl.SSLContext) -> str | None:
    name = urlsplit(address.url).hostname or ""
    refusal = address.certificate.refusal_of(name, client)
    if refusal is not None:
        return (
            f"tls: the services do not trust their own certificate, as that of {name}: {refusal} "
            "(tls.ca names the file of its authority; of one that is signed by itself, tls.ca is "
            "that certificate)"
        )
    reason = _unreachable(address.url)
    if reason is None:
        return None
    return (
        f"{address.where}: it listens on {address.host}, and its certificate is for "
        f"{', '.join(address.certificate.names)}: it cannot be reached as {name} ({reason}; "
        "accepted: a certificate for the host, a host that the name leads to)"
    )


def _unreachable(url: str) -> str | None:
    parts = urlsplit(url)
    try:
        socket.create_connection((parts.hostname, parts.port), CONNECT_S).close()
    except OSError as exc:
        return one_line(exc)
    return None
