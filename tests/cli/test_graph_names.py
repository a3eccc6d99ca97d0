"""`batuta import` asks the conductor whether its graph knows the product."""

import json
from asyncio import StreamReader, StreamWriter, to_thread

import pytest

from batuta.cli.requests.graph_names import unknown_product
from batuta.errors import ConfigurationError
from batuta.service.client import ServiceError
from tests.conductor.graphs import diamond
from tests.support.raw_server import raw_server


async def answer_graph(reader: StreamReader, writer: StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    body = json.dumps(diamond().as_document()).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    writer.write(head.encode() + body)
    await writer.drain()


async def test_a_product_that_the_graph_does_not_know_is_told_or_refused() -> None:
    async with raw_server(answer_graph) as url:
        assert await to_thread(unknown_product, "A", url, strict=True) is None
        told = await to_thread(unknown_product, "BB", url, strict=False)
        assert told is not None
        assert "has no such (did you mean 'B'?): nothing will be made of it" in told
        with pytest.raises(ConfigurationError, match="not imported"):
            await to_thread(unknown_product, "BB", url, strict=True)


def test_without_a_conductor_only_strict_refuses() -> None:
    nowhere = "http://127.0.0.1:1"
    assert unknown_product("BB", nowhere, strict=False) is None
    with pytest.raises(ServiceError):
        unknown_product("BB", nowhere, strict=True)
