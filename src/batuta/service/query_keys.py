"""Refuses what the query of a request says that its route does not know.

FastAPI ignores it: a misspelt filter would select everything, the opposite of what was asked for.
"""

from collections import Counter
from collections.abc import Iterator
from http import HTTPStatus
from typing import Final
from urllib.parse import parse_qsl

from fastapi import Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from batuta.service.problems import ProblemError
from batuta.spelling import NameSuggester

_SHOWN_CHARACTERS: Final = 100


async def refuse_unknown_keys(request: Request) -> None:
    """Refuse a query with keys that the route does not know, or that are given twice.

    Meant as a dependency of all routes of an application.

    Raises
    ------
    ProblemError
        422, one line for all of them.
    """
    if request.scope["query_string"]:
        refuse_keys(request, keys_of(request.scope["route"]))


def refuse_keys(request: Request, known: frozenset[str]) -> None:
    """Refuse a query with keys that are not known, or that are given twice.

    Raises
    ------
    ProblemError
        422, one line for all of them.
    """
    if not request.scope["query_string"]:
        return
    text = request.scope["query_string"].decode("latin-1")
    keys = [key for key, _ in parse_qsl(text, keep_blank_values=True)]
    if len(keys) == len(set(keys)) and known.issuperset(keys):
        return
    given = Counter(keys)
    problems = [
        f"query.{key}: given {times} times, at most once expected"
        for key, times in given.items()
        if key in known and times > 1
    ]
    if unknown := [key[:_SHOWN_CHARACTERS] for key in given if key not in known]:
        accepted = f"known: {', '.join(sorted(known))}" if known else "none is known here"
        suggester = NameSuggester(known)
        named = ", ".join(f"{key!r}{suggester.hint(key)}" for key in unknown)
        problems.append(f"query: unknown: {named}; {accepted}")
    if problems:
        raise ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, "; ".join(problems))


def keys_of(route: APIRoute) -> frozenset[str]:
    """Return what the query of a route may say."""
    declared = (route.openapi_extra or {}).get("parameters", ())
    read_by_itself = frozenset(str(each["name"]) for each in declared if each["in"] == "query")
    return read_by_itself.union(_keys(route.dependant))


def _keys(dependant: Dependant) -> Iterator[str]:
    yield from (each.alias for each in dependant.query_params)
    for each in dependant.dependencies:
        yield from _keys(each)
