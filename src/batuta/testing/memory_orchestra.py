"""An orchestra in one process and one thread: the real conductor's decisions, and no service.

What is real: the product graph and its derivation, the conductor's ledger with its claims, attempts
and waits, on a database in memory, and the functions of the pipelines with their contexts and the
checks of what they return. What is not: NATS, REST, processes, and time.
"""

import hashlib
import json
import shutil
import tempfile
from collections import defaultdict, deque
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from batuta.conductor.database.ledger import Ledger
from batuta.conductor.database.requests.due_requests import DueRequest
from batuta.conductor.database.requests.slots import Capacity
from batuta.conductor.database.schema import MIGRATIONS
from batuta.conductor.database.views.observations import ConductorProcessing, Views, Why
from batuta.conductor.decisions.approvals import Verdict
from batuta.conductor.decisions.events import Archived, StatusUpdate
from batuta.conductor.decisions.processing_record import WaitConfig
from batuta.conductor.decisions.rules import Arrival
from batuta.errors import ConfigurationError
from batuta.graph import DeclaredPipeline, DeclaredProduct, Graph, derive_document
from batuta.messaging import ProcessingState as State
from batuta.pipeline.declaration import Pipeline
from batuta.pipeline.local_run import LocalRun, run_product
from batuta.service.database import open_database
from batuta.service.operators import UNNAMED
from batuta.spelling import NameSuggester
from batuta.stages import FINAL, Stage, rank_of, stage_of
from batuta.testing.clock import FakeClock
from batuta.testing.memory_sdb import MemorySdb, MemoryVersion
from batuta.tracebacks import describe_failure

_UNLIMITED: Final = Capacity(total=1000)
_OPEN: Final = (State.WAITING, State.RETRYING, State.HELD)


@dataclass(frozen=True)
class Announcement:
    """What a service would have published on NATS."""

    subject: str
    product: str
    obs_id: str
    state: str
    """``available``, or the state of a processing."""
    version: int | None = None
    error: str | None = None


class MemoryOrchestra:
    """Pipelines that are conducted in this process; to be used in a ``with`` block.

    Parameters
    ----------
    *pipelines : Pipeline
        They make their products.
    graph : Graph, optional
        Derived from the pipelines by default.
    clock : FakeClock, optional
        The time that the conductor sees.

    Attributes
    ----------
    sdb : MemorySdb
        All that was delivered and made.
    clock : FakeClock
        Advanced by `run` to the next attempt.
    announcements : list of Announcement
        What would have been published, in order.

    Raises
    ------
    ConfigurationError
        If the graph cannot be derived, or names a product that no pipeline makes.
    """

    def __init__(
        self, *pipelines: Pipeline, graph: Graph | None = None, clock: FakeClock | None = None
    ) -> None:
        self.graph = graph or Graph.parse(derive_document([_declared(each) for each in pipelines]))
        self._pipelines = {each.name: each for each in pipelines}
        problems = [*self._lacking()]
        if problems:
            raise ConfigurationError(problems)
        self.clock = clock or FakeClock()
        self.announcements: list[Announcement] = []
        self._failures: defaultdict[str, deque[str]] = defaultdict(deque)
        self._due: deque[DueRequest] = deque()
        self._resources = ExitStack()

    def __enter__(self) -> Self:
        folder = Path(tempfile.mkdtemp(prefix="batuta-"))
        self._resources.callback(shutil.rmtree, folder, ignore_errors=True)
        self._folder = folder
        self.sdb = MemorySdb(folder / "sdb")
        engine = self._resources.enter_context(
            open_database(f"sqlite:///{folder / 'conductor.db'}", MIGRATIONS)
        )
        self._ledger = Ledger(engine, self.graph, WaitConfig(), self.clock)
        self._views = Views(engine, self.graph, "memory://{}".format)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._resources.close()

    def fail(self, product: str, *, times: int = 1, error: str = "scripted failure") -> None:
        """Make the next attempts at a product fail before its function is called.

        Raises
        ------
        ConfigurationError
            If the graph does not make it.
        """
        self._check(product, list(self.graph.products))
        self._failures[product].extend([error] * times)

    def deliver(
        self,
        product: str,
        obs_id: str,
        source: Path | str | bytes,
        *,
        stage: Stage | None = None,
        **metadata: Any,
    ) -> MemoryVersion:
        """Import a file, or bytes, as an input that arrives; `run` makes what follows.

        `stage` is how definitive it is; what tells none is final.

        Raises
        ------
        ConfigurationError
            If the graph does not know it.
        """
        self._check(product, [*self.graph.inputs, *self.graph.products])
        stored = self.sdb.add(product, obs_id, source, metadata=metadata, stage=stage)
        self._announce(stored)
        return stored

    def make(self, product: str, obs_id: str) -> None:
        """Request a product, as an operator does; `run` makes it."""
        self._ledger.operations.make(product, obs_id)

    def approve(self, product: str, obs_id: str, version: str | None = None) -> None:
        """Approve what waits for a person, as one does; `run` makes what follows.

        Raises
        ------
        ConfigurationError
            If nothing, or another version, waits.
        """
        self._answer(product, obs_id, version, Verdict.APPROVED, None)

    def refuse(self, product: str, obs_id: str, reason: str, version: str | None = None) -> None:
        """Refuse what waits for a person, as one does.

        Raises
        ------
        ConfigurationError
            If nothing, or another version, waits.
        """
        self._answer(product, obs_id, version, Verdict.REFUSED, reason)

    def run(self, *, advance: bool = True) -> None:
        """Make all that can be made.

        Parameters
        ----------
        advance : bool
            Whether to advance the clock to the next attempt, as often as one waits; otherwise only
            what is due now is made.
        """
        while True:
            self._due.extend(self._ledger.take_due(_UNLIMITED))
            while self._due:
                self._make(self._due.popleft())
            following = self._next_attempt() if advance else None
            if following is None:
                return
            self.clock.now = following

    def processings(self, product: str, obs_id: str) -> list[ConductorProcessing]:
        """Return the processings of a product of an observation, the oldest first."""
        return self._views.why(product, obs_id).processings

    def attempts(self, product: str, obs_id: str) -> int:
        """Return how many attempts were made at a product of an observation."""
        return sum(each.attempt for each in self.processings(product, obs_id))

    def why(self, product: str, obs_id: str) -> Why:
        """Return why a product was, or was not, made: what ``batuta why`` prints."""
        return self._views.why(product, obs_id)

    def _answer(
        self, product: str, obs_id: str, version: str | None, verdict: Verdict, reason: str | None
    ) -> None:
        approvals = self._ledger.approvals
        answered = approvals.answer(product, obs_id, version, verdict, reason, UNNAMED)
        if answered.problem is not None:
            raise ConfigurationError(answered.problem)

    @staticmethod
    def _check(product: str, known: list[str]) -> None:
        if product not in known:
            hint = NameSuggester(known).hint(product)
            raise ConfigurationError(
                f"product {product!r}: not in the graph{hint} (accepted: {', '.join(known)})"
            )

    def _next_attempt(self) -> float | None:
        """Return when the next processing that waits is due; None if none is later than now."""
        times = [
            each.next_attempt.timestamp()
            for state in _OPEN
            for each in self._views.processings({"state": state}, 1000, None).items
            if each.next_attempt is not None
        ]
        later = [each for each in times if each > self.clock.now]
        return min(later, default=None)

    def _announce(self, stored: MemoryVersion) -> None:
        self.announcements.append(
            Announcement("data.sdb", stored.product, stored.obs_id, "available", stored.version)
        )
        digest = hashlib.sha256(stored.path.read_bytes()).hexdigest()
        arrival = Arrival(
            stored.product,
            stored.obs_id,
            stored.version,
            archived=True,
            sha256=digest,
            stage=None if stored.stage is None else rank_of(stored.stage),
        )
        made = [
            Archived(
                processing_id=processing_id,
                product=stored.product,
                obs_id=stored.obs_id,
                provider=stored.provider,
                version=stored.version,
            )
            for processing_id in [stored.processing_id]
            if processing_id is not None
        ]
        requests, _ended = self._ledger.on_data([arrival], made, _UNLIMITED)
        self._due.extend(requests)

    def _make(self, request: DueRequest) -> None:
        try:
            stored = self._attempt(request)
        except (Exception, SystemExit) as exc:  # noqa: BLE001  whatever it raises is recorded
            module = self._function_module(request)
            self._report(request, State.FAILED, describe_failure(exc, module))
            return
        self._report(request, State.SUCCEEDED)
        for each in stored:
            self._announce(each)

    def _attempt(self, request: DueRequest) -> list[MemoryVersion]:
        failures = self._failures[request.product]
        if failures:
            raise ScriptedError(failures.popleft())
        pipeline = self._pipelines[request.provider]
        spec = pipeline.products[request.product]
        # As a pipeline does: what was claimed, in the versions claimed.
        found = {
            name: self.sdb.get(name, request.obs_id, version or None)
            for name, version in json.loads(request.inputs).items()
            if name in (*spec.inputs, *spec.optional)
        }
        work_dir = Path(tempfile.mkdtemp(dir=self._folder))
        paths = {name: stored.path for name, stored in found.items()}
        stage = FINAL if request.stage is None else stage_of(request.stage)
        made = run_product(pipeline, spec, paths, work_dir, obs_id=request.obs_id, stage=stage)
        versions = {name: found[name].version for name in made.inputs}
        archived = [*self._archive(request, made, versions)]
        shutil.rmtree(work_dir)
        return archived

    def _archive(
        self, request: DueRequest, made: LocalRun, inputs: dict[str, int]
    ) -> Iterator[MemoryVersion]:
        for file in made.files:
            yield self.sdb.add(
                file.product,
                request.obs_id,
                file.path,
                metadata=file.metadata,
                media_type=file.media_type,
                provider=request.provider,
                processing_id=request.processing_id,
                inputs=inputs,
                stage=None if request.stage is None else stage_of(request.stage),
            )

    def _report(self, request: DueRequest, state: State, error: str | None = None) -> None:
        update = StatusUpdate(
            processing_id=request.processing_id,
            state=state,
            attempt=request.attempt,
            error=error,
            archived=state is State.SUCCEEDED,
        )
        self._ledger.apply([update])
        subject = f"activity.{request.provider}"
        self.announcements.append(
            Announcement(subject, request.product, request.obs_id, state.value, error=error)
        )

    def _function_module(self, request: DueRequest) -> str | None:
        spec = self._pipelines[request.provider].products[request.product]
        return getattr(spec.function, "__module__", None)

    def _lacking(self) -> Iterator[str]:
        for product in self.graph.products.values():
            pipeline = self._pipelines.get(product.provider)
            if pipeline is None:
                yield f"{product.name}: no pipeline given is its provider {product.provider!r}"
            elif product.name not in pipeline.products:
                yield f"{product.name}: pipeline {pipeline.name!r} does not make it"


class ScriptedError(Exception):
    """A failure that the test has scripted."""


def _declared(pipeline: Pipeline) -> DeclaredPipeline:
    return DeclaredPipeline(
        use=pipeline.name,
        name=pipeline.name,
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
