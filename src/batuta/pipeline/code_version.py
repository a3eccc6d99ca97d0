"""The code of a pipeline: its files, its version, and whether a file was changed since.

Whoever looks at a product later wants to know the code that made it: the version of its package,
the commit, or at least a digest that is the same for the same code.
"""

import hashlib
import resource
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Final

import psutil

from batuta.pipeline.command import Command
from batuta.pipeline.context import PipelineError
from batuta.pipeline.declaration import ProductSpec
from batuta.tracebacks import is_author_file

DIGEST_LENGTH: Final = 12
GIT_TIMEOUT_S: Final = 10.0


@dataclass(frozen=True, kw_only=True)
class LoadedCode:
    """The code that a process has loaded.

    Attributes
    ----------
    version : str
        Such as ``weather 1.2.0``, ``commit 3f2a91c8d1e0`` or ``digest 52b0e0a4d9c1``.
    files : mapping
        Each of its author's files, by path, as it was when it was loaded.
    package : str or None
        The package that is the author's, though it be installed.
    """

    version: str = ""
    files: Mapping[str, "FileState"] = field(default_factory=dict)
    package: str | None = None

    def changed_files(self) -> list[str]:
        """Return the paths of the files whose contents are not what they were."""
        return [path for path, state in self.files.items() if state.differs(Path(path))]

    def files_unlike(self, other: "LoadedCode") -> list[str]:
        """Return the paths of the files that `other` does not have, or has with other contents."""
        return [
            path
            for path, state in self.files.items()
            if path not in other.files or other.files[path].digest != state.digest
        ]

    def changed_since(self, time_s: float) -> bool:
        """Return whether a file was written after a time, in seconds since 1970.

        If that was when loading began, what was loaded may be of before or after.
        """
        return any(state.modified_ns > time_s * 1e9 for state in self.files.values())

    @property
    def folders(self) -> list[str]:
        """The folders that its files are in."""
        return sorted({str(Path(path).parent) for path in self.files})


def refuse_mixture(code: LoadedCode) -> None:
    """Refuse what this process has made if some of it may have run newer code than `code`.

    What was in memory when the processing began is of one piece. But modules that were imported
    since, and processes that were started (the workers of tiles above all), are of what the files
    were at that moment.

    Raises
    ------
    PipelineError
        If a file of `code` was written since it was loaded, and such code was run.
    """
    changed = code.changed_files()
    if not changed:
        return
    imported = any(path not in code.files for path in _module_files(code.package))
    if imported or _has_started_processes():
        names = ", ".join(Path(path).name for path in changed)
        raise PipelineError(
            f"{names} edited while it ran, so that some of it may have run the new code: "
            "not archived"
        )


def _has_started_processes() -> bool:
    """Return whether this process, which was just forked, has started others since."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss > 0
    return ended or bool(psutil.Process().children())


@dataclass(frozen=True)
class FileState:
    """A file at some time: when it was written, in nanoseconds, its size, its digest."""

    modified_ns: int
    size: int
    digest: str

    @classmethod
    def of(cls, path: Path) -> "FileState":
        """Return the state of a file now; of one that is not there, an empty state."""
        try:
            status = path.stat()
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError:  # it was removed, or an editor is replacing it
            return cls(0, 0, "")
        return cls(status.st_mtime_ns, status.st_size, digest)

    def differs(self, path: Path) -> bool:
        """Return whether the file has other contents now; it is read only if it was written."""
        try:
            status = path.stat()
        except OSError:
            return True
        same = (status.st_mtime_ns, status.st_size) == (self.modified_ns, self.size)
        return not same and FileState.of(path).digest != self.digest


def loaded_code(specs: Mapping[str, ProductSpec], reference: str | None = None) -> LoadedCode:
    """Return the code of the products `specs` in this process, which has loaded it.

    Parameters
    ----------
    specs : mapping
        What can be made, by name.
    reference : str, optional
        What it was loaded from; a configuration file is part of its code.
    """
    module = module_of(specs)
    package = module.partition(".")[0] if module else None
    if package in {"__main__", "__mp_main__", "batuta"}:
        package = None
    paths = {Path(path) for path in _module_files(package)}
    paths |= set(_command_files(specs, reference))
    files = {str(path): FileState.of(path) for path in sorted(paths)}
    return LoadedCode(version=_version(package, files), files=files, package=package)


def module_of(specs: Mapping[str, ProductSpec]) -> str | None:
    """Return the module of the functions of products, if they are of one that is imported."""
    for spec in specs.values():
        module = getattr(spec.function, "__module__", None)
        if module in sys.modules and not isinstance(spec.function, Command):
            return str(module)
    return None


def _module_files(package: str | None) -> Iterable[str]:
    for module in list(sys.modules.values()):
        path = getattr(module, "__file__", None)
        if path and path.endswith(".py") and is_author_file(path, package, module.__name__):
            yield path


def _command_files(specs: Mapping[str, ProductSpec], reference: str | None) -> Iterable[Path]:
    commands = [each.function for each in specs.values()]
    if reference is None or not any(isinstance(each, Command) for each in commands):
        return
    document = Path(reference).absolute()
    yield document
    for command in commands:
        words = command.words if isinstance(command, Command) else ()
        for path in map(Path, words):
            if path.parent == document.parent and path.is_file():
                yield path


def _version(package: str | None, files: Mapping[str, FileState]) -> str:
    if package is not None and (installed := _installed_version(package)):
        return installed
    whole = hashlib.sha256("\n".join(state.digest for state in files.values()).encode())
    digest = f"digest {whole.hexdigest()[:DIGEST_LENGTH]}"
    commit = _commit(list(files))
    if commit is None:
        return digest
    name, edited = commit
    return f"commit {name}, edited, {digest}" if edited else f"commit {name}"


def _installed_version(package: str) -> str | None:
    """Return the version of the distribution that `package` was installed from, if it was."""
    module = sys.modules.get(package)
    path = getattr(module, "__file__", None)
    # Of an editable installation, the files may be newer than the version.
    if path is None or is_author_file(path, None, package):
        return None
    names = metadata.packages_distributions().get(package)
    return f"{names[0]} {metadata.version(names[0])}" if names else None


def _commit(files: list[str]) -> tuple[str, bool] | None:
    """Return the commit that `files` are of, and whether they differ from it; None if of none."""
    if not files:
        return None
    folder = str(Path(files[0]).parent)
    head = _git(folder, "rev-parse", "--short=12", "HEAD")
    tracked = _git(folder, "ls-files", "--", *files)
    if head is None or tracked is None:
        return None
    changes = _git(folder, "status", "--porcelain", "--", *files)
    return head, bool(changes) or len(tracked.splitlines()) != len(files)


def _git(folder: str, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", folder, *arguments],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=GIT_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):  # git is not installed, or waits for a disk
        return None
    return done.stdout.strip() if done.returncode == 0 else None
