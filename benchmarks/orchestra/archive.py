"""What the sdb takes and gives: large files, and bursts of small ones.

Run with ``MIB ROUNDS COUNT FOLDER``. The bare loop of a large file reads it, hashes it, writes it,
has the disk keep it and renames it, in turns with the sdb.
"""

import asyncio
import json
import os
import statistics
import sys
import time
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final

import aiohttp

from batuta.sdb import SdbClient
from benchmarks.bench_sdb import bare_import, timed, write_new
from benchmarks.orchestra.support.services import nats_server, sdb
from benchmarks.support.figures import Figure, Target
from benchmarks.support.measure import FOLDER, ORCHESTRA, Subject, print_result

SHARE: Final = Target("at least", 0.8)
AT_ONCE: Final = 8
CROWD: Final = 1500
IN_FLIGHT: Final = 32
SMALL_BYTES: Final = 4096
TOGETHER: Final = 250
"""Files in a request: as `SdbClient` sends them."""


def large_files(url: str, folder: Path, size_mib: int, rounds: int) -> dict[str, list[float]]:
    """Return, for each direction, the share of the bare loop's speed in each round."""
    source, copy, bare = folder / "source", folder / "copy", folder / "bare"
    shares: dict[str, list[float]] = {"import": [], "export": [], "eight": []}
    with SdbClient(url) as client:
        for number in range(rounds):
            write_new(source, size_mib)
            bare_s = timed(partial(bare_import, source, bare))
            import_s = timed(partial(client.import_file, source, "LARGE", f"o{number}"))
            again_s = timed(partial(bare_import, source, bare))
            export_s = timed(partial(client.export, "LARGE", f"o{number}", to=copy))
            shares["import"].append(bare_s / import_s)
            shares["export"].append(again_s / export_s)
        parts = [folder / f"part{number}" for number in range(AT_ONCE)]
        for part in parts:
            write_new(part, size_mib // AT_ONCE)
        with ThreadPoolExecutor(AT_ONCE) as pool:
            bare_s = sum(timed(partial(bare_import, part, bare)) for part in parts)
            names = [f"p{number}" for number in range(AT_ONCE)]
            eight_s = timed(lambda: list(pool.map(partial(_import, client), parts, names)))
        shares["eight"].append(bare_s / eight_s)
    return shares


def _import(client: SdbClient, path: Path, obs_id: str) -> int:
    return client.import_file(path, "LARGE", obs_id).version


async def small_files(url: str, count: int) -> dict[str, list[float]]:
    """Return how long each of a crowd waits, and each of a stream, in seconds."""
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=3)
    async with aiohttp.ClientSession(connector=connector) as session:
        places = asyncio.Semaphore(IN_FLIGHT)

        async def send(name: str) -> float:
            began = time.perf_counter()
            address = f"{url}/products/SMALL/{name}?processing_id={name}"
            async with session.post(address, data=os.urandom(SMALL_BYTES)) as answer:
                answer.raise_for_status()
            return time.perf_counter() - began

        async def in_turn(name: str) -> float:
            async with places:
                return await send(name)

        crowd = await asyncio.gather(*(send(f"c{number}") for number in range(CROWD)))
        began = time.perf_counter()
        await asyncio.gather(*(in_turn(f"s{number}") for number in range(count)))
        return {"crowd": crowd, "stream": [time.perf_counter() - began]}


async def bulk(url: str, count: int) -> dict[str, list[float]]:
    """Return how long each request of many files waits, and all of them take, in seconds."""
    async with aiohttp.ClientSession() as session:

        async def send(start: int) -> float:
            lines = (
                {
                    "product": "BULK",
                    "obs_id": f"b{number}",
                    "processing_id": f"b{number}",
                    "content": b64encode(os.urandom(SMALL_BYTES)).decode(),
                }
                for number in range(start, start + TOGETHER)
            )
            body = "\n".join(map(json.dumps, lines)).encode()
            began = time.perf_counter()
            headers = {"Content-Type": "application/x-ndjson"}
            async with session.post(f"{url}/products/bulk", data=body, headers=headers) as answer:
                told = (await answer.read()).splitlines()
            if [json.loads(each)["status"] for each in told] != [201] * TOGETHER:
                raise RuntimeError(f"not all imported: {told[-1]!r}")
            return time.perf_counter() - began

        began = time.perf_counter()
        waits = [await send(start) for start in range(0, count, TOGETHER)]
        return {"bulk_waits": waits, "bulk": [time.perf_counter() - began]}


def figures(*, quick: bool) -> list[Figure]:
    """Compare large files with the bare loop, and small ones with what is asked for."""
    size_mib, count = (256, 2000) if quick else (1024, 10_000)
    arguments = (str(size_mib), "3", str(count), FOLDER)
    result = Subject("archive", arguments, package=ORCHESTRA).run()
    crowd = sorted(result["crowd"])
    waits = sorted(result["bulk_waits"])
    rate = count / result["stream"][0]
    shares = (
        ("import", f"import of {size_mib} MiB"),
        ("export", f"export of {size_mib} MiB"),
        ("eight", f"imports of {size_mib // AT_ONCE} MiB, eight at once"),
    )
    return [
        *(
            Figure(
                what=what,
                measured=f"{statistics.median(result[name]):.0%}",
                against="the same disk with SHA-256: 100 %",
                ratio=statistics.median(result[name]),
                target=SHARE,
            )
            for name, what in shares
        ),
        Figure(
            what=f"{CROWD} small imports at once: 99 %",
            measured=f"{crowd[int(0.99 * CROWD)]:.2f} s",
            ratio=crowd[int(0.99 * CROWD)],
            unit="s",
            target=Target("at most", 1),
        ),
        Figure(
            what=f"small imports, {TOGETHER} in a request",
            measured=f"{count / result['bulk'][0]:.0f} a second",
            ratio=count / result["bulk"][0],
            unit="/s",
            target=Target("at least", 1000),
        ),
        Figure(
            what=f"a request of {TOGETHER} small imports: 99 %",
            measured=f"{waits[int(0.99 * len(waits))]:.2f} s",
            ratio=waits[int(0.99 * len(waits))],
            unit="s",
            target=Target("at most", 1),
        ),
        Figure(
            what=f"small imports, {IN_FLIGHT} in flight",
            measured=f"{rate:.0f} a second",
            ratio=rate,
            unit="/s",
            target=Target("at least", 1000),
        ),
    ]


if __name__ == "__main__":
    folder = Path(sys.argv[4])
    with nats_server(folder) as nats_url, sdb(folder, nats_url) as address:
        print_result(
            **asyncio.run(small_files(address, int(sys.argv[3]))),
            **asyncio.run(bulk(address, int(sys.argv[3]))),
            **large_files(address, folder, int(sys.argv[1]), int(sys.argv[2])),
        )
