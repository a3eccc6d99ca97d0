"""The profiles of processings over REST: the page, and the files behind it."""

import asyncio
import os
import re
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from html import escape
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Final

from fastapi import Path as PathParameter
from fastapi import Query, Response
from fastapi.responses import HTMLResponse, StreamingResponse
from pydantic import BaseModel

from batuta.pipeline.profile_summary import SummaryError, SummaryWriter
from batuta.pipeline.retention import RetentionFolder
from batuta.pipeline.store import StoredProcessing
from batuta.profiling.capture.layout import (
    CPROFILE_MERGED,
    CPROFILE_TEXT,
    LEAKS,
    LOOPS,
    MEMRAY_TEXT,
    PLACES,
    PROFILE_FOLDER,
    RUN_FILE,
    SUMMARY_HTML,
    SUMMARY_TEXT,
    TASKS,
)
from batuta.service.pagination import Page
from batuta.service.problems import ProblemError, problem_responses
from batuta.service.routing import ServiceRouter

HTML: Final = "text/html; charset=utf-8"
TEXT: Final = "text/plain; charset=utf-8"
PARQUET: Final = "application/vnd.apache.parquet"
CHUNK_BYTES: Final = 2**18

PAGE: Final = "summary.html"
SUMMARY: Final = "summary.txt"
TABLES: Final = (TASKS, PLACES, LOOPS, LEAKS)

PAGE_POLICY: Final = (
    "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; "
    "img-src data: blob:; font-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'self'; sandbox allow-scripts allow-downloads"
)
"""The page runs its own scripts, in an origin of its own, and loads nothing from anywhere.

Its charts are drawn by Bokeh, which makes functions of strings: hence ``unsafe-eval``.
"""
LINKS_POLICY: Final = (
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'self'"
)
"""A page of links runs nothing."""

_NAMED: Final = {
    PAGE: (SUMMARY_HTML, HTML),
    SUMMARY: (SUMMARY_TEXT, TEXT),
    RUN_FILE: (f"{PROFILE_FOLDER}/{RUN_FILE}", "application/json"),
    CPROFILE_TEXT: (f"{PROFILE_FOLDER}/{CPROFILE_TEXT}", TEXT),
    CPROFILE_MERGED: (f"{PROFILE_FOLDER}/{CPROFILE_MERGED}", "application/octet-stream"),
    MEMRAY_TEXT: (f"{PROFILE_FOLDER}/{MEMRAY_TEXT}", TEXT),
    **{f"{table}.parquet": (f"{PROFILE_FOLDER}/{table}.parquet", PARQUET) for table in TABLES},
}
_PART: Final = re.compile(rf"(?:{'|'.join(TABLES)})-[0-9]{{1,9}}\.parquet")

Name = Annotated[
    str | None, Query(description="Of the orchestrator, where the processing opened several.")
]
FileName = Annotated[
    str,
    PathParameter(
        description=f"{', '.join(_NAMED)}; of a run that was killed, parts of the tables, such as "
        f"{TASKS}-000001.parquet."
    ),
]


class ProfileView(BaseModel):
    """The profile of one orchestrator: its name and the names of its files."""

    name: str
    files: list[str]


@dataclass(frozen=True)
class _Profile:
    """The retained profile of one orchestrator."""

    folder: Path

    @property
    def name(self) -> str:
        return self.folder.name

    def files(self) -> list[str]:
        """Return the names that can be requested, the most useful first."""
        whole = [shown for shown, (path, _) in _NAMED.items() if (self.folder / path).is_file()]
        inside = self.folder / PROFILE_FOLDER
        parts = [each.name for each in inside.iterdir()] if inside.is_dir() else []
        return whole + sorted(filter(_PART.fullmatch, parts))

    def response(self, file: str) -> Response:
        """Return a file; one that is being removed is sent whole or not at all.

        It is opened here, before the answer starts: an open file outlives its removal.
        """
        path, media_type = _NAMED.get(file, (f"{PROFILE_FOLDER}/{file}", PARQUET))
        opened = (self.folder / path).open("rb")
        headers = {
            "Content-Length": str(os.fstat(opened.fileno()).st_size),
            "X-Content-Type-Options": "nosniff",
        }
        if media_type == HTML:
            headers["Content-Security-Policy"] = PAGE_POLICY
        return StreamingResponse(_chunks(opened), media_type=media_type, headers=headers)


class ProfileRoutes:
    """The routes of profiles.

    Parameters
    ----------
    find : callable
        Returns a processing by its id, or raises `ProblemError`.
    retention : RetentionFolder or None
        Where profiles are; None where none are retained.
    """

    def __init__(
        self, find: Callable[[str], Awaitable[StoredProcessing]], retention: RetentionFolder | None
    ) -> None:
        self._find = find
        self._retention = retention
        self._summaries = SummaryWriter()

    def add_to(self, router: ServiceRouter) -> None:
        """Serve below the path of a processing."""
        add = router.add_api_route
        add(
            "/{processing_id}/profile",
            self.page,
            methods=["GET"],
            response_class=Response,
            responses=_response_docs(HTML, TEXT),
        )
        add(
            "/{processing_id}/profile/files",
            self.list_files,
            methods=["GET"],
            responses=_PROBLEMS,
        )
        add(
            "/{processing_id}/profile/{file}",
            self.file,
            methods=["GET"],
            response_class=Response,
            responses=_response_docs(
                *dict.fromkeys(media_type for _, media_type in _NAMED.values())
            ),
        )

    async def page(self, processing_id: str, name: Name = None) -> Response:
        """Show the profile of a processing that has ended: its page, or else its text summary.

        A run that was stopped has no summary yet: it is written now. If there are several
        profiles, a page of links to their files.
        """
        profiles = await self._profiles(processing_id)
        if name is None and len(profiles) > 1:
            return await asyncio.to_thread(_links, processing_id, profiles)
        profile = _chosen(profiles, processing_id, name)
        try:
            await self._summaries.ensure(profile.folder)
        except SummaryError as exc:
            return await asyncio.to_thread(_links, processing_id, [profile], str(exc))
        return await asyncio.to_thread(_summary, profile, processing_id)

    async def list_files(self, processing_id: str) -> Page[ProfileView]:
        """List the profiles of a processing, one for each orchestrator that it opened."""
        profiles = await self._profiles(processing_id)
        return Page(items=await asyncio.to_thread(_views, profiles))

    async def file(self, processing_id: str, file: FileName, name: Name = None) -> Response:
        """Return a file of the profile."""
        profile = _chosen(await self._profiles(processing_id), processing_id, name)
        return await asyncio.to_thread(_file, profile, processing_id, file)

    async def _profiles(self, processing_id: str) -> list[_Profile]:
        stored = await self._find(processing_id)
        found: list[_Profile] = []
        if self._retention is not None and stored.record.profile is not None:
            folder = self._retention.profiles(stored.current_run.run_id)
            found = await asyncio.to_thread(_profiles_in, folder)
        if not found:
            raise ProblemError(
                HTTPStatus.NOT_FOUND,
                f"processing {processing_id!r}: no profile (one exists once a processing "
                "that opened an orchestrator has ended, until its log is removed)",
            )
        return found


def _profiles_in(folder: Path) -> list[_Profile]:
    return [_Profile(each) for each in sorted(folder.iterdir())] if folder.is_dir() else []


def _chosen(profiles: list[_Profile], processing_id: str, name: str | None) -> _Profile:
    chosen = [each for each in profiles if name in (None, each.name)]
    if len(chosen) == 1:
        return chosen[0]
    known = [each.name for each in profiles]
    what = "it has several profiles" if name is None else f"it has no profile named {name!r}"
    raise ProblemError(
        HTTPStatus.NOT_FOUND,
        f"processing {processing_id!r}: {what} (?name=, accepted: {', '.join(known)})",
        known=known,
    )


def _summary(profile: _Profile, processing_id: str) -> Response:
    try:
        return profile.response(PAGE)
    except FileNotFoundError:
        return _file(profile, processing_id, SUMMARY)


def _views(profiles: list[_Profile]) -> list[ProfileView]:
    return [ProfileView(name=each.name, files=each.files()) for each in profiles]


def _file(profile: _Profile, processing_id: str, file: str) -> Response:
    if file in _NAMED or _PART.fullmatch(file):
        try:
            return profile.response(file)
        except FileNotFoundError:
            pass  # reported below: this profile has no such file
    known = profile.files()
    what = f"its profile has no {file!r} (accepted: {', '.join(known)})"
    raise ProblemError(HTTPStatus.NOT_FOUND, f"processing {processing_id!r}: {what}", known=known)


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    with file:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk


def _links(processing_id: str, profiles: list[_Profile], problem: str = "") -> Response:
    """A page of links, for browsers; its addresses are relative."""
    title = f"Profiles of processing {escape(processing_id)}"
    sections = "".join(map(_section, _views(profiles)))
    message = f"<p>Its page cannot be drawn: {escape(problem)}</p>" if problem else ""
    return HTMLResponse(
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        "<style>:root{color-scheme:light dark}body{font:1rem/1.5 system-ui;margin:2rem}</style>"
        f"<h1>{title}</h1>{message}{sections}</html>",
        headers={"Content-Security-Policy": LINKS_POLICY},
    )


def _section(view: ProfileView) -> str:
    """One orchestrator: its name leads to its page."""
    name = escape(view.name)
    files = "".join(
        f'<li><a href="profile/{escape(file)}?name={name}">{escape(file)}</a></li>'
        for file in view.files
    )
    return f'<h2><a href="profile?name={name}">{name}</a></h2><ul>{files}</ul>'


_PROBLEMS: Final = problem_responses(HTTPStatus.NOT_FOUND)


def _response_docs(*media_types: str) -> dict[int | str, dict[str, Any]]:
    kinds = [each.partition(";")[0] for each in media_types]
    return {
        200: {"content": {each: {"schema": {"type": "string"}} for each in kinds}},
        **_PROBLEMS,
    }
