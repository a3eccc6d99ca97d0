"""The configuration of the NATS server that an orchestra starts."""

import json
from pathlib import Path

import pytest

from batuta.credentials import without_password
from batuta.messaging.server import server_command


def configuration(folder: Path) -> dict[str, object]:
    document: dict[str, object] = json.loads((folder / "nats.conf").read_text())
    return document


def test_a_message_is_on_the_disk_when_it_is_acknowledged(tmp_path: Path) -> None:
    server_command(tmp_path, 4222)
    assert configuration(tmp_path)["jetstream"] == {
        "store_dir": str(tmp_path / "jetstream"),
        "sync_interval": "always",
    }


def test_its_token_is_in_a_file_that_only_its_owner_can_read(tmp_path: Path) -> None:
    path = tmp_path / "nats.conf"
    path.touch(mode=0o644)
    shown = "a-token-of-16-chars"
    command = server_command(tmp_path, 4222, token=shown)
    assert configuration(tmp_path)["authorization"] == {"token": shown}
    assert path.stat().st_mode & 0o077 == 0
    assert not any(shown in word for word in command)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("nats://127.0.0.1:4222", "nats://127.0.0.1:4222"),
        ("nats://user:secret@host:4222", "nats://host:4222"),
        ("nats://secret@host", "nats://host"),
        ("nats://u:secret@a:1,nats://u:secret@b:2", "nats://a:1,nats://b:2"),
        ("nats://u:sec/ret,@secret:x@a:1,b:2", "nats://a:1,b:2"),
        ("cannot reach nats://u:secret@a: refused", "cannot reach nats://a: refused"),
        ("postgresql://u:sec/r@et@h/n", "postgresql://h/n"),
        ("postgresql://h/n?user=u&password=secret&a=b", "postgresql://h/n?user=u&password=***&a=b"),
    ],
)
def test_no_password_is_shown_whatever_characters_it_has(text: str, shown: str) -> None:
    assert without_password(text) == shown
