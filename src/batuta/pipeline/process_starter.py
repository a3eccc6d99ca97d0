"""Starts the processes of runs, by a fork server that has the pipeline loaded."""

import asyncio
import contextlib
import json
import multiprocessing
import os
import pickle
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Final

from batuta.errors import ConfigurationError, describe_error
from batuta.fork_server import ForkServer
from batuta.pipeline.code_version import LoadedCode, loaded_code, module_of
from batuta.pipeline.declaration import ProductSpec
from batuta.pipeline.loaded import LoadedFunction, loaded_pipeline
from batuta.socket_folder import prepare_socket_folder

PRELOADED: Final = "batuta.pipeline.preload"
"""What its fork server imports: it loads the pipeline, which `PRELOAD_VARIABLE` names."""
PRELOAD_VARIABLE: Final = "BATUTA_PIPELINE_PRELOAD"
LOAD_TIMEOUT_S: Final = 120.0
"""How long loading edited code may take, in seconds."""
MAX_LOADS: Final = 5
"""How often code is loaded again that is written while it is loaded."""


@dataclass(frozen=True, kw_only=True)
class Generation:
    """Code that was loaded: the fork server that has it, and what it makes."""

    server: ForkServer
    name: str
    specs: Mapping[str, ProductSpec]
    code: LoadedCode


@dataclass(frozen=True, kw_only=True)
class CodeSource:
    """Where the code of a pipeline is loaded from.

    Attributes
    ----------
    name : str
        The pipeline's.
    specs : mapping
        The products that it declares in this process.
    reference : str or None
        What it was loaded from: ``MODULE:NAME``, or a file.
    reload : bool
        Whether processes run the code that their fork server has loaded from `reference`, rather
        than what this process has in `specs`.
    """

    name: str
    specs: Mapping[str, ProductSpec]
    reference: str | None = None
    reload: bool = False


class ProcessStarter:
    """Starts processes with the code that was loaded last; all in one thread.

    A start waits for the fork server's answer, so it must not happen in the event loop. One thread
    does all starts and joins, as `multiprocessing` keeps its children in a set without a lock. It
    loads new code too: a process starts either with all of the former code or all of the new.

    Raises
    ------
    ConfigurationError
        If another process cannot import the pipeline.
    """

    def __init__(self, source: CodeSource) -> None:
        self._source = source
        problems = [each for spec in source.specs.values() if (each := _pickle_problem(spec))]
        if problems:
            raise ConfigurationError(problems)
        self._thread = ThreadPoolExecutor(1, "starter")
        try:
            self.generation = self._thread.submit(self._load, ForkServer([PRELOADED])).result()
        except BaseException:
            self._thread.shutdown()
            raise

    async def start(
        self,
        target: Callable[..., object],
        task_of: Callable[[Generation], Any],
        *args: Any,
        name: str,
    ) -> tuple[BaseProcess, Generation]:
        """Start a process that calls ``target(*args, task_of(generation))``."""
        return await self._call(self._start, target, task_of, args, name)  # type: ignore[no-any-return]

    async def reap(self, process: BaseProcess) -> None:
        """Collect the exit status of a process that has exited, in the thread that started it."""
        await self._call(process.join)

    async def reload(self) -> Generation:
        """Load the code again; what is started from now on runs it.

        Raises
        ------
        ConfigurationError
            If it cannot be loaded: the former code stays in use.
        """
        server = ForkServer([PRELOADED])
        loading = self._call(self._replace, server)
        try:
            async with asyncio.timeout(LOAD_TIMEOUT_S):
                return await asyncio.shield(loading)
        except TimeoutError:
            server.kill()
            await asyncio.wait([loading])
            raise ConfigurationError(f"not loaded after {LOAD_TIMEOUT_S:g} s") from None

    def close(self) -> None:
        """Start no more processes."""
        self._thread.shutdown()
        self.generation.server.retire()

    def _call(self, function: Callable[..., Any], *args: Any) -> "asyncio.Future[Any]":
        return asyncio.get_running_loop().run_in_executor(self._thread, function, *args)

    # ------------------------------------------------------------------ in the thread

    def _start(
        self,
        target: Callable[..., object],
        task_of: Callable[[Generation], Any],
        args: tuple[Any, ...],
        name: str,
    ) -> tuple[BaseProcess, Generation]:
        generation = self.generation
        process = generation.server.process(target, *args, task_of(generation), name=name)
        process.start()
        return process, generation

    def _replace(self, server: ForkServer) -> Generation:
        loaded = self._load(server)
        if loaded.name != self._source.name:
            loaded.server.retire()
            raise ConfigurationError(
                f"the pipeline is named {loaded.name!r} now: restart its service for that"
            )
        former, self.generation = self.generation, loaded
        former.server.retire()
        return loaded

    def _load(self, server: ForkServer) -> Generation:
        """Load the code in `server`, again if it was written meanwhile."""
        for _ in range(MAX_LOADS):
            began = time.time()
            loaded = self._load_once(server)
            if not self._source.reload or not loaded.code.changed_since(began):
                break
            server.retire()
            server = ForkServer([PRELOADED])
        return loaded

    def _load_once(self, server: ForkServer) -> Generation:
        prepare_socket_folder()
        set_preload(self._source)
        receiving, sending = multiprocessing.Pipe(duplex=False)
        # The functions of `specs` are those of the former code, which may be gone.
        source = replace(self._source, specs={}) if self._source.reload else self._source
        process = server.process(_describe, sending, source)
        try:
            process.start()
        except OSError as exc:
            sending.close()
            receiving.close()
            raise ConfigurationError(
                f"the pipeline cannot start processes: {describe_error(exc)}"
            ) from exc
        try:
            sending.close()
            answer = receiving.recv()
        except (EOFError, OSError):
            server.retire()
            raise ConfigurationError(
                "the pipeline cannot be imported by another process: see the error above "
                "(its module must be importable and must not start anything when imported)"
            ) from None
        finally:
            sending.close()
            receiving.close()
        process.join()
        if isinstance(answer, ConfigurationError):
            server.retire()
            raise answer
        name, specs, code = answer
        return Generation(server=server, name=name, specs=specs, code=code)


def set_preload(source: CodeSource) -> None:
    """Set what the next fork server preloads: this program's main module, and the pipeline."""
    main = sys.modules["__main__"]
    module = module_of(source.specs)
    # A module run by `-m` is found by its name; a script, by its path.
    found = getattr(main, "__spec__", None)
    path = getattr(main, "__file__", None) if found is None else None
    os.environ[PRELOAD_VARIABLE] = json.dumps(
        {
            "sys_path": [str(Path(each).absolute()) for each in sys.path],
            "main_name": None if found is None else found.name,
            "main_path": str(Path(path).absolute()) if path else None,
            "module": None if module == "__main__" else module,
            "reference": source.reference if source.reload else None,
        }
    )


def _describe(sending: Connection, source: CodeSource) -> None:
    """Send the name, products and code of the pipeline, as this process has it."""
    answer: ConfigurationError | tuple[str, dict[str, ProductSpec], LoadedCode]
    try:
        answer = _description(source)
    except ConfigurationError as exc:
        answer = exc
    # A service that ends while it starts, such as without NATS, waits for no answer any more.
    with contextlib.suppress(BrokenPipeError):
        sending.send(answer)


def _description(source: CodeSource) -> tuple[str, dict[str, ProductSpec], LoadedCode]:
    if not source.reload:
        return source.name, dict(source.specs), loaded_code(source.specs, source.reference)
    pipeline = loaded_pipeline()
    if not pipeline.products:
        raise ConfigurationError(f"pipeline {pipeline.name!r}: declares no product")
    module = module_of(pipeline.products)
    specs = {
        name: replace(spec, function=LoadedFunction(name, module))
        for name, spec in pipeline.products.items()
    }
    return pipeline.name, specs, loaded_code(pipeline.products, source.reference)


def _pickle_problem(spec: ProductSpec) -> str | None:
    try:
        pickle.dumps(spec.function)
    except (pickle.PicklingError, AttributeError, TypeError) as exc:
        return f"product {spec.name!r}: its function must be at the top level of a module: {exc}"
    return None
