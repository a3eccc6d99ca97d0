"""From the request for a product to the entry in its function.

Compared in one run with what one would write instead: a bare ``multiprocessing`` process of a
fork server that has the same modules loaded, and a new Python that imports them.

    python -m benchmarks.bench_pipeline [--runs 50]
"""

import argparse
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import pandas as pd
import xarray as xr

from batuta.messaging.server import server_command
from batuta.pipeline import Context, Pipeline, PipelineSettings

IMPORTS = "import os, time, numpy, pandas, xarray"
ENTERED_VARIABLE = "BATUTA_BENCH_ENTERED"
PATIENCE_S = 60.0

pipeline = Pipeline("bench_pipeline")
LOADED = (np, pd, xr)
"""What a pipeline of tiles would have loaded."""


@pipeline.product("NOTHING")
def nothing(_context: Context) -> Path:
    """Note when it is entered; end without a product, so that no sdb is needed."""
    enter()
    raise SystemExit


def enter() -> None:
    """Write the time, in s of the system's monotonic clock."""
    now_s = time.monotonic()
    path = Path(os.environ[ENTERED_VARIABLE])
    part = path.with_suffix(".part")
    part.write_text(repr(now_s))
    part.replace(path)


def measure(start: Callable[[], Callable[[], object]], runs: int) -> list[float]:
    """Times from the start to the entry, in s; `start` returns what waits for the end."""
    path = Path(os.environ[ENTERED_VARIABLE])
    times = []
    for _ in range(runs + 1):
        path.unlink(missing_ok=True)
        before_s = time.monotonic()
        wait = start()
        wait()
        times.append(float(path.read_text()) - before_s)
    return times[1:]  # the first loads what the others find loaded


def a_request(client: httpx.Client) -> Callable[[], object]:
    """Ask a pipeline service for a product."""
    response = client.post("/processing", json={"product": "NOTHING", "obs_id": "sb1"})
    address = response.raise_for_status().headers["location"]

    def wait() -> None:
        # A look at the file takes nothing from the service, which is still at it.
        _until(Path(os.environ[ENTERED_VARIABLE]).exists)
        _until(lambda: client.get(address).json()["ended"] is not None)

    return wait


def _until(true: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not true():
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"not within {PATIENCE_S:g} s")
        time.sleep(0.01)


def a_forked_process() -> Callable[[], object]:
    """Start a process of a fork server."""
    process = multiprocessing.get_context("forkserver").Process(target=enter)
    process.start()
    return process.join


def a_new_python() -> Callable[[], object]:
    """Start a Python that imports what the pipeline imports."""
    program = (
        f"{IMPORTS}; open(os.environ['{ENTERED_VARIABLE}'], 'w').write(repr(time.monotonic()))"
    )
    return subprocess.Popen([sys.executable, "-c", program]).wait


@contextmanager
def a_service(folder: Path) -> Iterator[httpx.Client]:
    """A pipeline service of this module, with a NATS of its own."""
    port = 42_420
    nats = subprocess.Popen(server_command(folder / "nats", port), stderr=subprocess.DEVNULL)
    settings = PipelineSettings(
        port=0, nats_url=f"nats://127.0.0.1:{port}", data_dir=folder / "pipeline", max_concurrent=1
    )
    program = (
        "import sys; from batuta.pipeline import PipelineSettings, load, run; "
        "run(PipelineSettings.model_validate_json(sys.argv[1]), load(sys.argv[2]))"
    )
    named = "benchmarks.bench_pipeline:pipeline"
    command = [sys.executable, "-c", program, settings.model_dump_json(), named]
    service = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert service.stdout is not None  # noqa: S101  it is a pipe
        url = service.stdout.readline().split()[-1]
        with httpx.Client(base_url=f"{url}/pipeline") as client:
            yield client
    finally:
        service.terminate()
        service.wait()
        nats.terminate()
        nats.wait()


def main() -> None:
    """Measure, and print medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=50)
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ[ENTERED_VARIABLE] = str(folder / "entered")
        multiprocessing.set_forkserver_preload(["benchmarks.bench_pipeline"])
        with a_service(folder) as client:
            times = {
                "processing": measure(lambda: a_request(client), runs),
                "fork server": measure(a_forked_process, runs),
                "new python": measure(a_new_python, max(5, runs // 5)),
            }
    medians_ms = {name: 1000 * statistics.median(each) for name, each in times.items()}
    result = {
        "median_ms": {name: round(value, 2) for name, value in medians_ms.items()},
        "p95_ms": {
            name: round(1000 * sorted(each)[int(0.95 * (len(each) - 1))], 2)
            for name, each in times.items()
        },
        "processing_over_fork_server": round(
            medians_ms["processing"] / medians_ms["fork server"], 2
        ),
        "new_python_over_processing": round(medians_ms["new python"] / medians_ms["processing"], 1),
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
