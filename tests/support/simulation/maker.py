"""The pipeline of a simulation: what it makes, and how its runs end."""

import asyncio
import hashlib
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from batuta.messaging import Progress
from batuta.pipeline import Context, Output, Pipeline
from batuta.pipeline.messages import Outcome
from batuta.pipeline.runner import ProcessingRun, ProcessingTask
from batuta.pipeline.worker import run_processing
from batuta.tracebacks import describe_failure
from tests.support.simulation.loop import SimulationLoop, Thread, running_loop, wait
from tests.support.simulation.plan import MAKER

ATTEMPTS: Final = 40
TIMEOUT_S: Final = 12.0
RUN_S: Final = 4.0
HANG_S: Final = 10_000.0

pipeline = Pipeline(MAKER)


def digest_of(product: str, parts: dict[str, str]) -> str:
    """Return what a product is, made from these parts: all that leads to it is in it."""
    text = f"{product}: {sorted(parts.items())}"
    return f"{product} {hashlib.sha256(text.encode()).hexdigest()}"


def _made(context: Context, product: str, *inputs: str) -> Output:
    parts = {name: context.input(name).read_text() for name in inputs}
    path = context.output_path(f"{product}.txt")
    path.write_text(digest_of(product, parts))
    return Output(path)


@pipeline.product(
    "LEVEL1", inputs=["RAW"], max_attempts=ATTEMPTS, timeout_s=TIMEOUT_S, on_update="reprocess"
)
def level1(context: Context) -> Output:
    """From what may be delivered again."""
    return _made(context, "LEVEL1", "RAW")


@pipeline.product(
    "LEVEL2",
    inputs=["LEVEL1", "AUX"],
    max_attempts=ATTEMPTS,
    timeout_s=TIMEOUT_S,
    on_update="reprocess",
)
def level2(context: Context) -> Output:
    """From what is made and what arrives."""
    return _made(context, "LEVEL2", "LEVEL1", "AUX")


@pipeline.product(
    "SUMMARY",
    inputs=["AUX"],
    optional=["HINT"],
    max_attempts=ATTEMPTS,
    timeout_s=TIMEOUT_S,
)
def summary(context: Context) -> Output:
    """Once, with what there is by then."""
    hint = context.optional_input("HINT")
    parts = {"AUX": context.input("AUX").read_text()}
    if hint is not None:
        parts["HINT"] = hint.read_text()
    path = context.output_path("summary.txt")
    path.write_text(digest_of("SUMMARY", parts))
    return Output(path)


class InProcessRunner:
    """Runs the product's functions in simulated threads; a run that is cancelled is killed.

    Parameters
    ----------
    sdb_url : str
        The product database.
    folder : Path
        Where files are written.
    is_faulty : callable
        Whether a fault of this kind is to happen to the run that starts.
    """

    code = None

    def __init__(self, sdb_url: str, folder: Path, is_faulty: Callable[[str, str], bool]) -> None:
        self._sdb_url = sdb_url
        self._folder = folder
        self._is_faulty = is_faulty

    async def run(self, run: ProcessingRun, _on_progress: Callable[[Progress], None]) -> Outcome:
        """Run it to its end."""
        loop = running_loop()
        fails = self._is_faulty("fail", MAKER)
        hangs = self._is_faulty("hang", MAKER)
        outcome: asyncio.Future[Outcome] = loop.create_future()

        def work() -> None:
            found = self._outcome(loop, run, fails=fails, hangs=hangs)
            if not outcome.done():
                outcome.set_result(found)

        worker = Thread(loop, work)
        loop.call_soon(worker.run)
        try:
            return await outcome
        finally:
            worker.stop()

    def _outcome(
        self, loop: SimulationLoop, run: ProcessingRun, *, fails: bool, hangs: bool
    ) -> Outcome:
        wait(asyncio.sleep(HANG_S if hangs else loop.chance.random() * RUN_S))
        if fails:
            return Outcome(error="failed by the plan")
        with self._work_dir() as work_dir:
            try:
                return run_processing(self._task(run, work_dir), lambda *_: None, None)
            except Exception as exc:  # noqa: BLE001  as the worker process does
                return Outcome(error=describe_failure(exc))

    @contextmanager
    def _work_dir(self) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(dir=self._folder) as folder:
            yield Path(folder)

    def _task(self, run: ProcessingRun, work_dir: Path) -> ProcessingTask:
        return ProcessingTask(
            spec=pipeline.products[run.product],
            run=run,
            sdb_url=self._sdb_url,
            token=None,
            work_dir=work_dir,
            log_path=work_dir / "log",
            profiles=work_dir / "profiles",
        )
