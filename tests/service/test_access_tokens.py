"""Tokens that are accepted follow their file while a service runs."""

import asyncio
import hashlib
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from batuta.errors import ConfigurationError
from batuta.service import access_tokens
from batuta.service.access_tokens import RETRY_S, AccessTokens, Grant
from batuta.service.scopes import Scope
from batuta.service.token_file import TokenEntry, add_token, revoke_tokens
from tests.support.waiting import eventually

SHARED = "shared-by-all-services"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tokens.yaml"


def allowed(tokens: AccessTokens, token: str) -> set[str] | None:
    found = tokens.find(token.encode())
    return None if found is None else {str(each) for each in found.allowed}


@pytest.mark.parametrize(
    ("scope", "includes"),
    [
        (Scope.READ, {"read"}),
        (Scope.IMPORT, {"import"}),
        (Scope.OPERATE, {"read", "operate"}),
        (Scope.ADMINISTER, {"read", "import", "operate", "administer"}),
    ],
)
def test_a_scope_allows_what_it_includes(path: Path, scope: Scope, includes: set[str]) -> None:
    token = add_token(path, "ana", [scope])
    tokens = AccessTokens(SHARED, path)
    assert allowed(tokens, token) == includes
    found = tokens.find(token.encode())
    assert found is not None
    assert found.is_unrestricted == (scope is Scope.ADMINISTER)


def test_the_shared_token_may_do_everything_and_no_line_takes_that_from_it(path: Path) -> None:
    digest = hashlib.sha256(SHARED.encode()).hexdigest()
    path.write_text(f"eve: {{sha256_of_token: {digest}, scopes: [read], created: 2026-01-01}}")
    path.chmod(0o600)
    tokens = AccessTokens(SHARED, path)
    found = tokens.find(SHARED.encode())
    assert found is not None
    assert (found.name, found.is_unrestricted) == (None, True)
    assert allowed(tokens, f"{SHARED}x") is None


def test_tokens_that_are_made_and_revoked_are_noticed(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    tokens = AccessTokens(SHARED, path)
    token = add_token(path, "ana", [Scope.READ])
    assert allowed(tokens, token) is None
    tokens.refresh()
    assert allowed(tokens, token) == {"read"}
    revoke_tokens(path, ["ana"])
    tokens.refresh()
    assert allowed(tokens, token) is None
    assert [record.message for record in caplog.records] == [
        "tokens: ana may read",
        "tokens: ana revoked",
    ]
    assert token not in caplog.text


def test_a_file_that_is_removed_revokes_all(path: Path) -> None:
    token = add_token(path, "ana", [Scope.READ])
    tokens = AccessTokens(SHARED, path)
    path.unlink()
    tokens.refresh()
    assert allowed(tokens, token) is None
    assert tokens.problem is None


def test_a_file_that_breaks_leaves_in_force_what_was_read_last(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    token = add_token(path, "ana", [Scope.READ])
    text = path.read_text()
    tokens = AccessTokens(SHARED, path)
    assert tokens.checks() == {"tokens": True}
    for _ in range(3):
        path.write_text(f"{text}ben: [\n")
        tokens.refresh()
    assert allowed(tokens, token) == {"read"}
    (told,) = tokens.checks().values()
    assert isinstance(told, str)
    assert "not YAML" in told
    assert [each.message for each in caplog.records] == [f"tokens: {told}; in force: 1 read before"]
    path.write_text(text)
    tokens.refresh()
    assert tokens.checks() == {"tokens": True}


def test_a_file_that_is_broken_at_the_start_lets_the_services_talk(path: Path) -> None:
    path.write_text("ana: [")
    path.chmod(0o600)
    tokens = AccessTokens(SHARED, path)
    assert allowed(tokens, SHARED) is not None
    assert tokens.problem is not None


def test_many_mistakes_are_counted(path: Path) -> None:
    path.write_text("".join(f"n{number}: {{}}\n" for number in range(9)))
    path.chmod(0o600)
    problem = AccessTokens(SHARED, path).problem
    assert problem is not None
    assert problem.endswith("; and 24 more")


def test_a_token_is_refused_from_the_moment_on_at_which_it_expires(path: Path) -> None:
    end = datetime(2027, 1, 1, tzinfo=UTC)
    token = add_token(path, "ana", [Scope.READ], end)
    now = [end.timestamp() - 1]
    tokens = AccessTokens(SHARED, path, lambda: now[0])
    assert allowed(tokens, token) == {"read"}
    now[0] += 1
    assert allowed(tokens, token) is None
    told = "the token of ana has expired at 2027-01-01T00:00:00Z"
    assert tokens.expiry_of(token.encode()) == told
    assert tokens.expiry_of(b"another") is None


def test_where_no_token_is_required_the_file_proves_names_and_says_that_it_protects_nothing(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    token = add_token(path, "ana", [Scope.READ], datetime.now(UTC) + timedelta(days=1))
    tokens = AccessTokens(None, path)
    assert not tokens.required
    found = tokens.find(token.encode())
    assert isinstance(found, Grant)
    assert found.name == "ana"
    assert tokens.checks() == {}
    assert "without --token nothing is required of callers" in caplog.text


async def test_the_file_is_looked_at_again_and_again(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access_tokens, "POLL_S", 0.001)
    tokens = AccessTokens(SHARED, path)
    watching = asyncio.create_task(tokens.watch())
    token = add_token(path, "ana", [Scope.READ])

    async def found() -> Grant | None:
        return tokens.find(token.encode())

    await eventually(found)
    watching.cancel()
    with suppress(asyncio.CancelledError):
        await watching


def test_a_file_that_cannot_be_read_leaves_in_force_what_was_read_last(path: Path) -> None:
    token = add_token(path, "ana", [Scope.READ])
    tokens = AccessTokens(SHARED, path)
    path.unlink()
    path.mkdir(mode=0o700)
    tokens.refresh()
    assert allowed(tokens, token) == {"read"}
    assert tokens.problem is not None
    assert "cannot be read" in tokens.problem


@pytest.mark.parametrize("passed_s", [RETRY_S, -64800.0], ids=["later", "clock set back"])
def test_a_file_that_was_not_accepted_is_read_again_after_a_while_only(
    path: Path, passed_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = []

    def fail(path: Path) -> dict[str, TokenEntry]:
        reads.append(path)
        raise ConfigurationError(f"{path}: cannot be read: input/output error")

    token = add_token(path, "ana", [Scope.READ])
    now = [0.0]
    with monkeypatch.context() as failing:
        failing.setattr(access_tokens, "read_tokens", fail)
        tokens = AccessTokens(SHARED, path, lambda: now[0])
        tokens.refresh()
        assert len(reads) == 1
    now[0] += passed_s
    tokens.refresh()
    assert allowed(tokens, token) == {"read"}
    assert tokens.problem is None
