"""From a notification to its request, one after the other on an idle orchestra.

Run with ``COUNT FOLDER``, it measures the conductor and the bare loop in turns.
"""

import asyncio
import statistics
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

from benchmarks.orchestra.support.driver import connected, notification, start
from benchmarks.orchestra.support.maker import Arrivals, Maker, serving
from benchmarks.orchestra.support.services import levels, nats_server, orchestra, program
from benchmarks.support.figures import Figure, Target
from benchmarks.support.measure import FOLDER, ORCHESTRA, Subject, print_result

TARGET: Final = Target("at most", 2.5)
ROUNDS: Final = 10
IDLE_S: Final = 0.02
SUBJECTS: Final = {"bare loop": "bare.x", "conductor": "data.vhf"}
WARM_UP: Final = 20


async def measure(count: int, folder: Path, nats_url: str) -> dict[str, list[float]]:
    """Return the times of each side, in seconds."""
    arrivals = Arrivals()
    async with serving(Maker(arrivals.note)) as url, AsyncExitStack() as stack:
        bare = ["-m", "benchmarks.orchestra.support.bare_loop", nats_url, str(folder), url, "0"]
        await start(stack, program([sys.executable, *bare], folder / "bare.log"))
        await start(stack, orchestra(folder, nats_url, levels(url, 1)))
        client = await stack.enter_async_context(connected(nats_url))
        times: dict[str, list[float]] = {name: [] for name in SUBJECTS}
        for turn in range(ROUNDS + 1):
            for name, subject in SUBJECTS.items():
                for number in range(count // ROUNDS if turn else WARM_UP):
                    # Idle: what follows the last request has been done.
                    await asyncio.sleep(IDLE_S)
                    obs_id = f"{name[:4]}-{turn}-{number}"
                    began = time.perf_counter()
                    await client.publish(subject, notification(obs_id))
                    took_s = await arrivals.wait_for(obs_id) - began
                    if turn:
                        times[name].append(took_s)
    return times


def quantiles_ms(times_s: Sequence[float]) -> tuple[float, float]:
    """Return the median and the 99th percentile, in ms."""
    ordered = sorted(1000 * value for value in times_s)
    return statistics.median(ordered), ordered[int(0.99 * len(ordered))]


def figures(*, quick: bool) -> list[Figure]:
    """Compare with the bare loop."""
    result = Subject("decision", (str(200 if quick else 1000), FOLDER), package=ORCHESTRA).run()
    own, bare = (quantiles_ms(result[name]) for name in ("conductor", "bare loop"))
    return [
        Figure(
            what=f"from a notification to its request, idle: {name}",
            measured=f"{value:.2f} ms",
            against=f"a bare loop: {base:.2f} ms",
            ratio=value / base,
            target=TARGET,
        )
        for name, value, base in zip(("median", "99 %"), own, bare, strict=True)
    ]


if __name__ == "__main__":
    folder = Path(sys.argv[2])
    with nats_server(folder) as address:
        print_result(**asyncio.run(measure(int(sys.argv[1]), folder, address)))
