"""How commands reach NATS: options, each also an environment variable."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from batuta.cli.output import NATS_URL, NatsUrl

if TYPE_CHECKING:
    from batuta.messaging import NatsConfig


@dataclass(frozen=True)
class NatsAccess:
    """The address of NATS, and what is shown to it."""

    nats_url: NatsUrl = NATS_URL
    nats_token: Annotated[
        str | None,
        typer.Option(
            envvar=["BATUTA_NATS_TOKEN", "BATUTA_TOKEN"],
            help="Token for NATS, where it asks for one: that of batuta up is the orchestra's.",
        ),
    ] = None
    nats_tls_ca: Annotated[
        Path | None,
        typer.Option(
            envvar="BATUTA_NATS_TLS_CA",
            help="Authorities that the certificate of NATS is checked by, PEM; by default those of "
            "BATUTA_TLS_CA, else the system's.",
        ),
    ] = None
    nats_tls_name: Annotated[
        str | None,
        typer.Option(
            envvar="BATUTA_NATS_TLS_NAME",
            help="Name that it is checked by, where that is not the host of the address.",
        ),
    ] = None
    nats_tls_cert: Annotated[
        Path | None,
        typer.Option(envvar="BATUTA_NATS_TLS_CERT", help="Certificate shown to NATS, PEM."),
    ] = None
    nats_tls_key: Annotated[
        Path | None,
        typer.Option(envvar="BATUTA_NATS_TLS_KEY", help="Key of that certificate, PEM."),
    ] = None

    def config(self) -> "NatsConfig":
        """Return it as what connects takes."""
        from batuta.messaging import NatsConfig  # noqa: PLC0415  for --help to be fast

        return NatsConfig(
            url=self.nats_url,
            token=self.nats_token,
            tls_ca=self.nats_tls_ca,
            tls_name=self.nats_tls_name,
            tls_cert=self.nats_tls_cert,
            tls_key=self.nats_tls_key,
        )
