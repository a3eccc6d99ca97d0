"""The HTTP client by which systems are told of observations."""

from typing import Final

import aiohttp

CONNECTIONS: Final = 64
TIMEOUT: Final = aiohttp.ClientTimeout(total=120)


def client() -> aiohttp.ClientSession:
    """Return a client that keeps its connections."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=CONNECTIONS), timeout=TIMEOUT, trust_env=False
    )


async def answers(http: aiohttp.ClientSession, url: str) -> bool:
    """Return whether a GET of `url` succeeds."""
    try:
        async with http.get(url) as answer:
            return answer.status < 300
    except aiohttp.ClientError:
        return False


async def post(http: aiohttp.ClientSession, url: str, body: object) -> None:
    """Send `body` as JSON, and wait for the answer.

    Raises
    ------
    RuntimeError
        If it is not a success.
    """
    try:
        async with http.post(url, json=body) as answer:
            text = await answer.text()
    except aiohttp.ClientError as exc:
        raise RuntimeError(f"{url}: {exc!r}") from exc
    if answer.status >= 300:
        raise RuntimeError(f"{url}: {answer.status}, {text[:200]}")
