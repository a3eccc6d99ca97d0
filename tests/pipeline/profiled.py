"""A pipeline whose orchestrators leave profiles, in each way that one may end."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import xarray as xr

from batuta.pipeline import Context, Pipeline
from batuta.profiling.capture.layout import PROFILE_FOLDER, RUN_FILE, SUMMARY_HTML, SUMMARY_TEXT
from tests.pipeline.scripted import note, stage, wait_for, written
from tests.pipeline.tiled import play, ramp

pipeline = Pipeline("profiled_pipeline")

SEQUENTIAL = {"mode": "sequential"}
TILED = {"mode": "multiprocessing", "nb_workers": 2, "profiling": {}}
HALF_PX = 32
"""Of the 64 rows of the grid of `play`."""
PARTS = ("tasks-000001.parquet", "tasks-000002.parquet", "places-000001.parquet")


def write_whole(out_dir: Path, word: str) -> None:
    """Write the files of a profile as a run that ended leaves them, each with `word` in it."""
    for name in (
        SUMMARY_TEXT,
        SUMMARY_HTML,
        f"{PROFILE_FOLDER}/{RUN_FILE}",
        f"{PROFILE_FOLDER}/tasks.parquet",
    ):
        path = out_dir / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{word}: {name}")


def write_parts(out_dir: Path) -> None:
    """Write the files of a profile as a run has them that goes on, or was killed."""
    folder = out_dir / PROFILE_FOLDER
    folder.mkdir(parents=True)
    for name in (RUN_FILE, *PARTS):
        (folder / name).write_text(f"part: {name}")


def opened(context: Context, out_dir: str | Path | None = None) -> Path:
    """Open an orchestrator, end it, and give its output folder."""
    with context.orchestrator(SEQUENTIAL, out_dir=out_dir, progress_bar=False) as orchestrator:
        return Path(orchestrator.out_dir or "")


@pipeline.product("ONE")
def one(context: Context) -> Path:
    write_whole(opened(context), context.obs_id)
    return written(context, "one")


@pipeline.product("TEXT")
def text(context: Context) -> Path:
    (opened(context) / SUMMARY_TEXT).write_text("only text")
    return written(context, "text")


@pipeline.product("SEVERAL")
def several(context: Context) -> Path:
    for word, out_dir in {
        "first": None,
        "second": None,
        "north": "maps/north",
        "elsewhere": stage() / "scratch" / "north",
    }.items():
        write_whole(opened(context, out_dir), word)
    return written(context, "several")


@pipeline.product("NONE")
def none(context: Context) -> Path:
    # Not what an orchestrator wrote: nobody has opened one there.
    write_whole(context.work_dir / "orchestrator", "none")
    return written(context, "none")


@pipeline.product("RAISES")
def raises(context: Context) -> Path:
    write_parts(opened(context))
    raise ValueError("the gain is negative")


@pipeline.product("KILLED")
def killed(context: Context) -> Path:
    write_parts(opened(context))
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


@pipeline.product("HANGS", timeout_s=5.0)
def hangs(context: Context) -> Path:
    write_parts(opened(context))
    time.sleep(600)
    raise AssertionError


@pipeline.product("WAITS")
def waits(context: Context) -> Path:
    write_parts(opened(context))
    note("pids", str(os.getpid()))
    wait_for("go on")
    return written(context, "waited")


@pipeline.product("FAILS_ONCE")
def fails_once(context: Context) -> Path:
    first = not (stage() / "failed").exists()
    if first or context.obs_id == "profiled-again":
        write_whole(opened(context), "first" if first else "second")
    if first:
        note("failed", "")
        raise RuntimeError("the first time")
    return written(context, "second")


def ramp_half_way(window: dict[str, int], saving_info: Any) -> xr.Dataset:
    if window["row_min"] >= HALF_PX:
        wait_for("go on")
    return ramp(window, saving_info)


@pipeline.product("TILED")
def tiled(context: Context) -> Path:
    with context.orchestrator(TILED, progress_bar=False) as orchestrator:
        return play(context, orchestrator, ramp)


@pipeline.product("TILED_HALF_WAY")
def tiled_half_way(context: Context) -> Path:
    note("pids", str(os.getpid()))
    note("work_dir", str(context.work_dir))
    with context.orchestrator(TILED, progress_bar=False) as orchestrator:
        return play(context, orchestrator, ramp_half_way)


@pipeline.product("LINKS")
def links(context: Context) -> Path:
    out_dir = opened(context)
    secret = stage() / "secret.txt"
    secret.write_text("secret")
    (out_dir / PROFILE_FOLDER).mkdir()
    (out_dir / PROFILE_FOLDER / RUN_FILE).symlink_to(secret)
    (out_dir / SUMMARY_HTML).symlink_to(secret)
    (out_dir / SUMMARY_TEXT).unlink(missing_ok=True)
    (out_dir / SUMMARY_TEXT).write_text("mine")
    return written(context, "links")
