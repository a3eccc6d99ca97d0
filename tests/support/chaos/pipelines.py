"""The pipelines: functions that make what `graph` says, and fail or hang as it draws.

Which run of a product of an observation it is, is counted in a file that outlives every process.
"""

import json
import os
import signal
import time
from functools import cache
from pathlib import Path
from typing import Any, Final

from batuta.pipeline import Context, Output, Pipeline
from batuta.pipeline.declaration import ProductSpec
from tests.support.chaos.graph import (
    Made,
    content_of,
    digest,
    fate,
    function_timeout_s,
    products,
)

VARIABLE: Final = "CHAOS_PIPELINES"
"""Names the file that says what is made, and where runs are counted."""


@cache
def _config() -> dict[str, Any]:
    config: dict[str, Any] = json.loads(Path(os.environ[VARIABLE]).read_text())
    return config


def _graph() -> dict[str, Made]:
    return products(_config()["products"], tuple(_config()["providers"]))


def _make(context: Context) -> Output:
    product, obs_id = context.product, context.obs_id
    run = _count(Path(_config()["runs"]) / f"{obs_id}.{product}")
    end = fate(_config()["seed"], product, obs_id, run)
    if end != "made":
        _end_badly(end)
    made = _graph()[product]
    given = {name: context.input(name) for name in made.mandatory}
    for name in made.optional:
        if (path := context.optional_input(name)) is not None:
            given[name] = path
    digests = {name: digest(path.read_bytes()) for name, path in given.items()}
    path = context.output_path(f"{product}.bin")
    path.write_bytes(content_of(product, obs_id, digests))
    return Output(path)


def _count(path: Path) -> int:
    """Record that a run has begun; return its number."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        os.write(file, b".")
        return os.lseek(file, 0, os.SEEK_CUR)
    finally:
        os.close(file)


def _end_badly(end: str) -> None:
    match end:
        case "raises":
            raise ValueError("the seed wants it to fail")
        case "exits":
            os._exit(3)
        case "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        case "hangs_on":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(3600)


def _pipeline(name: str) -> Pipeline:
    pipeline = Pipeline(name)
    # Who only imports this module, as a test does, is not told what is made.
    for product, made in _graph().items() if VARIABLE in os.environ else ():
        if made.provider == name:
            spec = ProductSpec(
                name=product,
                function=_make,
                inputs=made.mandatory,
                optional=made.optional,
                timeout_s=function_timeout_s(product),
            )
            pipeline.declare(spec)
    return pipeline


alpha = _pipeline("alpha")
beta = _pipeline("beta")
gamma = _pipeline("gamma")
