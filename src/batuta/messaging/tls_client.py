"""A client of NATS that keeps to TLS where it was asked for, and follows renewed certificates."""

import logging
from collections.abc import Mapping
from typing import Any

import nats.errors
from nats.aio.client import Client

from batuta.errors import ConfigurationError
from batuta.messaging.config import NatsConfig
from batuta.tls import KeyPair, Signature, new_context, signature_of, trusted_file


class ClientTls:
    """The TLS of a client: what it trusts and shows, of the files as they are now.

    Raises
    ------
    ConfigurationError
        One line per mistake.
    """

    def __init__(self, config: NatsConfig) -> None:
        if (config.tls_cert is None) != (config.tls_key is None):
            raise ConfigurationError(
                "--nats-tls-cert and --nats-tls-key: only one is given (accepted: both, or none)"
            )
        self._ca = config.tls_ca or trusted_file()
        self._pair = None
        if config.tls_cert is not None and config.tls_key is not None:
            self._pair = KeyPair(
                cert=config.tls_cert,
                key=config.tls_key,
                cert_name="--nats-tls-cert",
                key_name="--nats-tls-key",
            )
        self.context = new_context(self._ca, "--nats-tls-ca")
        if self._pair is not None:
            self._pair.load_into(self.context)
        self._signature = self._signed()

    def renew(self) -> None:
        """Take what has changed in the files, for the next connection.

        Raises
        ------
        ConfigurationError
            If it is not accepted: what was there before is still used.
        OSError
            If a file cannot be looked at.
        """
        signature = self._signed()
        if signature == self._signature:
            return
        # nats-py keeps the context that it was given first.
        if self._pair is not None:
            self._pair.load_into(self.context)
        if self._ca is not None:
            new_context(self._ca, "--nats-tls-ca")  # refused before it is taken
            self.context.load_verify_locations(self._ca)
        self._signature = signature

    def _signed(self) -> Signature:
        pair = (self._pair.cert, self._pair.key) if self._pair is not None else ()
        files = [each for each in (self._ca, *pair) if each is not None]
        return signature_of(files)


class NatsClient(Client):
    """A client of nats-py that shows nothing to a server without TLS, if TLS was asked for.

    nats-py encrypts if the server says so, which whoever is between the two may leave out.
    """

    def __init__(self, config: NatsConfig) -> None:
        super().__init__()
        self._config = config
        self._tls = ClientTls(config) if config.needs_tls else None
        logging.getLogger("asyncio").addFilter(_is_news)

    async def open(self, **options: Any) -> None:
        """Connect with the address, the token and the TLS of the configuration."""
        if self._tls is not None:
            options["tls"] = self._tls.context
            options["tls_hostname"] = self._config.tls_name
        await self.connect(self._config.url.split(","), token=self._config.token, **options)

    def renew_tls(self) -> None:
        """Take certificates that were renewed, for the next connection; raises as `ClientTls`."""
        if self._tls is not None:
            self._tls.renew()

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        """Refuse a server without TLS before anything is sent to it."""
        if initial_connection and self._tls is not None and not _speaks_tls(info):
            raise nats.errors.Error("nats: the server speaks no TLS, and TLS is asked for")
        if self._tls is not None and info.get("tls_available"):
            info["tls_required"] = True
        await super()._process_info(info, initial_connection)


def _is_news(record: logging.LogRecord) -> bool:
    """Leave out what asyncio says at the end of each TLS connection that nats-py made."""
    return not record.getMessage().startswith("returning true from eof_received()")


def _speaks_tls(info: Mapping[str, Any]) -> bool:
    return bool(info.get("tls_required") or info.get("tls_available"))
