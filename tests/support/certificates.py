"""Certificates of an authority of the tests' own, made while they run."""

import datetime as dt
import ipaddress
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from batuta.tls import KeyPair

DAYS: Final = 90
HERE: Final = ("127.0.0.1", "localhost")


@dataclass(frozen=True)
class Validity:
    """From when to when a certificate is valid, in days from now."""

    begins: float = -1
    ends: float = DAYS


class Authority:
    """Signs certificates; its own is in the file `ca`."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name(f"An authority of tests, {secrets.token_hex(4)}")
        builder = _builder(self._name, self._key, Validity()).issuer_name(self._name)
        is_authority = x509.BasicConstraints(ca=True, path_length=None)
        builder = builder.add_extension(is_authority, critical=True)
        self.ca = folder / "ca.pem"
        self.ca.write_bytes(_pem(builder.sign(self._key, hashes.SHA256())))

    def pair(
        self,
        name: str = "service",
        *,
        hosts: Sequence[str] = HERE,
        validity: Validity = Validity(),
        passphrase: bytes | None = None,
    ) -> KeyPair:
        """Write the files of a new certificate, over those of that name."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(_name(name), key, validity).issuer_name(self._name)
        if hosts:
            alternatives = x509.SubjectAlternativeName([_general_name(host) for host in hosts])
            builder = builder.add_extension(alternatives, critical=False)
        cert = self._folder / f"{name}.pem"
        cert.write_bytes(_pem(builder.sign(self._key, hashes.SHA256())))
        path = self._folder / f"{name}-key.pem"
        path.touch(mode=0o600)
        path.write_bytes(_pem_of_key(key, passphrase))
        return KeyPair(cert=cert, key=path)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _builder(
    subject: x509.Name, key: ec.EllipticCurvePrivateKey, validity: Validity
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + dt.timedelta(days=validity.begins))
        .not_valid_after(now + dt.timedelta(days=validity.ends))
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _pem_of_key(key: ec.EllipticCurvePrivateKey, passphrase: bytes | None) -> bytes:
    encryption: serialization.KeySerializationEncryption = (
        serialization.NoEncryption()
        if passphrase is None
        else serialization.BestAvailableEncryption(passphrase)
    )
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
    )
