"""The heap of a page, minute by minute: ``CHANGES_PER_S MINUTES ADDRESS``.

Twelve minutes of 1,000 changes a second have as many as an hour of 200: ``1000 13 /observations``.
"""

import sys
import tempfile
from pathlib import Path
from typing import Final

from benchmarks.dashboard.page import OBSERVATIONS, PRODUCTS, heap_bytes, opened_browser
from benchmarks.orchestra.support.services import program

MINUTE_MS: Final = 60_000
BEGUN_MS: Final = 5000
"""Until what is compiled first has been compiled."""


def main(changes_per_s: str, minutes: int, address: str) -> None:
    """Print the heap at the begin, and after each minute."""
    sizes = [str(OBSERVATIONS), str(PRODUCTS), changes_per_s]
    command = [sys.executable, "-m", "benchmarks.dashboard.feed", *sizes]
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as folder,
        program(command, Path(folder) / "feed.log") as url,
        opened_browser() as page,
    ):
        page.goto(url + address)
        page.locator("main").first.wait_for()
        page.wait_for_timeout(BEGUN_MS)
        session = page.context.new_cdp_session(page)
        session.send("Performance.enable")
        for minute in range(minutes + 1):
            if minute:
                page.wait_for_timeout(MINUTE_MS)
            print(f"{minute} min: {heap_bytes(session) / 1e6:.2f} MB", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
