"""TLS: certificates and keys checked when they are read, and taken again when they are renewed.

Only the standard library is needed. What a certificate says is read by a handshake with itself, in
memory: so what is checked is what clients will see.
"""

import logging
import os
import ssl
import stat
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from batuta.errors import ConfigurationError, chain_of, one_line

LOG: Final = logging.getLogger(__name__)

CA_VARIABLE: Final = "BATUTA_TLS_CA"
"""Environment variable: the file of the authorities that clients trust, instead of those of the
web."""
MINIMUM_VERSION: Final = ssl.TLSVersion.TLSv1_2
WARN_BEFORE: Final = timedelta(days=10)
"""How long before its end a certificate is told to end: those of 90 days are renewed a month
before."""
_FLIGHTS: Final = 4
"""Rounds of a handshake, at most: TLS 1.2 needs two of each side."""
_NO_CHECK_TIME: Final = 0x200000
"""``X509_V_FLAG_NO_CHECK_TIME`` of OpenSSL, which `ssl` has no name for."""
_LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")
_CERTIFICATE: Final = b"-----BEGIN CERTIFICATE-----"
_PRIVATE_KEY: Final = b"PRIVATE KEY-----"
_OTHERS: Final = stat.S_IRWXO | stat.S_IWGRP | stat.S_IXGRP

_NO_TLS: Final = frozenset({"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE"})
"""What OpenSSL calls an answer that is none of TLS, by its version."""

Signature = tuple[tuple[int, int, int], ...]


@dataclass(frozen=True, kw_only=True)
class KeyPair:
    """The files of a certificate and of its key, PEM; how the user names each, for messages.

    The certificate is followed by those of the authorities between it and the one that is trusted.
    """

    cert: Path
    key: Path
    cert_name: str = "--tls-cert"
    key_name: str = "--tls-key"

    @property
    def signature(self) -> Signature:
        """What changes when a file is replaced or written to."""
        return signature_of((self.cert, self.key))

    def load_into(self, context: ssl.SSLContext) -> None:
        """Load this certificate into `context`, for its next handshake on.

        Raises
        ------
        ConfigurationError
            One line per mistake.
        """
        problems = [*_pem_problems(self.cert, self.cert_name, _CERTIFICATE, "a certificate")]
        problems += _pem_problems(self.key, self.key_name, _PRIVATE_KEY, "a private key")
        problems += _mode_problems(self.key, self.key_name)
        if problems:
            raise ConfigurationError(problems)
        asked: list[Path] = []

        def passphrase() -> str:
            asked.append(self.key)
            return ""

        try:
            # Without a function, OpenSSL would ask the terminal.
            context.load_cert_chain(self.cert, self.key, password=passphrase)
        except OSError as exc:
            raise ConfigurationError(self._refusal(exc, encrypted=bool(asked))) from exc

    def _refusal(self, exc: OSError, *, encrypted: bool) -> str:
        if encrypted:
            return (
                f"{self.key_name} {self.key}: the key is encrypted, and nobody is there to give "
                "its passphrase (accepted: one that is not: openssl pkey -in KEY -out PLAIN)"
            )
        if getattr(exc, "reason", "") in {"KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH"}:
            return (
                f"{self.cert_name} {self.cert}: the certificate is not that of the key "
                f"{self.key} (accepted: the two that were made together)"
            )
        reason = getattr(exc, "reason", None) or one_line(exc)
        return f"{self.cert_name} {self.cert}, {self.key_name} {self.key}: not accepted: {reason}"


def signature_of(files: Sequence[Path]) -> Signature:
    """Return what changes when one of `files` is replaced or written to.

    Raises
    ------
    OSError
        If one cannot be looked at.
    """
    found = (path.stat() for path in files)
    return tuple((each.st_mtime_ns, each.st_ino, each.st_size) for each in found)


def _pem_problems(path: Path, name: str, mark: bytes, what: str) -> list[str]:
    try:
        content = path.read_bytes()
    except OSError as exc:
        return [f"{name} {path}: cannot be read: {exc.strerror or exc}"]
    return [] if mark in content else [f"{name} {path}: has not {what} (accepted: a PEM file)"]


def _mode_problems(path: Path, name: str) -> list[str]:
    try:
        found = path.stat()
    except OSError:
        return []  # told already
    mode = stat.S_IMODE(found.st_mode)
    # As PostgreSQL: a key of root may belong to a group of those who serve with it.
    if mode & _OTHERS or (mode & stat.S_IRGRP and found.st_uid != 0):
        return [f"{name} {path}: others can read it, its mode is {mode:o} (accepted: chmod 600)"]
    return []


class ServerCertificate:
    """The certificate that a service shows, read again when its files change.

    A renewal that is refused (the key not replaced yet, say) leaves the former one in use, and is
    tried again once the files change again.

    Attributes
    ----------
    names : tuple of str
        The names and addresses that it is valid for.
    expires : datetime
        When it ends.

    Raises
    ------
    ConfigurationError
        One line per mistake.
    """

    names: tuple[str, ...]
    expires: datetime

    def __init__(self, pair: KeyPair) -> None:
        self._pair = pair
        self._renewal_problem: str | None = None
        self._signature: Signature = ()
        self._context = self._read()
        self._signature = pair.signature

    @property
    def context(self) -> ssl.SSLContext:
        """For the next connection: of what is in the files now, if that is accepted."""
        try:
            signature = self._pair.signature
        except OSError:  # being replaced
            return self._context
        if signature != self._signature:
            self._signature = signature
            self._renew()
        return self._context

    @property
    def problem(self) -> str | None:
        """What is wrong with it, or will be soon, in one line; None if nothing is."""
        if self.context and self._renewal_problem is not None:
            return f"the renewed certificate is not used: {self._renewal_problem}"
        left = self.expires - datetime.now(UTC)
        if left < timedelta():
            return f"the certificate has expired on {self.expires:%Y-%m-%d}"
        if left < WARN_BEFORE:
            return f"the certificate expires on {self.expires:%Y-%m-%d}: renew it"
        return None

    def name_for(self, host: str) -> str:
        """Return what to call a service that listens on `host`, so that clients accept it.

        That is `host` if the certificate has it, or another name of loopback if that is one; else
        the first of its names that is no pattern.
        """
        alike = _LOOPBACK if host in _LOOPBACK else ()
        others = (each for each in self.names if "*" not in each)
        return next((each for each in (host, *alike) if each in self.names), next(others, host))

    def refusal_of(self, name: str, client: ssl.SSLContext) -> str | None:
        """Return why a client refuses it as that of `name`, or None if it does not."""
        try:
            _shake_hands(self._context, client, name)
        except ssl.SSLCertVerificationError as exc:
            return exc.verify_message or one_line(exc)
        return None

    def _renew(self) -> None:
        try:
            self._context = self._read()
        except ConfigurationError as exc:
            self._renewal_problem = "; ".join(exc.problems)
            LOG.warning("the renewed certificate is not used: %s", self._renewal_problem)
        else:
            self._renewal_problem = None
            LOG.info("the renewed certificate is used, which expires on %s", self.expires.date())

    def _read(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = MINIMUM_VERSION
        # A client could have handshakes repeated without end.
        context.options |= ssl.OP_NO_RENEGOTIATION
        context.set_alpn_protocols(["http/1.1"])
        self._pair.load_into(context)
        shown = self._shown_by(context)
        begins, ends = (_time_of(shown[key]) for key in ("notBefore", "notAfter"))
        now = datetime.now(UTC)
        where = f"{self._pair.cert_name} {self._pair.cert}"
        if ends <= now:
            raise ConfigurationError(f"{where}: expired on {ends:%Y-%m-%d %H:%M} UTC (renew it)")
        if begins > now:
            raise ConfigurationError(
                f"{where}: valid from {begins:%Y-%m-%d %H:%M} UTC on only (is the clock right?)"
            )
        names = tuple(str(name) for _, name in shown.get("subjectAltName", ()))
        if not names:
            raise ConfigurationError(
                f"{where}: names no host, so that no client accepts it (accepted: one with "
                "subjectAltName, such as DNS:orchestra.example.org or IP:127.0.0.1)"
            )
        self.names, self.expires = names, ends
        return context

    def _shown_by(self, server: ssl.SSLContext) -> dict[str, Any]:
        client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        client.check_hostname = False
        # It is trusted here for what it is, so that all that is said of it is that it is no server.
        client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | _NO_CHECK_TIME
        client.load_verify_locations(self._pair.cert)
        try:
            return _shake_hands(server, client, None)
        except ssl.SSLError as exc:
            reason = getattr(exc, "verify_message", "") or one_line(exc)
            raise ConfigurationError(
                f"{self._pair.cert_name} {self._pair.cert}: not accepted: {reason}"
            ) from exc


def _time_of(text: str) -> datetime:
    return datetime.fromtimestamp(ssl.cert_time_to_seconds(text), UTC)


def _shake_hands(
    server: ssl.SSLContext, client: ssl.SSLContext, name: str | None
) -> dict[str, Any]:
    """Connect `client` to `server` in memory; return the certificate that it is shown."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    calling = client.wrap_bio(to_client, to_server, server_hostname=name)
    answering = server.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(_FLIGHTS):
        for side in (calling, answering):
            with suppress(ssl.SSLWantReadError):
                side.do_handshake()
    return dict(calling.getpeercert() or {})


def trust(ca: Path | None) -> None:
    """Make the authorities of `ca` those that this process and its children trust.

    Without one, those that the environment names are left.

    Raises
    ------
    ConfigurationError
        If they cannot be read.
    """
    if ca is not None:
        context_of(ca, "--tls-ca")
        os.environ[CA_VARIABLE] = str(ca.absolute())
    elif trusted_file() is not None:
        client_context()


def trusted_file() -> Path | None:
    """Return the file of the authorities that clients of this process trust; None: the web's."""
    given = os.environ.get(CA_VARIABLE)
    return Path(given) if given else None


def client_context() -> ssl.SSLContext:
    """Return what a client of this process trusts: the authorities of `trusted_file`.

    Only if there is such a file; it is read again when it was changed.

    Raises
    ------
    ConfigurationError
        If it cannot be read.
    """
    path = trusted_file()
    assert path is not None  # noqa: S101  callers have looked
    return context_of(path, CA_VARIABLE)


def context_of(ca: Path, name: str) -> ssl.SSLContext:
    """Return a client's context that trusts the authorities of `ca` alone; shared until it changes.

    Raises
    ------
    ConfigurationError
        If it cannot be read.
    """
    try:
        return _context_of(ca, name, signature_of((ca,)))
    except OSError as exc:
        raise ConfigurationError(f"{name} {ca}: cannot be read: {exc.strerror or exc}") from exc


@lru_cache(maxsize=4)
def _context_of(ca: Path, name: str, _signature: Signature) -> ssl.SSLContext:
    return new_context(ca, name)


def new_context(ca: Path | None, name: str = CA_VARIABLE) -> ssl.SSLContext:
    """Return a client's context of its own that trusts the authorities of `ca`, or the system's.

    Raises
    ------
    ConfigurationError
        If they cannot be read.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = MINIMUM_VERSION
    # A certificate that the file has is trusted itself, not only what it has signed.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    if ca is None:
        context.load_default_certs()
        return context
    try:
        context.load_verify_locations(ca)
    except (ssl.SSLError, OSError) as exc:
        reason = "has no certificate" if isinstance(exc, ssl.SSLError) else exc.strerror
        raise ConfigurationError(
            f"{name} {ca}: {reason} (accepted: a PEM file of authorities)"
        ) from exc
    return context


def tls_reason(exc: BaseException) -> str | None:
    """Return, in words, what TLS refused, if that is why a call failed."""
    for each in chain_of(exc):
        # That of aiohttp is one as well, and has its cause.
        if isinstance(each, ssl.SSLCertVerificationError) and hasattr(each, "verify_message"):
            return (
                f"its certificate is refused: {each.verify_message} "
                f"({CA_VARIABLE} names the file of the authorities to be trusted)"
            )
        if isinstance(each, ssl.SSLError) and getattr(each, "reason", "") in _NO_TLS:
            return "it does not speak TLS (is its address http://?)"
    return None


def is_refused_certificate(exc: BaseException) -> bool:
    """Return whether a call failed since the certificate of the other side was refused."""
    return any(isinstance(each, ssl.SSLCertVerificationError) for each in chain_of(exc))
