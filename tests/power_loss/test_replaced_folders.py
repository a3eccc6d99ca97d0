"""A folder that replaces another: whenever the power is lost, one of both is there, and whole."""

import ctypes
import os
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from batuta.datasets.durable_file import replace_folder
from tests.support.power_loss.disk import Disk, Loss
from tests.support.power_loss.recorder import SOURCE, Recorder
from tests.support.preloading import build_library, require_preloading

OLD = {"group/chunk": b"old"}
NEW = {"group/chunk": b"new", "group/more": b"new too"}
PROGRAM = """
from pathlib import Path
from batuta.datasets.durable_file import replace_folder
draft = Path(".parts/group")
draft.mkdir(parents=True)
(draft / "chunk").write_text("new")
(draft / "more").write_text("new too")
replace_folder(draft, Path("group").absolute())
"""


def test_whenever_the_power_is_lost_the_old_or_the_new_folder_is_there(tmp_path: Path) -> None:
    require_preloading()
    root = tmp_path / "root"
    (root / "group").mkdir(parents=True)
    (root / "group/chunk").write_bytes(OLD["group/chunk"])
    recorder = Recorder(build_library(SOURCE, tmp_path), root, tmp_path / "log")
    disk, found = Disk(root), []
    subprocess.run(
        [sys.executable, "-c", PROGRAM],
        check=True,
        cwd=root,
        env={**os.environ, **recorder.environment},
    )
    for event in recorder.events():
        disk.take(event)
        for loss in Loss:
            for seed in range(10):
                left = disk.after_power_loss(loss, Random(seed)).paths()  # noqa: S311
                found.append({name: has for name, has in left if name.startswith("group/")})
    disk.check_complete(root)
    assert all(each in (OLD, NEW) for each in found)
    assert OLD in found
    assert found[-1] == NEW


def test_a_folder_is_replaced_where_the_system_exchanges_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("draft", "group"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "chunk").write_text(name)
    monkeypatch.setattr(ctypes, "CDLL", lambda *_args, **_how: object())
    replace_folder(tmp_path / "draft", tmp_path / "group")
    assert (tmp_path / "group/chunk").read_text() == "draft"
    assert not (tmp_path / "draft").exists()
