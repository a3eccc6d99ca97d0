"""Texts that others wrote, made fit for messages, logs and terminals."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batuta.errors import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain é 日本 \t\n", "plain é 日本 \t\n"),
        ("\x1b[2J\x1b]0;title\x07", r"\x1b[2J\x1b]0;title\x07"),
        ("a\rb\x9b31m", r"a\rb\x9b31m"),
        ("nul\0", r"nul\x00"),
        ("safe\u202egpj.exe", r"safe\u202egpj.exe"),
        ("caf\udce9", r"caf\udce9"),
    ],
)
def test_what_could_control_a_terminal_is_shown_instead(text: str, shown: str) -> None:
    assert printable(text) == shown


@given(st.text())
def test_what_is_printable_stays_as_it_is(text: str) -> None:
    once = printable(text)
    assert printable(once) == once
    assert all(letter.isprintable() or letter in "\n\t" or ord(letter) > 0x9F for letter in once)
