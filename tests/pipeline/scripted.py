"""A pipeline whose products fail each in its way, as the test that asks for them wants.

Tests and functions meet through files in a folder that ``BATUTA_TEST_STAGE`` names.
"""

import contextlib
import ctypes
import datetime as dt
import logging
import math
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from PIL import Image

from batuta.pipeline import Context, Output, Pipeline

pipeline = Pipeline("scripted_pipeline")
empty = Pipeline("empty_pipeline")
not_a_pipeline = "nothing"


def stage() -> Path:
    return Path(os.environ["BATUTA_TEST_STAGE"])


def note(name: str, text: str) -> None:
    """Write a file of the stage, whole or not at all."""
    part = stage() / f".{name}.{os.getpid()}"
    part.write_text(text)
    part.replace(stage() / name)


def wait_for(name: str) -> None:
    while not (stage() / name).exists():
        time.sleep(0.01)


def written(context: Context, text: str, name: str = "product.txt") -> Path:
    path = context.output_path(name)
    path.write_text(text)
    return path


def start_sleeper(*, own_session: bool = False) -> int:
    """Start a program that outlives whoever started it."""
    command = [sys.executable, "-c", "import time; time.sleep(600)"]
    return subprocess.Popen(command, start_new_session=own_session).pid


@pipeline.product("COPY", inputs=["EVENTS"], optional=["GTI"])
def copy(context: Context) -> Output:
    events = context.input("EVENTS")
    gti = context.optional_input("GTI")
    context.log.info("copies %s", context.obs_id)
    sys.stdout.write("said on standard output\n")
    logging.getLogger("a.library").warning("said by a library")
    os.write(2, b"said by C code\n")
    subprocess.run(["/bin/echo", "said by a child"], check=True)
    for done in range(1001):
        context.progress(done, 1000)
    text = events.read_text() + (gti.read_text() if gti else "")
    path = written(context, text)
    return Output(path, media_type="text/x-copy", metadata={"characters": len(text)})


@pipeline.product("MANY", also_makes=["SIDE"])
def many(context: Context) -> Iterator[Output | Path]:
    yield Output(written(context, "side", "side.txt"), product="SIDE")
    yield written(context, "main")


@pipeline.product("WAITS")
def waits(context: Context) -> Path:
    note("entered", str(os.getpid()))
    context.progress(1, 4)
    wait_for("go on")
    return written(context, "waited")


@pipeline.product("RAISES")
def raises(context: Context) -> Path:
    raise ValueError("the gain is\nnegative")


@pipeline.product("EXITS")
def exits(context: Context) -> Path:
    os._exit(3)


@pipeline.product("LEAVES")
def leaves(context: Context) -> Path:
    os._exit(0)


@pipeline.product("SYS_EXITS")
def sys_exits(context: Context) -> Path:
    sys.exit("no calibration")


@pipeline.product("KILLED")
def killed(context: Context) -> Path:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


@pipeline.product("SEGFAULTS")
def segfaults(context: Context) -> Path:
    ctypes.string_at(0)
    raise AssertionError


@pipeline.product("HANGS", timeout_s=1.0)
def hangs(context: Context) -> Path:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    worker = get_context("forkserver").Process(target=time.sleep, args=(600,))
    worker.start()
    pids = [os.getpid(), worker.pid, start_sleeper(), start_sleeper(own_session=True)]
    note("pids", " ".join(map(str, pids)))
    time.sleep(600)
    raise AssertionError


@pipeline.product("WORKS", timeout_s=600.0)
def works(context: Context) -> Path:
    note(
        "pids", " ".join(map(str, [os.getpid(), start_sleeper(), start_sleeper(own_session=True)]))
    )
    note("work_dir", str(context.work_dir))
    with (stage() / "entries").open("a") as entries:
        entries.write("entered\n")
    wait_for("go on")
    return written(context, "worked")


@pipeline.product("LEAVES_CHILDREN")
def leaves_children(context: Context) -> Path:
    note("pids", f"{start_sleeper()} {start_sleeper(own_session=True)}")
    return written(context, "left")


@pipeline.product("MAKES_NOTHING")
def makes_nothing(context: Context) -> Path:
    return context.output_path("never.txt")


@pipeline.product("YIELDS_NOTHING")
def yields_nothing(context: Context) -> Iterator[Path]:
    yield from ()


@pipeline.product("RETURNS_NONE")
def returns_none(context: Context) -> Path:
    return None  # type: ignore[return-value]  # the mistake that is tried


@pipeline.product("OUTSIDE")
def outside(context: Context) -> Path:
    path = stage() / "outside.txt"
    path.write_text("outside")
    return path


@pipeline.product("UNDECLARED")
def undeclared(context: Context) -> Output:
    return Output(written(context, "x"), product="OTHER")


@pipeline.product("ODD_METADATA")
def odd_metadata(context: Context) -> Output:
    metadata = {
        "gain": float("nan"),
        "from": os.fsdecode(b"caf\xe9.csv"),
        "mean": np.float32(1.5),
        "taken": dt.datetime(2026, 11, 28, 12, tzinfo=dt.UTC),
        "wcs": object,
    }
    return Output(written(context, "x"), media_type="a csv", metadata=metadata)


@pipeline.product("WITH_QUICKLOOK", also_makes=["WITHOUT", "OUTSIDE_QUICKLOOK", "NO_QUICKLOOK"])
def with_quicklook(context: Context) -> Iterator[Output]:
    picture = context.output_path("picture.jpg")
    # What it is called does not matter: it is a PNG.
    Image.new("RGB", (30, 20), "teal").save(picture, "PNG")
    page = written(context, "<svg/>", "page.png")
    yield Output(written(context, "a"), quicklook=picture)
    for product, given in (
        ("WITHOUT", page),
        ("OUTSIDE_QUICKLOOK", "/etc/hostname"),
        ("NO_QUICKLOOK", "never.png"),
    ):
        yield Output(written(context, "b", f"{product}.txt"), product=product, quicklook=given)


@pipeline.product("NOT_UTF8_NAME")
def not_utf8_name(context: Context) -> Path:
    path = context.work_dir / os.fsdecode(b"caf\xe9.csv")
    path.write_text("x")
    return path


@pipeline.product("INFINITE")
def infinite(context: Context) -> Path:
    context.progress(1, math.inf)  # type: ignore[arg-type]  # the mistake that is tried
    return written(context, "x")


@pipeline.product("COUNTS_BYTES")
def counts_bytes(context: Context) -> Path:
    context.progress(3_000_000_000, 5_000_000_000)
    return written(context, "x")


@pipeline.product("HUGE_ERROR")
def huge_error(context: Context) -> Path:
    raise ValueError("x" * 1_000_000)


def write_to_all_sockets(line: bytes) -> None:
    """Write to every socket of this process, as a library with a wrong descriptor may."""
    for each in list(Path("/proc/self/fd").iterdir()):
        with contextlib.suppress(OSError):
            if stat.S_ISSOCK(os.fstat(int(each.name)).st_mode):
                os.write(int(each.name), line)


@pipeline.product("GARBAGE")
def garbage(context: Context) -> Path:
    write_to_all_sockets(b"garbage\n")
    signal.pause()  # until it is killed: otherwise its product might be archived before
    return written(context, "x")


@pipeline.product("ENDLESS_LINE")
def endless_line(context: Context) -> Path:
    for _ in range(40):
        write_to_all_sockets(b"x" * 65_536)
    signal.pause()  # until it is killed: otherwise its product might be archived before
    return written(context, "x")


@pipeline.product("TWICE")
def twice(context: Context) -> list[Path]:
    return [written(context, "x"), written(context, "y", "again.txt")]


@pipeline.product("FAILS_AFTER_YIELD", also_makes=["EARLY"])
def fails_after_yield(context: Context) -> Iterator[Output]:
    yield Output(written(context, "early"), product="EARLY")
    raise RuntimeError("too late")


@pipeline.product("ASKS_UNDECLARED", inputs=["EVENTS"])
def asks_undeclared(context: Context) -> Path:
    return context.input("EVENT")


@pipeline.product("ESCAPES")
def escapes(context: Context) -> Path:
    return context.output_path("../../escaped.txt")


@pipeline.product("FAILS_ONCE")
def fails_once(context: Context) -> Path:
    if not (stage() / "failed").exists():
        note("failed", "")
        raise RuntimeError("the first time")
    return written(context, "second")


@pipeline.product("CHATTY")
def chatty(context: Context) -> Path:
    context.log.info("the first line")
    for number in range(5000):
        context.log.info("line %d of many", number)
    context.log.info("the last line")
    return written(context, "x")
