"""Watches the files of a pipeline's code: loads them again as they are edited, or says so.

A processing runs with the code that was loaded when it started, whatever is written meanwhile.
"""

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import aclosing
from pathlib import Path
from typing import Final

from watchfiles import Change, awatch

from batuta.errors import ConfigurationError
from batuta.pipeline.process_runner import ProcessRunner
from batuta.pipeline.process_starter import Generation

LOG: Final = logging.getLogger(__name__)

CHECK_INTERVAL_S: Final = 5.0
SETTLE_MS: Final = 200
"""How long an editor, or `git checkout`, is given to write all its files."""
FOLDER_CHECK_S: Final = 0.2
"""How often it is looked whether a folder that was removed is there again."""
CODE_SUFFIXES: Final = (".py", ".yaml", ".yml", ".json")


class CodeWatcher:
    """Follows the code of a pipeline service.

    Parameters
    ----------
    runner : ProcessRunner
        Executes its processings.
    reload : bool
        Whether edited code is loaded; otherwise it is only told that it was edited.
    on_notice : callable
        Called with one line, for people, whenever something has changed.
    on_reload : callable
        Called with the code that was loaded again.
    """

    def __init__(
        self,
        runner: ProcessRunner,
        *,
        reload: bool,
        on_notice: Callable[[str], None],
        on_reload: Callable[[Generation], None],
    ) -> None:
        self._runner = runner
        self._reload = reload
        self._on_notice = on_notice
        self._on_reload = on_reload
        self._original = runner.generation

    async def run(self) -> None:
        """Watch until cancelled; without `reload`, until a change was told."""
        if self._reload:
            await self._reload_forever()
            return
        while True:
            changed = await asyncio.to_thread(self._changed)
            if changed:
                break
            await asyncio.sleep(CHECK_INTERVAL_S)
        self._tell(
            f"{_names(changed)} changed since its code was loaded: restart it to run the new code "
            '("batuta up --reload" does by itself)'
        )

    def _changed(self) -> list[str]:
        return self._runner.generation.code.changed_files()

    async def _reload_forever(self) -> None:
        broken = False
        while True:
            folders = self._runner.generation.code.folders
            async for written in _edits(folders):
                changed = await asyncio.to_thread(self._changed)
                # What could not be loaded may be mended in any file, even in a new one.
                mended = broken and any(path.endswith(CODE_SUFFIXES) for path in written)
                if not changed and not mended:
                    continue
                broken = not await self._load(changed or written)
                if self._runner.generation.code.folders != folders:
                    break

    async def _load(self, changed: Iterable[str]) -> bool:
        """Load the code again; return whether that was possible."""
        former = self._runner.generation.code
        try:
            generation = await self._runner.reload()
        except ConfigurationError as exc:
            reason = "; ".join(exc.problems)
            self._tell(
                f"{_names(changed)} not loaded, the former code stays in use: {reason}",
                logging.ERROR,
            )
            return False
        self._on_reload(generation)
        # More files may have been written while it was loaded; mended ones may be as they were.
        loaded = _names(generation.code.files_unlike(former) or changed)
        version = generation.code.version
        self._tell(f"reloaded {loaded} ({version}){self._differences(generation)}")
        return True

    def _differences(self, generation: Generation) -> str:
        """Describe which products and inputs are declared otherwise than at the start."""
        before = {name: spec.interface for name, spec in self._original.specs.items()}
        after = {name: spec.interface for name, spec in generation.specs.items()}
        names = [name for name in {**before, **after} if before.get(name) != after.get(name)]
        if not names:
            return ""
        return (
            f"; {', '.join(names)}: declared otherwise than at the start: the graph is not read "
            'again, restart "batuta up" for it'
        )

    def _tell(self, notice: str, level: int = logging.WARNING) -> None:
        LOG.log(level, "%s", notice)
        self._on_notice(notice)


async def _edits(folders: list[str]) -> AsyncIterator[list[str]]:
    """Yield the paths of the files that were written in `folders`.

    These may be removed and made again, as by ``git checkout``. The kernel watches a folder, not
    its name: then they are watched anew, and may have been written meanwhile.
    """
    while True:
        try:
            async with aclosing(awatch(*folders, recursive=False, step=SETTLE_MS)) as batches:
                async for changes in batches:
                    yield sorted(path for _, path in changes)
                    if any(kind is Change.deleted and path in folders for kind, path in changes):
                        break
        except FileNotFoundError:
            LOG.info("%s: one of them is not there", _names(folders))
        while not all(map(os.path.isdir, folders)):  # noqa: ASYNC110  nobody tells when it is there
            await asyncio.sleep(FOLDER_CHECK_S)
        yield folders


def _names(paths: Iterable[str]) -> str:
    return ", ".join(Path(path).name for path in paths)
