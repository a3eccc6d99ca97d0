"""Watching the files of a pipeline's code, whatever becomes of their folder."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from batuta.pipeline.code_version import FileState, LoadedCode
from batuta.pipeline.code_watch import CodeWatcher
from tests.support.waiting import eventually


class Runner:
    """Loads the code of a module that declares nothing."""

    def __init__(self, module: Path) -> None:
        self._module = module
        self.generation: Any = self._loaded()

    def _loaded(self) -> Any:
        files = {str(self._module): FileState.of(self._module)}
        code = LoadedCode(version=self._module.read_text(), files=files, package=None)
        return SimpleNamespace(code=code, specs={})

    async def reload(self) -> Any:
        self.generation = self._loaded()
        return self.generation


@pytest.fixture
def module(tmp_path: Path) -> Path:
    path = tmp_path / "code" / "module.py"
    path.parent.mkdir()
    path.write_text("first")
    return path


@pytest.fixture
async def reloaded(module: Path) -> AsyncIterator[list[str]]:
    """The versions that were loaded again, as they are."""
    versions: list[str] = []
    runner: Any = Runner(module)
    watcher = CodeWatcher(
        runner,
        reload=True,
        on_notice=lambda _: None,
        on_reload=lambda generation: versions.append(generation.code.version),
    )
    watching = asyncio.create_task(watcher.run())
    yield versions
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)


async def loaded(versions: list[str], module: Path, version: str) -> None:
    """Write the module until that was loaded: the watch may not have begun."""

    async def is_loaded() -> bool:
        if version not in versions:
            await asyncio.to_thread(module.write_text, version)
        return version in versions

    await eventually(is_loaded)


async def test_code_is_loaded_again_after_its_folder_was_removed_and_made_again(
    module: Path, reloaded: list[str]
) -> None:
    await loaded(reloaded, module, "second")
    shutil.rmtree(module.parent)
    module.parent.mkdir()
    await loaded(reloaded, module, "third")
    await loaded(reloaded, module, "fourth")


async def test_code_is_loaded_again_after_its_folder_was_moved_away_for_a_while(
    module: Path, reloaded: list[str], tmp_path: Path
) -> None:
    await loaded(reloaded, module, "second")
    module.parent.rename(tmp_path / "elsewhere")
    other = tmp_path / "new"
    other.mkdir()
    (other / "module.py").write_text("third")
    other.rename(module.parent)

    async def is_loaded() -> bool:
        return "third" in reloaded

    await eventually(is_loaded)
    await loaded(reloaded, module, "fourth")
