"""`batuta token`: a token is shown once, and its file is changed without a service."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from batuta.cli.app import run
from batuta.cli.deployment.plan import DeploymentPlan, OrchestraConfig
from batuta.errors import ConfigurationError
from batuta.service.scopes import Scope
from batuta.service.token_file import add_token, digest_of, read_tokens

TOKEN = "a-token-of-an-orchestra"  # noqa: S105  of a test's own
Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that is meant where none is named."""
    monkeypatch.delenv("BATUTA_TOKENS", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "batuta-data" / "tokens.yaml"


def listed(capsys: Capture) -> list[dict[str, Any]]:
    capsys.readouterr()
    assert run(["token", "list", "--json"]) == 0
    found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    return found


def test_a_token_is_all_that_is_printed_for_a_program(path: Path, capsys: Capture) -> None:
    assert run(["token", "new", "ana", "--scope", "import", "--scope", "read"]) == 0
    shown = capsys.readouterr()
    token = shown.out.removesuffix("\n")
    assert read_tokens(path)["ana"].sha256_of_token == digest_of(token.encode()).hex()
    assert "not shown again" in shown.err
    assert token not in shown.err
    (row,) = listed(capsys)
    assert (row["name"], row["scopes"], row["state"]) == ("ana", ["read", "import"], "valid")


def test_a_token_ends_after_so_long_or_at_a_day(capsys: Capture) -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    assert run(["token", "new", "ana", "--scope", "read", "--expires", "90d"]) == 0
    assert run(["token", "new", "bob", "--scope", "read", "--expires", "2097-01-01"]) == 0
    ana, bob = listed(capsys)
    assert before <= datetime.fromisoformat(ana["expires"]) - timedelta(days=90)
    assert bob["expires"] == "2097-01-01T00:00:00Z"


def test_what_has_expired_is_listed_as_such(path: Path, capsys: Capture) -> None:
    add_token(path, "ana", [Scope.READ], datetime(2020, 1, 1, tzinfo=UTC))
    assert [row["state"] for row in listed(capsys)] == ["expired"]
    assert run(["token", "list"]) == 0
    assert "2020-01-01T00:00:00Z  expired" in capsys.readouterr().out


def test_a_token_that_is_revoked_is_listed_no_more(path: Path, capsys: Capture) -> None:
    for name in ("ana", "bob", "eve"):
        add_token(path, name, [Scope.READ])
    assert run(["token", "revoke", "ana", "eve"]) == 0
    assert capsys.readouterr().out == "ana: revoked\neve: revoked\n"
    assert [row["name"] for row in listed(capsys)] == ["bob"]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["new", "ana", "--scope", "read"], "ana: has a token already"),
        (["new", "bob", "--scope", "read", "--expires", "2020-01-01"], "is over already"),
        (["new", "bob", "--scope", "read", "--expires", "soon"], "--expires 'soon': no such time"),
        (["new", "bob", "--scope", "read", "--expires", "9999-12-31T23-12"], "no such time"),
        (["revoke", "bob"], "'bob': has no token in"),
    ],
)
def test_what_cannot_be_done_is_told_in_one_line_and_changes_nothing(
    arguments: list[str], problem: str, path: Path, capsys: Capture
) -> None:
    add_token(path, "ana", [Scope.READ])
    text = path.read_text()
    assert run(["token", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("batuta: ")
    assert problem in line
    assert path.read_text() == text


def test_a_file_may_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / "elsewhere.yaml"
    assert run(["token", "new", "ana", "--scope", "read", "--tokens", str(other)]) == 0
    monkeypatch.setenv("BATUTA_TOKENS", str(other))
    assert run(["token", "new", "bob", "--scope", "read"]) == 0
    assert list(read_tokens(other)) == ["ana", "bob"]


def planned(tmp_path: Path, **given: Any) -> DeploymentPlan:
    (tmp_path / "graph.json").write_text(json.dumps({"inputs": ["A"], "products": {}}))
    config = OrchestraConfig.model_validate({"conductor": {"graph": "graph.json"}, **given})
    return DeploymentPlan(config, tmp_path)


def test_all_services_of_an_orchestra_read_one_file(tmp_path: Path) -> None:
    for given, expected in (
        ({}, tmp_path / "batuta-data" / "tokens.yaml"),
        ({"tokens": "mine.yaml"}, tmp_path / "mine.yaml"),
        ({"tokens": "mine.yaml", "sdb": {"tokens": "mine.yaml"}}, tmp_path / "mine.yaml"),
    ):
        with planned(tmp_path, token=TOKEN, **given) as plan:
            assert plan.dashboard is not None
            found = {
                tmp_path / part.settings.tokens
                for part in (plan.sdb, plan.dashboard, plan.conductor({}))
            }
            assert found == {expected}
            assert plan.warnings == []


def test_an_orchestra_does_not_start_with_a_mistake_in_its_file(path: Path, tmp_path: Path) -> None:
    path.parent.mkdir()
    path.write_text("ana: a-token-in-plain-text\n")
    path.chmod(0o600)
    with pytest.raises(ConfigurationError) as caught:
        planned(tmp_path, token=TOKEN)
    (line,) = caught.value.problems
    assert line.startswith(f"tokens: {path}: ana: a token in plain text, which is not accepted")


def test_an_orchestra_without_a_token_says_that_its_file_protects_nothing(
    path: Path, tmp_path: Path
) -> None:
    add_token(path, "ana", [Scope.READ])
    with planned(tmp_path) as plan:
        assert plan.warnings == [f"{path}: without token, nothing is required of callers"]


def test_the_setting_of_tokens_in_plain_text_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        planned(tmp_path, conductor={"graph": "graph.json", "operator_tokens": "old.yaml"})
    (line,) = caught.value.problems
    assert line.startswith("conductor: operator_tokens: a file of tokens in plain text is not")
    assert "batuta token new NAME --scope" in line
