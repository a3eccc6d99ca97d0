"""The page of a profile as a browser shows it when a pipeline service sends it."""

import subprocess
from pathlib import Path

import pytest

from tests.pipeline.pipeline_process import PipelineProcess
from tests.support.browser import skip_without_chromium


@pytest.fixture
def chromium() -> str:
    """Its path."""
    return skip_without_chromium()


def console_of(chromium: str, url: str, folder: Path) -> str:
    """Open a page, and give what its scripts and the browser say of it."""
    command = [
        chromium,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--enable-logging=stderr",
        "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
        f"--user-data-dir={folder}",
        "--virtual-time-budget=20000",
        "--dump-dom",
        url,
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=True)
    return "\n".join(line for line in done.stderr.splitlines() if ":CONSOLE:" in line)


def test_the_charts_are_drawn_under_the_policy_of_the_service(
    chromium: str, profiled: PipelineProcess, tmp_path: Path
) -> None:
    record = profiled.make("TILED")
    url = str(profiled.http.base_url.join(record["profile"]))
    console = console_of(chromium, url, tmp_path / "chromium")
    # What Bokeh says of each chart once it is drawn; a page that may not run it says nothing.
    assert console.count("document idle") >= 4
    assert "Uncaught" not in console
    assert "Content Security Policy" not in console
