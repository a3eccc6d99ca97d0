"""Who gives a command: a name that a token proves, or one that is claimed."""

import pytest

from batuta.service.operators import (
    OPERATOR_VARIABLE,
    UNNAMED,
    Operator,
    default_operator,
    is_operator_name,
)


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
