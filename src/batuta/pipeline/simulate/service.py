"""Simulated processings: they wait, then archive a small file or fail."""

import asyncio
import json
import random
import shutil
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

from batuta.errors import ConfigurationError
from batuta.graph import Graph, Product, read_graph
from batuta.messaging import Progress
from batuta.pipeline.messages import Outcome, ProductVersion
from batuta.pipeline.runner import ProcessingRun
from batuta.pipeline.scheduler import Offer
from batuta.pipeline.service_core import ProcessingService, ServiceSpec, lock_data_dir, open_service
from batuta.pipeline.simulate.settings import SimulateSettings
from batuta.sdb.client import SdbClient
from batuta.sdb.records import InputRef
from batuta.service.client import ServiceError
from batuta.service.runner import run_service
from batuta.spelling import NameSuggester

NAME: Final = "simulate"
PARALLEL_IMPORTS: Final = 8
FIRST_RETRY_S: Final = 0.2
MAX_RETRY_S: Final = 5.0


def run_simulate(settings: SimulateSettings) -> None:
    """Serve the providers of ``settings.graph`` until SIGINT or SIGTERM."""
    run_service(NAME, settings, open_simulate)


@asynccontextmanager
async def open_simulate(settings: SimulateSettings, url: str) -> AsyncIterator[ProcessingService]:
    """Open the simulated pipeline; `url` is the address that it listens on."""
    providers = _simulated(read_graph(settings.graph), settings)
    offers = {
        product.name: Offer(product.provider, product.timeout_s)
        for products in providers.values()
        for product in products
    }
    with ExitStack() as stack:
        folder = settings.folder(NAME)
        stack.enter_context(lock_data_dir(folder))
        files = folder / "files"
        shutil.rmtree(files, ignore_errors=True)  # left by a service that was killed
        files.mkdir()
        # The client must not retry: it would hold a thread of the pool. `_archive` retries.
        sdb = SdbClient(settings.sdb_url, token=settings.token_text, retry_for_s=0)
        stack.enter_context(sdb)
        runner = SimulatedRunner(settings, sdb, files)
        stack.callback(runner.close)
        spec = ServiceSpec(
            name=NAME,
            description=f"Simulates {', '.join(providers) or 'nothing'}.",
            offers=offers,
            runner=runner,
            others=f"simulated is what {settings.graph} had at the start: if the graph in force "
            "has others, restart batuta simulate with it",
        )
        async with open_service(settings, url, spec) as service:
            yield service


def _simulated(graph: Graph, settings: SimulateSettings) -> dict[str, list[Product]]:
    """Return the products of the providers that are simulated, by provider.

    Raises
    ------
    ConfigurationError
        If one that is said to run elsewhere is not in the graph.
    """
    unknown = [name for name in settings.elsewhere if name not in graph.providers]
    if unknown:
        suggest = NameSuggester(list(graph.providers)).hint
        known = ", ".join(graph.providers)
        raise ConfigurationError(
            f"elsewhere: provider {name!r} is not in the graph{suggest(name)} (known: {known})"
            for name in unknown
        )
    made: dict[str, list[Product]] = {}
    for product in graph.products.values():
        if product.provider not in settings.elsewhere:
            made.setdefault(product.provider, []).append(product)
    return made


class SimulatedRunner:
    """Simulates runs by waiting, thousands at a time.

    Parameters
    ----------
    settings : SimulateSettings
        How long runs last, and how often they fail.
    sdb : SdbClient
        Where products are archived.
    folder : Path
        Where their files are written before the import.
    """

    def __init__(self, settings: SimulateSettings, sdb: SdbClient, folder: Path) -> None:
        self._settings = settings
        self._sdb = sdb
        self._folder = folder
        self._random = random.Random(settings.seed)  # noqa: S311  a simulation, no secrets
        self._threads = ThreadPoolExecutor(PARALLEL_IMPORTS, "import")

    async def run(self, run: ProcessingRun, on_progress: Callable[[Progress], None]) -> Outcome:
        """Wait, then archive a product or fail."""
        settings = self._settings
        wait_s = self._random.uniform(settings.wait_min_s, settings.wait_max_s)
        fails = self._random.random() < settings.failure
        on_progress(Progress(done=0, total=1))
        await asyncio.sleep(wait_s)
        if fails:
            return Outcome(error=f"simulated failure (probability {settings.failure:g})")
        outcome = await self._archive(run, wait_s)
        on_progress(Progress(done=1, total=1))
        return outcome

    @property
    def code(self) -> None:
        """Nothing of its own is run."""
        return None

    def close(self) -> None:
        """Stop its threads."""
        self._threads.shutdown()

    async def _archive(self, run: ProcessingRun, wait_s: float) -> Outcome:
        retry_s = FIRST_RETRY_S
        while True:
            try:
                version = await self._import(run, wait_s)
            except ServiceError as exc:
                if exc.refused:
                    return Outcome(error=str(exc))
            else:
                return Outcome(outputs=(ProductVersion(product=run.product, version=version),))
            await asyncio.sleep(retry_s)
            retry_s = min(2 * retry_s, MAX_RETRY_S)

    async def _import(self, run: ProcessingRun, wait_s: float) -> int:
        loop = asyncio.get_running_loop()
        importing = loop.run_in_executor(self._threads, self._import_blocking, run, wait_s)
        try:
            return await asyncio.shield(importing)
        except asyncio.CancelledError:
            # A thread cannot be stopped: when this returns, nothing of the run runs any more.
            await asyncio.wait([importing])
            raise

    def _import_blocking(self, run: ProcessingRun, wait_s: float) -> int:
        path = self._folder / f"{run.run_id}.json"
        path.write_text(
            json.dumps(
                {
                    "product": run.product,
                    "obs_id": run.obs_id,
                    "provider": run.provider,
                    "processing_id": run.id,
                    "waited_s": round(wait_s, 3),
                }
            )
        )
        try:
            stored = self._sdb.import_file(
                path,
                run.product,
                run.obs_id,
                media_type="application/json",
                metadata={"simulated": True},
                processing_id=run.id,
                provider=run.provider,
                inputs=[
                    InputRef(product=name, version=version)
                    for name, version in (run.given or {}).items()
                    if version
                ],
                graph_version=run.graph_version,
                stage=run.stage,
            )
        finally:
            path.unlink()
        return stored.version
