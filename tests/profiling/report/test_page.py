"""The page of a profile, in a real browser without a network: what is drawn, and where."""

import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from batuta.profiling.capture.records import WorkerId
from batuta.profiling.files.run_info import TileMishap
from batuta.profiling.report.page import PageError, profile_page
from tests.profiling.profile_builder import (
    ProfileBuilder,
    TaskSpec,
    make_grid,
    make_run,
    simulate_run,
    survey,
)
from tests.support.browser import Browser, Seen, box_of, browser

__all__ = ["browser"]

BLUE = "#4c78a8"
"""Of the task name that took most."""
RED = "#e5383b"
SLOWEST = "#fde725"
"""The last colour of the scale of times."""
LARGEST = "#fcfdbf"
"""The last colour of the scale of memory."""
EVIL = '</script><img src=x onerror="document.title=\'caught\'"><b>&amp;"'


def looked(browser: Browser, builder: ProfileBuilder, **window: int | bool) -> Seen:
    seen = browser.look(profile_page(builder.analysis()), **window)  # type: ignore[arg-type]
    assert seen.errors == ()
    assert seen.loaded == ()
    return seen


def chart(seen: Seen, section: str, number: int = 0) -> Image.Image:
    left, top, right, bottom = seen.places[section]
    inside = [
        box
        for name, box in seen.places.items()
        if name.startswith("chart-") and left <= box[0] <= right and top <= box[1] <= bottom
    ]
    return seen.picture.crop(inside[number])


def share(picture: Image.Image, colour: str, near: int = 12) -> tuple[float, float]:
    """The middle of what has a colour, as shares of the picture's width and height."""
    box = box_of(picture, colour, near=near)
    assert box is not None
    return (box[0] + box[2]) / 2 / picture.width, (box[1] + box[3]) / 2 / picture.height


@pytest.mark.parametrize("dark", [False, True])
def test_a_profile_is_drawn_offline_in_light_and_in_dark(browser: Browser, dark: bool) -> None:
    seen = looked(browser, survey(6, 8), dark=dark)
    assert 'data-drawn="8"' in seen.text
    sections = ["advice", "names", "timeline", "tiles", "memory", "bounds", "mishaps", "tables"]
    tops = [seen.places[section][1] for section in sections]
    assert tops == sorted(tops)
    for section in ("names", "timeline"):
        assert box_of(chart(seen, section), BLUE) is not None
    assert (sum(seen.picture.getpixel((2, 2))) < 150) is dark  # type: ignore[arg-type]


def test_a_page_for_a_narrow_screen_is_not_scrolled_sideways(browser: Browser) -> None:
    seen = looked(browser, survey(4, 5), width=500)
    assert seen.width <= 500


def test_the_slow_tile_is_bright_where_it_is_on_the_image_and_row_0_at_the_top(
    browser: Browser,
) -> None:
    works = [
        TaskSpec(
            wall_s=9 if (row, col) == (1, 2) else 1,
            peak_mb=900 if (row, col) == (8, 2) else 100,
            tile=("dsm", row, col),
        )
        for row in range(10)
        for col in range(10)
    ]
    builder = simulate_run(works)
    failed = TileMishap(dataset="dsm", row=9, col=7, cause="ValueError")
    builder.run = replace(builder.run, grids=(make_grid("dsm", 10, 10),), failed=(failed,))
    seen = looked(browser, builder)
    # The bars of colours, which have all of them, are at the right.
    time, memory = (
        picture.crop((0, 0, int(picture.width * 0.85), picture.height))
        for picture in (chart(seen, "tiles", 0), chart(seen, "tiles", 1))
    )
    across, down = share(time, SLOWEST)
    assert across < 0.45
    assert down < 0.35
    across, down = share(memory, LARGEST)
    assert across < 0.45
    assert down > 0.6
    across, down = share(time, RED, near=40)
    assert across > 0.6
    assert down > 0.7


def test_what_nobody_did_is_a_gap_in_the_timeline(browser: Browser) -> None:
    builder = ProfileBuilder(make_run(nb_workers=1, ended_s=make_run().started_s + 10))
    builder.add(TaskSpec(wall_s=4))
    builder.add(TaskSpec(wall_s=4), start_s=6)
    seen = looked(browser, builder)
    picture = chart(seen, "timeline")
    box = box_of(picture, BLUE)
    assert box is not None
    row = np.asarray(picture)[(box[1] + box[3]) // 2, box[0] : box[2]]
    blue = np.all(np.abs(row.astype(int) - (0x4C, 0x78, 0xA8)) <= 12, axis=1)
    changes = int(np.count_nonzero(np.diff(blue)))
    assert changes == 2
    assert blue.mean() == pytest.approx(0.8, abs=0.02)


def test_names_from_users_are_shown_and_never_run(browser: Browser) -> None:
    works = [
        TaskSpec(name=EVIL + str(n % 3), tile=(EVIL, 0, n), error=EVIL, outcomes=["failed", "done"])
        for n in range(6)
    ]
    mishap = {"dataset": EVIL, "row": 0, "col": 0, "cause": EVIL}
    builder = simulate_run(
        works, notes=(EVIL,), error=EVIL, state="failed", host=EVIL, failed=[mishap]
    )
    seen = looked(browser, builder)
    assert "<title>caught" not in seen.text
    assert "<img" not in seen.text
    assert "&lt;/script&gt;&lt;img" in seen.text
    assert box_of(chart(seen, "names"), BLUE) is not None


@pytest.mark.parametrize(
    ("builder", "charts", "said"),
    [
        (
            ProfileBuilder(make_run(state="running", ended_s=None)),
            0,
            "it is still running, or was killed",
        ),
        (simulate_run([TaskSpec(tile=("dsm", 0, 0))]), 6, "1 task in 1.00 s on 2 workers"),
        (
            simulate_run([TaskSpec(outcomes=["failed"], tile=("dsm", 0, n)) for n in range(3)]),
            5,
            "every attempt failed",
        ),
        (simulate_run([TaskSpec(wall_s=0)]), 3, "1 task in 0 s on 2 workers"),
    ],
    ids=["none", "one", "failures", "no time"],
)
def test_a_profile_of_few_tasks_is_drawn_too(
    browser: Browser, builder: ProfileBuilder, charts: int, said: str
) -> None:
    seen = looked(browser, builder)
    assert f'data-drawn="{charts}"' in seen.text
    assert said in seen.text


def test_many_tasks_on_many_workers_are_merged_into_a_page_of_two_megabytes(
    browser: Browser,
) -> None:
    builder = ProfileBuilder(make_run(nb_workers=None))
    for n in range(30_000):
        lane, turn = n % 80, n // 80
        worker = WorkerId(f"w{lane}", f"node{lane % 4}", lane)
        work = TaskSpec(name=f"step {n % 5}", wall_s=0.008, tile=("dsm", n // 400, n % 400))
        builder.add(work, task=n, start_s=0.01 * turn, worker=worker)
    page = profile_page(builder.analysis())
    assert len(page) < 2_000_000  # 1.4 MB are Bokeh
    seen = browser.look(page)
    assert seen.errors == ()
    assert "Tasks are too many to be drawn one by one" in seen.text
    assert box_of(chart(seen, "timeline"), BLUE) is not None


def test_without_bokeh_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("batuta.profiling.report")]:
        monkeypatch.delitem(sys.modules, name)
    for name in [name for name in sys.modules if name.partition(".")[0] == "bokeh"]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r"needs bokeh.*pip install 'batuta\[profiling\]'"):
        import batuta.profiling.report.page  # noqa: F401, PLC0415


def test_the_error_of_a_missing_library_is_one_of_ours() -> None:
    assert "jinja2" in str(PageError("jinja2"))


def test_what_was_recorded_of_memory_is_drawn_with_the_peaks(browser: Browser) -> None:
    builder = simulate_run([TaskSpec(wall_s=4)] * 2, workers=1)
    analysis = builder.analysis()
    times = builder.run.started_s + np.arange(8)
    rows = {"time_s": times, "worker": "w", "host": "north", "pid": 7, "process_bytes": 1.5e9}
    seen = browser.look(profile_page(replace(analysis, memory=pd.DataFrame(rows))))
    assert "Grey: what each process held" in seen.text
    picture = chart(seen, "memory")
    inner = picture.crop((picture.width // 5, 0, picture.width, int(0.8 * picture.height)))
    assert share(inner, RED, near=60)[1] < 0.3  # the limit, 2 GB
    assert share(inner, BLUE, near=45)[1] > 0.9  # the peaks, 0.1 GB
    assert 0.3 < share(inner, "#8d96a3", near=30)[1] < 0.6  # what was recorded, 1.5 GB
