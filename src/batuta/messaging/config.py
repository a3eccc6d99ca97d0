"""Where NATS is, and what is shown to it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

_SECURE_SCHEMES: Final = ("tls://", "wss://")


@dataclass(frozen=True, kw_only=True)
class NatsConfig:
    """The address of NATS, how long to wait for it, and what is shown to it.

    Parameters
    ----------
    url : str
        ``nats://[user:password@]host:port``, or ``tls://``; several separated by commas.
    wait_s : float
        How long to wait for NATS at start before giving up, in seconds.
    token : str, optional
        The token that the server asks for.
    tls_ca : Path, optional
        The authorities that its certificate is checked by; by default those that other clients of
        this process trust, else the system's.
    tls_cert, tls_key : Path, optional
        The certificate that is shown to it, with its key.
    tls_name : str, optional
        The name that its certificate is checked by, where that is not the host of its address.
    """

    url: str = "nats://127.0.0.1:4222"
    wait_s: float = 30.0
    token: str | None = field(default=None, repr=False)
    tls_ca: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    tls_name: str | None = None

    @property
    def needs_tls(self) -> bool:
        """Whether nothing is to be sent to a server without TLS."""
        given = (self.tls_ca, self.tls_cert, self.tls_key)
        secure = any(each.strip().startswith(_SECURE_SCHEMES) for each in self.url.split(","))
        return secure or any(each is not None for each in given)
