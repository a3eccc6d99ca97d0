"""Settings of all services; each is also an option and an environment variable."""

import ipaddress
import os
from pathlib import Path
from typing import Annotated, Final, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, model_validator

from batuta.credentials import has_credentials
from batuta.errors import ConfigurationError
from batuta.messaging import NatsConfig
from batuta.tls import KeyPair, ServerCertificate

LOOPBACK: Final = "127.0.0.1"
MIN_TOKEN_LENGTH: Final = 16
TOKEN_FILE: Final = Path("batuta-data/tokens.yaml")
"""Where `batuta token` writes, and services read, unless they are told otherwise."""

TOKEN_RULE: Final = f"at least {MIN_TOKEN_LENGTH} visible ASCII characters"


def is_token(text: str) -> bool:
    """Return whether a text is long enough for a token, and fits in a header."""
    visible = text.isascii() and text.isprintable() and " " not in text
    return visible and len(text) >= MIN_TOKEN_LENGTH


def _check_token(token: SecretStr) -> SecretStr:
    if not is_token(token.get_secret_value()):
        raise ValueError(f"{TOKEN_RULE} expected")
    return token


Token = Annotated[SecretStr, AfterValidator(_check_token)]
"""What every caller shows. A short one can be guessed; an empty one would be no protection."""


class ServiceSettings(BaseModel):
    """Settings that all services share.

    Each field is also an option of the service's command, a key of its configuration file and
    an environment variable ``BATUTA_...``: its description is the option's help.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = Field(LOOPBACK, description="Address to listen on.")
    port: int = Field(ge=0, le=65_535, description="Port to listen on; 0 takes a free one.")
    nats_url: str = Field(
        "nats://127.0.0.1:4222", description="Where NATS is; tls:// to speak TLS alone."
    )
    nats_wait_s: float = Field(
        30.0, gt=0, description="How long to wait for NATS at start, in seconds."
    )
    nats_token: SecretStr | None = Field(None, description="Token for NATS, where it asks for one.")
    token: Token | None = Field(
        None,
        description="Required of callers, and sent to the services called; without it a "
        "service listens on loopback only.",
    )
    tokens: Path = Field(
        TOKEN_FILE,
        description="File of named tokens with scopes, as batuta token writes it; what changes in "
        "it is noticed. A missing file has none.",
    )
    tls_cert: Path | None = Field(
        None,
        description="Certificate that the service shows, PEM, with those between it and its "
        "authority; with tls_key, the service speaks HTTPS alone.",
    )
    tls_key: Path | None = Field(
        None, description="Key of that certificate, PEM; only its owner may read it."
    )
    tls_ca: Path | None = Field(
        None,
        description="File of the authorities that the service trusts when it calls others by "
        "https://, PEM; those of the web by default.",
    )

    nats_tls_ca: Path | None = Field(
        None,
        description="File of the authorities that the certificate of NATS is checked by, PEM; by "
        "default those of tls_ca, else the system's.",
    )
    nats_tls_name: str | None = Field(
        None,
        description="Name that the certificate of NATS is checked by, where that is not the host "
        "of nats_url.",
    )
    nats_tls_cert: Path | None = Field(
        None, description="Certificate that is shown to NATS, PEM, where it asks for one."
    )
    nats_tls_key: Path | None = Field(
        None, description="Key of that certificate, PEM; only its owner may read it."
    )

    @model_validator(mode="after")
    def _both_or_none(self) -> Self:
        _refuse_half_a_pair(self, "tls_cert", "tls_key")
        _refuse_half_a_pair(self, "nats_tls_cert", "nats_tls_key")
        return self

    @property
    def nats(self) -> NatsConfig:
        """The configuration of the NATS connection."""
        token = self.nats_token.get_secret_value() if self.nats_token else None
        return NatsConfig(
            url=self.nats_url,
            wait_s=self.nats_wait_s,
            token=token,
            tls_ca=self.nats_tls_ca,
            tls_cert=self.nats_tls_cert,
            tls_key=self.nats_tls_key,
            tls_name=self.nats_tls_name,
        )

    @property
    def token_text(self) -> str | None:
        """The token in plain text."""
        return self.token.get_secret_value() if self.token else None

    def server_certificate(self) -> ServerCertificate | None:
        """Read the certificate that the service shows; None without one.

        Raises
        ------
        ConfigurationError
            One line per mistake.
        """
        if self.tls_cert is None or self.tls_key is None:
            return None
        return ServerCertificate(KeyPair(cert=self.tls_cert, key=self.tls_key))

    @property
    def clear_text_warning(self) -> str | None:
        """What to warn of, in one line, where a token would cross a network as it is."""
        if self.tls_cert is not None or is_loopback(self.host):
            return None
        return (
            f"host {self.host} without tls_cert and tls_key: whoever is on the network between can "
            "read the token and all data, unless a proxy with TLS is in front"
        )

    @property
    def nats_clear_text_warning(self) -> str | None:
        """What to warn of, in one line, where credentials of NATS would cross a network so."""
        shown = self.nats_token is not None or has_credentials(self.nats_url)
        if not shown or self.nats.needs_tls:
            return None
        given = (urlsplit(each).hostname or "" for each in self.nats_url.split(","))
        far = [host for host in given if not is_loopback(host)]
        if not far:
            return None
        return (
            f"nats_url: {', '.join(far)} without tls://: whoever is on the network between can "
            "read the token or password of NATS"
        )

    def require_token_beyond_loopback(self) -> None:
        """Refuse to listen beyond this machine without a token.

        Raises
        ------
        ConfigurationError
            If `host` is not loopback and there is no token.
        """
        if self.token is None and not is_loopback(self.host):
            raise ConfigurationError(
                f"--host {self.host}: without a token a service listens on loopback only "
                "(accepted: 127.0.0.1, ::1, localhost; or set BATUTA_TOKEN)"
            )


def _refuse_half_a_pair(settings: BaseModel, cert: str, key: str) -> None:
    given = {name for name in (cert, key) if getattr(settings, name) is not None}
    if len(given) == 1:
        other = ({cert, key} - given).pop()
        raise ValueError(f"{given.pop()} without {other} (accepted: both, or none)")


SECRET_VARIABLES: Final = tuple(
    f"BATUTA_{name}" for name in ("TOKEN", "NATS_TOKEN", "NATS_URL", "DATABASE_URL", "STORE_URL")
)
"""Variables that may hold secrets: addresses may have credentials in them."""


def forget_secrets() -> None:
    """Remove the secrets from the environment of this process, once its settings are read.

    What it starts (the functions and commands of a pipeline above all) would inherit them.
    """
    given = [name for name in os.environ if name.startswith("BATUTA_")]
    for name in given:
        if name in SECRET_VARIABLES or has_credentials(os.environ[name]):
            del os.environ[name]


def is_loopback(host: str) -> bool:
    """Return whether `host` can only be reached from this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
