"""Logs that are written to without end."""

import asyncio
import threading
from pathlib import Path

import pytest

from batuta.service import log_files
from batuta.service.log_files import bounded_log, cut_log, last_line, read_chunks


def test_a_log_keeps_its_beginning_and_its_end(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_text("first\n" + "x" * 10_000 + "\nlast\n")
    cut_log(path, 400)
    text = path.read_text()
    assert text.startswith("first\n")
    assert text.endswith("\nlast\n")
    assert "[log cut: 9812 bytes left out]" in text
    assert len(text) < 400


def test_a_log_that_is_not_too_long_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_text("x" * 400)
    cut_log(path, 400)
    assert path.read_text() == "x" * 400
    cut_log(tmp_path / "absent.log", 400)


async def test_whoever_writes_a_log_that_is_cut_goes_on_at_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_files, "CHECK_INTERVAL_S", 0.01)
    path = tmp_path / "a.log"
    with path.open("ab", buffering=0) as log:
        log.write(b"first\n")
        async with bounded_log(path, 4000):
            cut = False
            while not cut:
                log.write(b"x" * 100 + b"\n")
                await asyncio.sleep(0)
                cut = b"[log cut" in path.read_bytes()
        log.write(b"last\n")
    content = path.read_bytes()
    assert content.startswith(b"first\n")
    assert content.endswith(b"last\n")
    assert b"\0" not in content


async def test_a_cut_under_way_at_the_end_is_waited_for_and_followed_by_the_last_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_files, "CHECK_INTERVAL_S", 0.01)
    path = tmp_path / "a.log"
    path.write_bytes(b"x" * 100)
    cutting, go_on = threading.Event(), threading.Event()
    under_way: list[int] = []
    most = 0

    def cut(given: Path, max_bytes: int) -> None:
        nonlocal most
        under_way.append(1)
        most = max(most, len(under_way))
        cutting.set()
        go_on.wait(10)
        cut_log(given, max_bytes)
        under_way.pop()

    monkeypatch.setattr(log_files, "cut_log", cut)
    async with bounded_log(path, 40):
        assert await asyncio.to_thread(cutting.wait, 10)
        asyncio.get_running_loop().call_later(0.05, go_on.set)
    assert most == 1
    assert path.stat().st_size <= 80


def test_the_last_line_of_a_long_log_is_read_without_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_text("y" * 10_000_000 + "\n the end \n\n")
    assert last_line(path) == "the end"
    assert last_line(tmp_path / "absent.log") == ""
    path.write_text("")
    assert last_line(path) == ""


def test_as_much_is_sent_as_was_promised_though_the_log_is_cut_meanwhile(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_bytes(b"x" * 100)
    chunks = b"".join(read_chunks(path, 40, 1000))
    assert len(chunks) == 960
    assert chunks.startswith(b"x" * 60 + b"\n")
