"""Certificates and keys: what is refused, in which words, and what is taken when it is renewed."""

import logging
import ssl
from pathlib import Path

import pytest

from batuta.errors import ConfigurationError
from batuta.tls import KeyPair, ServerCertificate, context_of, new_context
from tests.support.certificates import Authority, Validity


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


def refusal_of(pair: KeyPair) -> str:
    with pytest.raises(ConfigurationError) as refused:
        ServerCertificate(pair)
    assert len(refused.value.problems) == 1
    return str(refused.value)


def test_a_certificate_tells_its_names_and_its_end(authority: Authority) -> None:
    found = ServerCertificate(authority.pair(hosts=["127.0.0.1", "a.example.org"]))
    assert set(found.names) == {"127.0.0.1", "a.example.org"}
    assert found.problem is None
    assert found.context.minimum_version == ssl.TLSVersion.TLSv1_2


@pytest.mark.parametrize(
    ("hosts", "listens_on", "called"),
    [
        (["127.0.0.1", "a.example.org"], "127.0.0.1", "127.0.0.1"),
        (["a.example.org"], "::", "a.example.org"),
        (["*.example.org", "b.example.org"], "::", "b.example.org"),
        (["*.example.org"], "10.0.0.1", "10.0.0.1"),
        (["a.example.org", "localhost"], "127.0.0.1", "localhost"),
    ],
)
def test_a_service_is_called_by_a_name_that_its_certificate_has(
    authority: Authority, hosts: list[str], listens_on: str, called: str
) -> None:
    assert ServerCertificate(authority.pair(hosts=hosts)).name_for(listens_on) == called


def test_an_expired_certificate_is_refused(authority: Authority) -> None:
    refused = refusal_of(authority.pair(validity=Validity(-90, -1)))
    assert "service.pem: expired on 20" in refused


def test_a_certificate_that_is_not_valid_yet_is_refused(authority: Authority) -> None:
    assert "valid from 20" in refusal_of(authority.pair(validity=Validity(1, 90)))


def test_a_certificate_that_ends_soon_is_a_problem(authority: Authority) -> None:
    found = ServerCertificate(authority.pair(validity=Validity(-80, 9)))
    assert found.problem is not None
    assert "renew it" in found.problem


def test_a_key_of_another_certificate_is_refused(authority: Authority) -> None:
    cert, key = authority.pair("one").cert, authority.pair("two").key
    assert "is not that of the key" in refusal_of(KeyPair(cert=cert, key=key))


def test_an_encrypted_key_is_refused_without_asking_the_terminal(authority: Authority) -> None:
    assert "the key is encrypted" in refusal_of(authority.pair(passphrase=b"open sesame"))


@pytest.mark.parametrize("mode", [0o604, 0o644, 0o620, 0o602])
def test_a_key_that_others_can_read_or_write_is_refused(authority: Authority, mode: int) -> None:
    pair = authority.pair("open")
    pair.key.chmod(mode)
    assert f"others can read it, its mode is {mode:o}" in refusal_of(pair)
    pair.key.chmod(0o600)


def test_a_certificate_without_names_is_refused(authority: Authority) -> None:
    assert "names no host" in refusal_of(authority.pair(hosts=[]))


def test_what_is_no_pem_is_refused_a_line_each(authority: Authority, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("nothing of the kind")
    with pytest.raises(ConfigurationError) as refused:
        ServerCertificate(KeyPair(cert=tmp_path / "text", key=tmp_path / "missing"))
    assert [line.rpartition("/")[2] for line in refused.value.problems] == [
        "text: has not a certificate (accepted: a PEM file)",
        "missing: cannot be read: No such file or directory",
    ]
    (tmp_path / "cut").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n")
    assert "not accepted" in refusal_of(
        KeyPair(cert=tmp_path / "cut", key=authority.pair("whole").key)
    )


def test_a_client_refuses_a_certificate_of_another_name_or_authority(
    authority: Authority, tmp_path: Path
) -> None:
    found = ServerCertificate(authority.pair(hosts=["a.example.org"]))
    known, other = new_context(authority.ca), new_context(Authority(tmp_path).ca)
    assert found.refusal_of("a.example.org", known) is None
    assert "Hostname mismatch" in (found.refusal_of("b.example.org", known) or "")
    assert "unable to get local issuer" in (found.refusal_of("a.example.org", other) or "")


def test_a_client_trusts_what_is_in_the_file_of_authorities_now(tmp_path: Path) -> None:
    first = Authority(tmp_path)
    trusting = context_of(first.ca, "ca")
    assert context_of(first.ca, "ca") is trusting
    found = ServerCertificate(Authority(tmp_path).pair())  # over the files of the first
    assert found.refusal_of("localhost", trusting) is not None
    assert found.refusal_of("localhost", context_of(first.ca, "ca")) is None


def test_a_renewed_certificate_is_taken_and_a_bad_one_is_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    authority = Authority(tmp_path)
    found = ServerCertificate(authority.pair(validity=Validity(-80, 9)))
    first = found.context
    assert found.context is first
    pair = authority.pair(validity=Validity(-89, -1))
    assert found.context is first
    assert "the renewed certificate is not used" in (found.problem or "")
    pair.key.write_text("half of a")
    assert found.context is first
    authority.pair()
    assert found.context is not first
    assert found.problem is None
    assert "the renewed certificate is used, which expires on" in caplog.text
