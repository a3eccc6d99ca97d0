"""Edited code: loaded for the next processing, or told of; and the version that a record has."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nats

from batuta.messaging import decode_activity
from batuta.pipeline import PipelineSettings
from tests.pipeline.pipeline_process import PipelineProcess, read
from tests.support.servers import NatsServer
from tests.support.waiting import eventually_sync

MODULE = """
import os, subprocess, time
from pathlib import Path
from batuta.pipeline import Pipeline
from reload_helper import WORD
pipeline = Pipeline("reloaded_pipeline")
STAGE = Path(os.environ["BATUTA_TEST_STAGE"])

@pipeline.product("WORD")
def word(context):
    print("says", WORD)
    path = context.output_path("word.txt")
    path.write_text(WORD)
    return path

@pipeline.product("SLOW")
def slow(context):
    (STAGE / "slow-started").write_text(WORD)
    while not (STAGE / "go").exists():
        time.sleep(0.02)
    return word(context)

@pipeline.product("CHILD")
def child(context):
    subprocess.run(["true"], check=True)
    (STAGE / "child-started").touch()
    while not (STAGE / "child-go").exists():
        time.sleep(0.02)
    return word(context)
"""


@contextmanager
def serving(
    folder: Path, nats_url: str, sdb_url: str, *, reload: bool
) -> Iterator[PipelineProcess]:
    (folder / "reload_main.py").write_text(MODULE)
    (folder / "reload_helper.py").write_text("WORD = 'first'\n")
    settings = PipelineSettings(
        port=0, nats_url=nats_url, sdb_url=sdb_url, data_dir=folder / "data", reload=reload
    )
    service = PipelineProcess("reload_main:pipeline", settings, folder, folder)
    service.start()
    try:
        yield service
    finally:
        service.kill()
        service.http.close()


async def notice(nats_url: str, text: str) -> str:
    """Wait for a notice of the service on ``activity.*`` that contains `text`."""
    client = await nats.connect(nats_url)
    subscription = await client.subscribe("activity.reloaded_pipeline")
    try:
        async for message in subscription.messages:
            told = decode_activity(message.data).service.notice
            if told and text in told:
                return told
    finally:
        await client.close()
    raise AssertionError("not said")


def says(service: PipelineProcess, word: str) -> dict[str, object]:
    """Make WORD until it is made by code that says `word`; return that record."""

    def made() -> dict[str, object] | None:
        record = service.make("WORD")
        assert record["state"] == "succeeded", record["error"]
        return record if f"says {word}\n" in service.log(record) else None

    record = eventually_sync(made, timeout_s=60)
    assert record is not None
    return record


async def test_edited_code_runs_from_the_next_processing_on_and_never_in_one_that_runs(
    tmp_path: Path, shared_nats: NatsServer, sdb_url: str
) -> None:
    with serving(tmp_path, shared_nats.url, sdb_url, reload=True) as service:
        slow = service.post("SLOW")
        eventually_sync(lambda: read(tmp_path / "slow-started") == "first")  # once it is written
        first = says(service, "first")
        helper = tmp_path / "reload_helper.py"
        helper.write_text("WORD = 'second'\n")
        second = says(service, "second")
        assert second["code"] != first["code"]
        helper.write_text("WORD = (\n")
        told = await notice(shared_nats.url, "not loaded")
        assert "reload_helper.py not loaded, the former code stays in use" in told
        assert "SyntaxError" in told
        assert "(reload_helper.py:1)" in told
        assert "\n" not in told
        assert says(service, "second")["code"] == second["code"]
        helper.write_text("WORD = 'third'\n")
        says(service, "third")
        (tmp_path / "go").touch()
        ended = service.end_of(slow)
        assert (ended["state"], ended["code"]) == ("succeeded", first["code"])
        assert "says first" in service.log(ended)
        mixed = service.post("CHILD", "sb2")
        read(tmp_path / "child-started")
        helper.write_text("WORD = 'fourth'\n")
        (tmp_path / "child-go").touch()
        ended = service.end_of(mixed)
        assert ended["state"] == "failed"
        assert "reload_helper.py edited while it ran" in ended["error"]
        main = tmp_path / "reload_main.py"
        main.write_text(MODULE.replace('"WORD")', '"WORD", optional=["HINT"])') + NEW_PRODUCT)
        told = await notice(shared_nats.url, "restart")
        assert "reload_main.py (digest " in told
        assert "WORD, NEW: declared otherwise than at the start" in told
        assert service.make("NEW")["state"] == "succeeded"


NEW_PRODUCT = """
@pipeline.product("NEW")
def new(context):
    return word(context)
"""


async def test_without_reload_an_edit_is_told_and_changes_nothing(
    tmp_path: Path, shared_nats: NatsServer, sdb_url: str
) -> None:
    with serving(tmp_path, shared_nats.url, sdb_url, reload=False) as service:
        first = says(service, "first")
        (tmp_path / "reload_helper.py").write_text("WORD = 'second'\n")
        told = await notice(shared_nats.url, "changed")
        assert told.startswith("reload_helper.py changed since its code was loaded")
        assert says(service, "first")["code"] == first["code"]


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    done = subprocess.run(
        ["git", "-C", str(folder), *identity, *arguments],
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()


def version(folder: Path) -> str:
    """The version of the pipeline in `folder`, as a process of its own has it."""
    program = (
        "from batuta.pipeline import load; from batuta.pipeline.code_version import loaded_code;"
        "print(loaded_code(load('versioned:pipeline').products, 'versioned:pipeline').version)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=folder, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def test_the_version_of_code_is_its_commit_if_it_is_committed_else_a_digest(
    tmp_path: Path,
) -> None:
    file = tmp_path / "versioned.py"
    text = (
        "from batuta.pipeline import Pipeline\npipeline = Pipeline('p')\n"
        "@pipeline.product('A')\ndef a(context): return 'a'\n"
    )
    file.write_text(text)
    before = version(tmp_path)
    assert before.startswith("digest ")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "versioned.py")
    git(tmp_path, "commit", "-qm", "first")
    commit = git(tmp_path, "rev-parse", "--short=12", "HEAD")
    assert version(tmp_path) == f"commit {commit}"
    file.write_text(f"{text}# edited\n")
    assert version(tmp_path).startswith(f"commit {commit}, edited, digest ")
    assert before not in version(tmp_path)
