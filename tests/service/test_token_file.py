"""The file of named tokens: digests and scopes, changed as a whole, and no token in it."""

import hashlib
import stat
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from batuta.errors import ConfigurationError
from batuta.service.operators import OPERATOR_RULE
from batuta.service.scopes import Scope
from batuta.service.token_file import add_token, read_tokens, revoke_tokens

DIGEST, OTHER = "a" * 64, "b" * 64
ALICES = "alice-has-this-token"


def write(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


def problems_of(path: Path) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        read_tokens(path)
    return [line.removeprefix(f"{path}: ") for line in caught.value.problems]


def test_a_token_is_random_and_the_file_has_its_digest_alone(tmp_path: Path) -> None:
    path = tmp_path / "data" / "tokens.yaml"
    tokens = [add_token(path, name, [Scope.OPERATE, Scope.READ]) for name in ("ana", "bo b")]
    assert len(set(tokens)) == 2
    # 32 bytes are 43 characters of base64.
    assert all(len(token) == len("batuta_") + 43 for token in tokens)
    text = path.read_text()
    assert not any(token in text for token in tokens)
    entry = read_tokens(path)["ana"]
    assert entry.sha256_of_token == hashlib.sha256(tokens[0].encode()).hexdigest()
    assert entry.scopes == (Scope.READ, Scope.OPERATE)
    assert entry.expires is None


def test_only_its_owner_can_read_the_file_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "data" / "tokens.yaml"
    add_token(path, "ana", [Scope.READ])
    revoke_tokens(path, ["ana"])
    assert read_tokens(path) == {}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert {each.name for each in path.parent.iterdir()} == {"tokens.yaml", ".tokens.yaml.lock"}


def test_commands_at_the_same_time_lose_nothing_of_each_other(tmp_path: Path) -> None:
    path = tmp_path / "tokens.yaml"
    names = [f"one-{number}" for number in range(16)]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda name: add_token(path, name, [Scope.READ]), names))
        list(threads.map(lambda name: revoke_tokens(path, [name]), names[::2]))
    assert sorted(read_tokens(path)) == sorted(names[1::2])


def test_a_name_has_one_token_and_revoking_is_of_all_or_none(tmp_path: Path) -> None:
    path = tmp_path / "tokens.yaml"
    add_token(path, "ana", [Scope.READ])
    with pytest.raises(ConfigurationError, match=r"ana: has a token already .* revoke 'ana'"):
        add_token(path, "ana", [Scope.READ])
    with pytest.raises(ConfigurationError, match="' eve' is no operator's name"):
        add_token(path, " eve", [Scope.READ])
    with pytest.raises(ConfigurationError, match=r"'bob': has no token in .* \(known: ana\)"):
        revoke_tokens(path, ["ana", "bob"])
    assert list(read_tokens(path)) == ["ana"]


def test_a_day_written_by_hand_begins_in_utc(tmp_path: Path) -> None:
    text = f"ana: {{sha256_of_token: {DIGEST}, scopes: [read], created: 2026-01-01, expires: %s}}"
    path = tmp_path / "tokens.yaml"
    for given in ("2027-01-01", "2027-01-01T00:00:00", "2027-01-01T02:00:00+02:00"):
        write(path, text % given)
        assert read_tokens(path)["ana"].expires == datetime(2027, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("given", ["9999-12-31T23:59:59-12:00", "soon", "[2027]", "2027-13-01"])
def test_what_is_no_time_is_refused(tmp_path: Path, given: str) -> None:
    text = f"ana: {{sha256_of_token: {DIGEST}, scopes: [read], created: 2026-01-01, expires: "
    (line,) = problems_of(write(tmp_path / "tokens.yaml", f"{text}{given}}}"))
    assert "ana.expires" in line or "not YAML" in line


def test_all_that_is_wrong_with_the_file_is_told_and_no_token_is(tmp_path: Path) -> None:
    text = f"""
    alice: {ALICES}
    bob: {{sha256_of_token: {DIGEST}, scopes: [read], created: 2026-01-01}}
    carl: {{sha256_of_token: {DIGEST}, scopes: [read], created: 2026-01-01}}
    ' eve': {{sha256_of_token: {OTHER}, scopes: [read], created: 2026-01-01}}
    dora: {{sha256_of_token: {ALICES}, scopes: [], created: 2026-01-01}}
    fred: {{sha256_of_token: {OTHER}, scopes: [write], created: 2026-01-01}}
    """
    problems = problems_of(write(tmp_path / "tokens.yaml", text, 0o640))
    assert ALICES not in "".join(problems)
    alice, eve, dora, scopes, fred, carl, mode = problems
    assert alice == (
        "alice: a token in plain text, which is not accepted any more: remove the line, and make "
        "a new one with: batuta token new 'alice' --scope administer"
    )
    assert eve == f"' eve' is no operator's name (accepted: {OPERATOR_RULE})"
    assert dora.startswith("dora.sha256_of_token: not the SHA-256 of a token")
    assert scopes == "dora.scopes: none given (accepted: read, import, operate, administer)"
    assert fred.startswith("fred.scopes[0]: 'write' given, 'read', ")
    assert carl == "carl has the token of bob (accepted: one for each)"
    assert mode == "others can read or change it (accepted: chmod 600)"


@pytest.mark.parametrize(("text", "problem"), [("alice", "not a mapping"), ("a: [", "not YAML")])
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, text: str, problem: str) -> None:
    (line,) = problems_of(write(tmp_path / "tokens.yaml", text))
    assert problem in line


def test_a_missing_file_and_an_empty_one_have_no_tokens(tmp_path: Path) -> None:
    assert read_tokens(tmp_path / "tokens.yaml") == {}
    assert read_tokens(write(tmp_path / "tokens.yaml", "")) == {}
