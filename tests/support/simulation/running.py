"""Runs schedules."""

import functools
import gc
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from batuta.graph import DeclaredPipeline, DeclaredProduct, derive_document
from tests.support.databases import migrated_file
from tests.support.simulation.maker import pipeline
from tests.support.simulation.orchestra import URLS, Orchestra, Outcome
from tests.support.simulation.plan import MAKER, Plan

MEMORY: Final = Path("/dev/shm")  # noqa: S108  a folder in memory, where there is one


def run_plan(plan: Plan) -> Outcome:
    """Run a schedule, and return how it ended."""
    with tempfile.TemporaryDirectory(dir=_folder().name) as folder, _without_collection():
        return Orchestra(plan, Path(folder), _template(), _graph()).run()


@contextmanager
def _without_collection() -> Iterator[None]:
    """Collect no garbage meanwhile: a tenth of the time, for what is all gone at the end."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def prepare() -> None:
    """Make what schedules share, and the processes that are forked from this one."""
    _template()
    _graph()


@functools.cache
def _folder() -> "tempfile.TemporaryDirectory[str]":
    memory = MEMORY if MEMORY.is_dir() else None
    return tempfile.TemporaryDirectory(prefix="batuta-simulation-", dir=memory)


@functools.cache
def _template() -> Path:
    return migrated_file()


@functools.cache
def _graph() -> Path:
    declared = DeclaredPipeline(
        use=MAKER,
        name=MAKER,
        products={
            name: DeclaredProduct(
                inputs=spec.inputs,
                optional=spec.optional,
                also_makes=spec.also_makes,
                keys=spec.graph_keys,
            )
            for name, spec in pipeline.products.items()
        },
    )
    document = derive_document([declared])
    for product in document["products"].values():
        product["url"] = f"{URLS[MAKER]}/pipeline"
    path = Path(_folder().name) / "graph.json"
    path.write_text(json.dumps(document))
    return path
