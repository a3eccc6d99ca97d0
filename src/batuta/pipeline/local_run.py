"""Makes products in this process, without services: to try a pipeline, and to test it.

The function sees what it sees in a service: a `Context`, a work folder that is the current one,
inputs that are copies, and the same checks of what it returns. What a service adds is not here: a
process of its own, a timeout, attempts, an archive.
"""

import contextlib
import logging
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from batuta.errors import ConfigurationError
from batuta.names import name_problem
from batuta.pipeline.context import Context, WorkFolder
from batuta.pipeline.declaration import Output, Pipeline, ProductSpec
from batuta.pipeline.inputs import extension
from batuta.pipeline.outputs import collect_outputs
from batuta.spelling import NameSuggester
from batuta.stages import FINAL, Stage

DEFAULT_OBS_ID: Final = "local-1"

Source = Path | str | bytes
"""An input: the path of a file, or its bytes."""


@dataclass(frozen=True, kw_only=True)
class MadeFile:
    """A file that a product's function made.

    Attributes
    ----------
    product : str
        Its product.
    path : Path
        Where it is.
    media_type : str
        Such as ``text/csv``.
    metadata : mapping
        As an archive would store it.
    quicklook : Path or None
        The picture that was given with it.
    """

    product: str
    path: Path
    media_type: str
    metadata: Mapping[str, Any] = field(default_factory=dict)
    quicklook: Path | None = None


@dataclass(frozen=True, kw_only=True)
class LocalRun:
    """What a run of one product's function made.

    Attributes
    ----------
    files : tuple of MadeFile
        The product's, then those of by-products.
    inputs : tuple of str
        What it read.
    progress : tuple of int or None
        Steps done, and their total, as reported last.
    duration_s : float
        Of the function and the checks, in seconds.
    """

    files: tuple[MadeFile, ...]
    inputs: tuple[str, ...]
    progress: tuple[int, int] | None
    duration_s: float


class LocalInputs:
    """Inputs that are files of this machine; the function gets copies.

    Parameters
    ----------
    sources : mapping
        By product.
    folder : Path
        Where the copies are made.
    log : logging.Logger
        Where they are logged.
    """

    def __init__(self, sources: Mapping[str, Source], folder: Path, log: logging.Logger) -> None:
        self._sources = sources
        self._folder = folder
        self._log = log
        self._fetched: dict[str, Path | None] = {}

    @property
    def read(self) -> tuple[str, ...]:
        """The names of those that were asked for, and are there."""
        return tuple(name for name, path in self._fetched.items() if path is not None)

    def fetch(self, name: str) -> Path | None:
        """Return an input as a file; None if it was not given."""
        if name not in self._fetched:
            self._fetched[name] = self._copy(name)
        return self._fetched[name]

    def _copy(self, name: str) -> Path | None:
        source = self._sources.get(name)
        if source is None:
            return None
        self._folder.mkdir(exist_ok=True)
        path = self._folder / f"input-{len(self._fetched) + 1}"
        if isinstance(source, bytes):
            path.write_bytes(source)
        else:
            path = path.with_name(path.name + extension(Path(source).name, ""))
            shutil.copyfile(source, path)
        self._log.info("input %s: %d bytes", name, path.stat().st_size)
        return path


def input_problems(
    specs: Sequence[ProductSpec], made: Sequence[str], inputs: Mapping[str, Source]
) -> Iterator[str]:
    """Yield what is wrong with the inputs for a run of these products, one line each.

    Parameters
    ----------
    specs : sequence of ProductSpec
        The products to make.
    made : sequence of str
        What is made besides, and need not be given.
    inputs : mapping
        What is given.
    """
    declared = dict.fromkeys(name for spec in specs for name in (*spec.inputs, *spec.optional))
    for name, source in inputs.items():
        if name not in declared:
            hint = NameSuggester(list(declared)).hint(name)
            accepted = ", ".join(declared) or "none"
            yield f"input {name!r}: not an input of {_listed(specs)}{hint} (accepted: {accepted})"
        elif not isinstance(source, bytes) and not Path(source).is_file():
            yield f"input {name}: {source}: {'a folder' if Path(source).is_dir() else 'not found'}"
    for spec in specs:
        for name in spec.inputs:
            if name not in inputs and name not in made:
                yield f"input {name}: missing; {spec.name} is made from it"


def _listed(specs: Sequence[ProductSpec]) -> str:
    return ", ".join(spec.name for spec in specs)


def find_product(pipeline: Pipeline, product: str) -> ProductSpec:
    """Return how a pipeline makes a product.

    Raises
    ------
    ConfigurationError
        If it does not, or only besides another; the nearest name is suggested.
    """
    spec = pipeline.products.get(product)
    if spec is None:
        names = list(pipeline.products)
        makers = [each.name for each in pipeline.products.values() if product in each.makes]
        if makers:
            raise ConfigurationError(
                f"product {product!r}: made besides {makers[0]} (accepted: {makers[0]})"
            )
        hint = NameSuggester(names).hint(product)
        raise ConfigurationError(
            f"product {product!r}: not made by pipeline {pipeline.name!r}{hint} "
            f"(accepted: {', '.join(names) or 'none yet'})"
        )
    return spec


def needed_products(
    pipeline: Pipeline, product: str, given: Mapping[str, Source]
) -> list[ProductSpec]:
    """Return all that has to be made for a product, in order, the product last.

    What is given, and optional inputs, are not made.

    Raises
    ------
    ConfigurationError
        If the pipeline does not make it, or it is made from itself.
    """
    makers = {name: spec for spec in pipeline.products.values() for name in spec.makes}
    order: dict[str, ProductSpec] = {}

    def visit(spec: ProductSpec, above: tuple[str, ...]) -> None:
        if spec.name in above:
            cycle = " -> ".join((*above[above.index(spec.name) :], spec.name))
            raise ConfigurationError(f"{spec.name}: made from itself: {cycle}")
        for name in spec.inputs:
            if name not in given and name in makers and makers[name].name not in order:
                visit(makers[name], (*above, spec.name))
        order[spec.name] = spec

    visit(find_product(pipeline, product), ())
    return list(order.values())


def run_product(
    pipeline: Pipeline,
    spec: ProductSpec,
    inputs: Mapping[str, Source],
    work_dir: Path,
    *,
    obs_id: str = DEFAULT_OBS_ID,
    on_progress: Callable[[int, int], None] | None = None,
    stage: Stage = FINAL,
) -> LocalRun:
    """Call a product's function here, and check what it returns.

    Parameters
    ----------
    pipeline, spec
        The product, and its pipeline.
    inputs : mapping
        By name; checked already.
    work_dir : Path
        A folder of its own, empty; the current one during the call.
    obs_id : str
        The observation.
    on_progress : callable, optional
        Called with steps done and their total.
    stage : {"preliminary", "final"} or int
        How definitive the product will be.

    Raises
    ------
    BaseException
        Whatever the function raises.
    PipelineError
        If what it returned cannot be archived.
    """
    work_dir = work_dir.resolve()
    reported: list[tuple[int, int]] = []

    def report(done: int, total: int) -> None:
        reported[:] = [(done, total)]
        if on_progress is not None:
            on_progress(done, total)

    log = logging.getLogger(f"batuta.pipeline.{pipeline.name}")
    copies = LocalInputs(inputs, work_dir / "inputs", log)
    folder = WorkFolder(
        processing_id=f"local-{spec.name}",
        obs_id=obs_id,
        provider=pipeline.name,
        work_dir=work_dir,
        stage=stage,
    )
    context = Context(spec, folder, copies, report)
    started = time.monotonic()
    with contextlib.chdir(work_dir):
        outputs = collect_outputs(spec.function(context), context, spec.makes)
    context.flush_progress()
    outputs.sort(key=lambda output: output.product != spec.name)
    return LocalRun(
        files=tuple(_made_file(output) for output in outputs),
        inputs=copies.read,
        progress=reported[0] if reported else None,
        duration_s=time.monotonic() - started,
    )


def obs_id_problem(obs_id: str) -> str | None:
    """Return why a name cannot be that of an observation, or None."""
    return name_problem("obs_id", obs_id)


def _made_file(output: Output) -> MadeFile:
    return MadeFile(
        product=output.product or "",
        path=Path(output.path),
        media_type=output.media_type or "",
        metadata=output.metadata,
        quicklook=Path(output.quicklook) if output.quicklook is not None else None,
    )
