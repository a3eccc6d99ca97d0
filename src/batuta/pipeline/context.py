"""The context of a product's function: its inputs, its work folder, its progress and log."""

import itertools
import logging
import math
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, overload

from batuta.errors import BatutaError
from batuta.messaging.processings import MAX_COUNT
from batuta.pipeline.retention import register_orchestrator
from batuta.stages import FINAL, Stage

if TYPE_CHECKING:
    from batuta.orchestrator import Orchestrator
    from batuta.pipeline.tile_progress import TileSender, TileSink
    from batuta.tiling.outputs import OutputLike

OUTPUTS_FOLDER: Final = "outputs"
"""In a work folder: where `Context.output_path` leads."""

PROGRESS_INTERVAL_S: Final = 0.5
"""Progress is reported at most five times a second, and always when it is complete."""


class PipelineError(BatutaError):
    """A pipeline's function, or its command, violates its declaration."""


class DeclaredProduct(Protocol):
    """What a context needs to know of a `ProductSpec`.

    A protocol, because the type of a product's function names `Context`: importing the
    declaration here would close a circle of imports.
    """

    @property
    def name(self) -> str:
        """The product."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """The products that must be there."""

    @property
    def optional(self) -> tuple[str, ...]:
        """The products that may be there."""


class Inputs(Protocol):
    """Where the inputs of a processing come from."""

    def fetch(self, name: str) -> Path | None:
        """Return an input as a file of the work folder; None if there is none."""


@dataclass(frozen=True, kw_only=True)
class WorkFolder:
    """The work folder of a processing, and whose it is."""

    processing_id: str
    obs_id: str
    provider: str
    work_dir: Path
    stage: Stage = FINAL


class Context:
    """One processing, as the function that makes its product sees it.

    Attributes
    ----------
    obs_id, product, processing_id : str
        The observation, the product to make, and the request for it.
    stage : {"preliminary", "final"} or int
        How definitive the product will be: the lowest stage of its inputs; ``final`` if none is
        told.
    work_dir : Path
        A folder of its own, also the current one; removed when the processing has ended.
    log : logging.Logger
        Writes to the log of the processing, as do standard output and standard error of this
        process and of all that it starts.
    """

    def __init__(
        self,
        spec: DeclaredProduct,
        work_folder: WorkFolder,
        inputs: Inputs,
        on_progress: Callable[[int, int], None],
        tiles: "TileSink | None" = None,
    ) -> None:
        self.product = spec.name
        self.obs_id = work_folder.obs_id
        self.processing_id = work_folder.processing_id
        self.work_dir = work_folder.work_dir
        self.stage = work_folder.stage
        self.log = logging.getLogger(f"batuta.pipeline.{work_folder.provider}")
        self._spec = spec
        self._inputs = inputs
        self._progress = _ProgressThrottle(on_progress)
        self._tile_sink = tiles
        self._tile_sender: TileSender | None = None
        self._default_folders = _default_folders(work_folder.work_dir)

    def input(self, name: str) -> Path:
        """Return the product `name` of this observation, as a file.

        It is fetched from the sdb at the first call, its digest checked: the version that the
        conductor has claimed this from, or the newest where the request names none.

        Raises
        ------
        PipelineError
            If `name` is not declared among the inputs, or the sdb has none.
        """
        self._refuse_undeclared("input", name, self._spec.inputs)
        path = self._inputs.fetch(name)
        if path is None:
            raise PipelineError(f"input {name}: the sdb has none for obs_id {self.obs_id}")
        return path

    def optional_input(self, name: str) -> Path | None:
        """Return the optional input `name` as a file; None where the sdb has none.

        Raises
        ------
        PipelineError
            If `name` is not declared among the optional inputs.
        """
        self._refuse_undeclared("optional input", name, self._spec.optional)
        return self._inputs.fetch(name)

    def output_path(self, name: str) -> Path:
        """Return where to write the file `name`, inside `work_dir`; its folder is there.

        Raises
        ------
        PipelineError
            If `name` leads out of `work_dir`.
        """
        outputs = self.work_dir / OUTPUTS_FOLDER
        path = outputs / name
        if not name or path == outputs or not path.resolve().is_relative_to(outputs.resolve()):
            raise PipelineError(
                f"output_path({name!r}): not the name of a file inside the work folder"
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def progress(self, done: int, total: int) -> None:
        """Report that `done` steps out of `total` are done; cheap, call it as often as you like.

        Raises
        ------
        PipelineError
            If they are not numbers with 0 <= done <= total.
        """
        if not 0 <= done <= total < math.inf:
            raise PipelineError(f"progress({done!r}, {total!r}): accepted: 0 <= done <= total")
        # More steps than events and databases count, such as bytes, are told in proportion.
        scale = max(1, -(-int(total) // MAX_COUNT))
        self._progress.report(int(done) // scale, int(total) // scale)

    def flush_progress(self) -> None:
        """Report the last progress, if it was withheld."""
        self._progress.flush()

    def close(self) -> None:
        """Send the states of tiles that have not been sent yet."""
        if self._tile_sender is not None:
            self._tile_sender.close()

    def orchestrator(
        self,
        orchestrator_conf: Mapping[str, Any] | None = None,
        out_dir: str | Path | None = None,
        **options: Any,
    ) -> "Orchestrator":
        """Open an `Orchestrator` that works in `work_dir` and whose tiles are this progress.

        Its profile is retained with the processing, however that ends.

        Parameters
        ----------
        orchestrator_conf : mapping, optional
            The configuration of `Orchestrator`.
        out_dir : str or Path, optional
            ``<work_dir>/orchestrator`` by default, ``orchestrator-2`` for a second one, and so on.
            Its profile is named after it.
        **options
            Passed to `Orchestrator`.
        """
        # A pipeline that computes without tiles must not pay for loading what they need.
        from batuta.cluster.debugging import in_this_process  # noqa: PLC0415
        from batuta.orchestrator import Orchestrator  # noqa: PLC0415
        from batuta.pipeline.tile_progress import (  # noqa: PLC0415
            TileProgress,
            TileSender,
            TileStates,
        )

        folder = Path(out_dir) if out_dir is not None else next(self._default_folders)
        register_orchestrator(self.work_dir, folder)
        observers = [*options.pop("observers", ()), TileProgress(self.progress)]
        if self._tile_sink is not None:
            self._tile_sender = self._tile_sender or TileSender(self._tile_sink)
            observers.append(TileStates(self._tile_sender))
        return Orchestrator(
            in_this_process(orchestrator_conf), out_dir=folder, observers=observers, **options
        )

    @overload
    def map_tiles(
        self, func: Callable[..., Any], *inputs: Any, out: "OutputLike", **options: Any
    ) -> Path: ...

    @overload
    def map_tiles(
        self, func: Callable[..., Any], *inputs: Any, out: "Sequence[OutputLike]", **options: Any
    ) -> tuple[Path, ...]: ...

    def map_tiles(
        self,
        func: Callable[..., Any],
        *inputs: Any,
        out: "OutputLike | Sequence[OutputLike]",
        **options: Any,
    ) -> Path | tuple[Path, ...]:
        """Apply a function to rasters, tile by tile: `batuta.map_tiles`, seen as this progress.

        Parameters
        ----------
        func : callable
            As `batuta.map_tiles` takes it.
        *inputs : str, path, array or MappedTiles
            The names of declared inputs, optional ones included; or anything else that
            `batuta.map_tiles` takes, but texts.
        out : str, path, TiledOutput, or a sequence of them
            Names of files, as `output_path` takes them.
        **options
            Those of `batuta.map_tiles`.

        Returns
        -------
        Path, or a tuple of them
            The files that were made, to be returned by the product's function.

        Raises
        ------
        PipelineError
            If an input is not declared, or is not there.
        """
        # A pipeline that computes without tiles must not pay for loading what they need.
        from batuta.tiling import TiledOutput, map_tiles  # noqa: PLC0415

        def placed(each: "OutputLike") -> "OutputLike":
            if isinstance(each, TiledOutput):
                return replace(each, path=self.output_path(os.fspath(each.path)))
            return self.output_path(os.fspath(each))

        listed: Sequence[OutputLike] = (
            [out] if isinstance(out, str | os.PathLike | TiledOutput) else out
        )
        saved = {key: options.pop(key) for key in ("dtype", "nodata", "options") if key in options}
        folder = options.pop("out_dir", None) or next(self._default_folders)
        mapped = map_tiles(func, *map(self._mapped_input, inputs), **options)
        made = mapped.opened_by(self.orchestrator, folder).save([*map(placed, listed)], **saved)
        paths = tuple(map(Path, made.paths))
        return paths if listed is out else paths[0]

    def _mapped_input(self, given: Any) -> Any:
        if not isinstance(given, str):
            return given
        if given not in self._spec.optional:
            return self.input(given)
        path = self.optional_input(given)
        if path is None:
            raise PipelineError(f"optional input {given}: the sdb has none; it cannot be mapped")
        return path

    def _refuse_undeclared(self, kind: str, name: str, declared: tuple[str, ...]) -> None:
        if name not in declared:
            known = ", ".join(declared) or "none"
            raise PipelineError(
                f"{kind} {name!r}: not declared by {self.product} (declared: {known})"
            )


def _default_folders(work_dir: Path) -> Iterator[Path]:
    yield work_dir / "orchestrator"
    for number in itertools.count(2):
        yield work_dir / f"orchestrator-{number}"


class _ProgressThrottle:
    """Limits how often progress is reported; safe to use from any thread.

    The callback is called under the lock: otherwise two threads could report out of order, and the
    last report be an old one.
    """

    def __init__(self, on_progress: Callable[[int, int], None]) -> None:
        self._on_progress = on_progress
        self._lock = threading.Lock()
        self._next_report = 0.0
        self._pending: tuple[int, int] | None = None

    def report(self, done: int, total: int) -> None:
        with self._lock:
            now = time.monotonic()
            if done < total and now < self._next_report:
                self._pending = (done, total)
                return
            self._next_report, self._pending = now + PROGRESS_INTERVAL_S, None
            self._on_progress(done, total)

    def flush(self) -> None:
        with self._lock:
            if self._pending is not None:
                self._on_progress(*self._pending)
                self._pending = None
