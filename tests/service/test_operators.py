"""Who gives a command: a name that a token proves, or one that is claimed."""

from pathlib import Path

import pytest

from batuta.errors import ConfigurationError
from batuta.service.operator_tokens import read_operator_tokens
from batuta.service.operators import (
    OPERATOR_RULE,
    OPERATOR_VARIABLE,
    UNNAMED,
    Operator,
    default_operator,
    is_operator_name,
)

ALICE, BOB = "alice-has-this-token", "bob-has-this-one-token"


def write(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


@pytest.mark.parametrize(
    ("operator", "label"),
    [
        (UNNAMED, "operator"),
        (Operator("alice@lab"), "operator alice@lab (claimed)"),
        (Operator("alice", proved=True), "operator alice"),
    ],
)
def test_a_name_that_no_token_proves_is_shown_as_claimed(operator: Operator, label: str) -> None:
    assert operator.label == label


@pytest.mark.parametrize("text", ["", " alice", "alice ", "a\nb", "é", "a" * 129])
def test_what_could_change_a_record_or_a_header_names_nobody(text: str) -> None:
    assert not is_operator_name(text)
    assert is_operator_name("Alice B. <alice@lab>")


def test_the_user_of_the_machine_gives_commands_unless_another_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(OPERATOR_VARIABLE, raising=False)
    assert is_operator_name(default_operator())
    assert "@" in default_operator()
    monkeypatch.setenv(OPERATOR_VARIABLE, "night shift")
    assert default_operator() == "night shift"


def test_tokens_are_read_by_the_names_of_their_operators(tmp_path: Path) -> None:
    path = write(tmp_path / "operators.yaml", f"alice: {ALICE}\nbob: {BOB}\n")
    assert read_operator_tokens(path) == {"alice": ALICE, "bob": BOB}
    assert read_operator_tokens(None) == {}


def test_all_that_is_wrong_with_a_file_of_tokens_is_told_and_no_token_is(tmp_path: Path) -> None:
    text = f"alice: {ALICE}\nbob: {ALICE}\n' eve': {BOB}\ncarl: short\ndora: 1234567890123456\n"
    path = write(tmp_path / "operators.yaml", text, 0o644)
    with pytest.raises(ConfigurationError) as caught:
        read_operator_tokens(path)
    problems = [line.removeprefix(f"{path}: ") for line in caught.value.problems]
    assert problems == [
        "bob has the token of alice (accepted: one for each)",
        f"' eve' is no operator's name (accepted: {OPERATOR_RULE})",
        "the token of carl is refused (accepted: at least 16 visible ASCII characters)",
        "the token of dora is refused (accepted: at least 16 visible ASCII characters)",
        "others can read it (accepted: chmod 600)",
    ]
    assert ALICE not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "problem"),
    [("alice", "not a mapping"), ("a: [", "not YAML"), ("", "not a mapping")],
)
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(ConfigurationError, match=problem):
        read_operator_tokens(write(tmp_path / "operators.yaml", text))
