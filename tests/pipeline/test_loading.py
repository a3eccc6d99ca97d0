"""Naming a pipeline to serve: each mistake is answered by what is available."""

import json
import re
import site
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from batuta.errors import ConfigurationError
from batuta.pipeline import load

MODULE = """
from batuta.pipeline import Pipeline
one = Pipeline("one")
two = Pipeline("two")
number = 3
"""


def own(module: ModuleType) -> str:
    """What is told of a module of Python's own, of which there is none in the folder or another."""
    return (
        f"module {module.__name__!r} was found in Python's own library ({module.__file__}), and "
        "has no Pipeline: give the module of yours another name"
    )


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with modules in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    (tmp_path / "loading_good.py").write_text(MODULE)
    (tmp_path / "loading_bad.py").write_text("import loading_good\n1 / 0\n")
    (tmp_path / "loading_needs.py").write_text("import not_installed_anywhere\n")
    (tmp_path / "loading_wrong.py").write_text(
        "from batuta.pipeline import Pipeline\nPipeline('a.b')\n"
    )
    (tmp_path / "loading_folder").mkdir()
    (tmp_path / "loading_empty.py").write_text("")
    (tmp_path / "site.py").write_text(MODULE)
    return tmp_path


def test_a_module_of_the_current_folder_is_found(folder: Path) -> None:
    assert load("loading_good:two").name == "two"


@pytest.mark.parametrize(
    ("named", "why"),
    [
        ("loading_none:one", "no module 'loading_none' found in"),
        ("loading_good.py:one", "a file given, a module expected, as in loading_good:pipeline"),
        ("loading_folder:one", "loading_folder, without an __init__.py"),
        ("loading_good.sub:one", "no module 'loading_good.sub' found in"),
        ("loading_good:three", "module 'loading_good' has no 'three'; found loading_good:one"),
        ("loading_good:number", "'number' is of type int, not a Pipeline; found loading_good:"),
        ("loading_good", "no pipeline named; found loading_good:one, loading_good:two"),
        ("loading_good:", "not a pipeline's name (accepted: MODULE:NAME"),
        (":one", "not a pipeline's name (accepted: MODULE:NAME"),
        ("loading_bad:one", "cannot be imported: ZeroDivisionError: division by zero ("),
        ("loading_needs:one", "cannot be imported: ModuleNotFoundError: No module named 'not_ins"),
        ("loading_wrong:one", "pipeline: 'a.b' is not a service's name"),
        ("json:loads", f"'loads' is of type function, not a Pipeline; {own(json)}"),
        ("site:pipeline", f"module 'site' has no 'pipeline'; {own(site)}"),
        ("loading_empty:one", "loading_empty.py) has no Pipeline"),
        ("none.yaml", "none.yaml: not found"),
    ],
)
def test_what_cannot_be_loaded_is_refused_in_one_line(folder: Path, named: str, why: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(why)) as caught:
        load(named)
    assert "\n" not in str(caught.value)


def test_a_pipeline_module_loads_no_web_framework_and_no_tiles() -> None:
    program = (
        "import sys, batuta.pipeline; "
        "print([n for n in ('fastapi', 'sqlalchemy', 'xarray', 'rasterio', 'pandas')"
        " if n in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
