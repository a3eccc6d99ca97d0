"""The wall, while pipelines go silent and come back."""

import re
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from batuta.graph import Graph
from tests.dashboard.conftest import MADE, Watched, playing
from tests.dashboard.page import opened
from tests.support.orchestras import CommandProcess
from tests.support.servers import NatsServer

PIPELINE = """
from batuta.pipeline import Context, Output, Pipeline

pipeline = Pipeline("{name}")


@pipeline.product("{product}", inputs=["A"])
def make(context: Context) -> Output:
    raise NotImplementedError
"""
AGED = re.compile(r"\baged\b")
HEARD_WITHIN_MS = 60_000
"""Of what is shown once nothing was heard for 25 s, beside other tests on a small machine."""


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A folder whose path leaves room for those of sockets, in a folder for temporary files."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@contextmanager
def pipeline_process(watched: Watched, folder: Path, name: str) -> Iterator[CommandProcess]:
    """Run a real pipeline that reports to the orchestra, in a process of its own."""
    (folder / f"{name}.py").write_text(PIPELINE.format(name=name, product=name.upper()))
    urls = ["--nats-url", watched.stage.nats.url, "--sdb-url", watched.stage.sdb_url]
    process = CommandProcess(["pipeline", f"{name}:pipeline", "--port", "0", *urls], folder)
    try:
        process.wait_for_line(f"{name} listening on")
        yield process
    finally:
        process.close()


def row_of(page: Page, name: str) -> Locator:
    return page.get_by_role("row").filter(has_text=name)


def expect_up(page: Page, *names: str) -> None:
    for name in names:
        expect(row_of(page, name)).to_contain_text("up")
        expect(row_of(page, name)).not_to_have_class(AGED)


@pytest.mark.timeout(300)  # silence takes a while to notice
def test_a_pipeline_that_is_stopped_or_killed_is_grey_and_silent_until_it_is_back(
    watched: Watched, short_folder: Path
) -> None:
    folder = short_folder
    with opened() as page, pipeline_process(watched, folder, "spectra") as stopped:
        with pipeline_process(watched, folder, "images") as killed:
            page.goto(f"{watched.url}/wall")
            expect_up(page, "spectra", "images", "conductor", "sdb")
            stopped.process.send_signal(signal.SIGSTOP)
            killed.process.kill()
            try:
                for name in ("spectra", "images"):
                    expect(row_of(page, name)).to_contain_text("silent", timeout=HEARD_WITHIN_MS)
                    expect(row_of(page, name)).to_have_class(AGED)
            finally:
                stopped.process.send_signal(signal.SIGCONT)
        # Of them alone: what the wall shows besides is as true as before.
        expect(page.locator("main.aged")).to_have_count(0)
        expect_up(page, "conductor", "sdb", "spectra")
        with pipeline_process(watched, folder, "images"):
            expect_up(page, "spectra", "images")


def test_what_waits_for_a_person_is_counted_on_the_wall_and_told_without_its_inputs(
    tmp_path: Path, own_nats: NatsServer
) -> None:
    asking = {**MADE, "m_input": ["A"], "approval": "before"}
    graph = Graph.parse({"inputs": ["A"], "products": {"B": asking}})
    with playing(tmp_path, own_nats, {"graph": graph}) as watched, opened() as page:
        page.goto(f"{watched.url}/wall")
        expect(page.get_by_text("0 failed")).to_be_visible()
        expect(page.get_by_text("to approve")).to_have_count(0)
        watched.stage.archive("A", "o1")
        expect(page.get_by_text("1 to approve")).to_be_visible()
        expect(page.get_by_text(re.compile("o1: B waits for approval$"))).to_be_visible()
