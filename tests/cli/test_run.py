"""`batuta run` makes a product in this process, without services."""

import io
import signal
from pathlib import Path

import pytest

from batuta.cli.app import run

PIPELINE = """
import json
import os
import signal
from batuta.pipeline import Output, Pipeline

pipeline = Pipeline("weather")


@pipeline.product("MEAN", inputs=["READINGS"], optional=["SITE"], also_makes=["COUNT"])
def mean(context):
    values = json.loads(context.input("READINGS").read_text())
    site = context.optional_input("SITE")
    context.log.info("site: %s", site and site.read_text())
    path = context.output_path("mean.txt")
    average = sum(values) / len(values)
    path.write_text(str(average))
    count = context.output_path("count.txt")
    count.write_text(str(len(values)))
    return [Output(count, product="COUNT"), Output(path, metadata={"mean": average})]


@pipeline.product("EXCESS", inputs=["READINGS", "MEAN", "COUNT"])
def excess(context):
    context.output_path("excess.txt").write_text(context.input("MEAN").read_text())
    return "outputs/excess.txt"


@pipeline.product("COPIED", inputs=["MEAN", "COUNT"])
def copied(context):
    path = context.output_path("copied.txt")
    path.write_text(" ".join(context.input(name).read_text() for name in ("MEAN", "COUNT")))
    return path


@pipeline.product("BROKEN", inputs=["READINGS"])
def broken(context):
    raise SystemExit("no calibration")


@pipeline.product("MISDECLARED")
def misdeclared(context):
    return context.output_path("never.txt")


@pipeline.product("KILLED")
def killed(context):
    os.kill(os.getpid(), signal.SIGTERM)
    return context.output_path("never.txt")


@pipeline.product("EGG", inputs=["HEN"])
@pipeline.product("HEN", inputs=["EGG"])
def round_and_round(context):
    return "never"
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose module has a name of its own, since modules stay imported."""
    (tmp_path / f"{module(tmp_path)}.py").write_text(PIPELINE)
    (tmp_path / "readings.json").write_text("[1, 2, 6]")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def module(folder: Path) -> str:
    return "weather_" + "".join(letter if letter.isalnum() else "_" for letter in folder.name)


def made(folder: Path, *arguments: str) -> int:
    return run(["run", f"{module(folder)}:pipeline", *arguments])


READINGS = "--input=READINGS=readings.json"


def test_a_product_and_its_by_products_are_written_with_their_metadata_shown(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert made(folder, "MEAN", READINGS) == 0
    assert (folder / "out" / "MEAN.txt").read_text() == "3.0"
    assert (folder / "out" / "COUNT.txt").read_text() == "3"
    shown = capfd.readouterr()
    assert "MEAN: out/MEAN.txt, 3 B, text/plain, " in shown.out
    assert "  mean: 3.0" in shown.out
    assert "INFO batuta.pipeline.weather: site: None" in shown.err


def test_what_it_needs_is_made_first_with_all(folder: Path) -> None:
    assert made(folder, "EXCESS", "--all", READINGS, "-o", "made") == 0
    assert sorted(path.name for path in (folder / "made").iterdir()) == [
        "COUNT.txt",
        "EXCESS.txt",
        "MEAN.txt",
    ]
    assert (folder / "made" / "EXCESS.txt").read_text() == "3.0"


def test_an_input_is_given_as_a_copy(folder: Path) -> None:
    (folder / "site.txt").write_text("north")
    path = folder / "readings.json"
    before = (path.read_bytes(), path.stat())
    assert made(folder, "MEAN", READINGS, "-i", "SITE=site.txt") == 0
    after = path.stat()
    assert path.read_bytes() == before[0]
    # Not all of it: when it was read last depends on how the file system keeps that.
    assert (after.st_ino, after.st_mode, after.st_nlink) == (
        before[1].st_ino,
        before[1].st_mode,
        before[1].st_nlink,
    )
    assert after.st_mtime_ns == before[1].st_mtime_ns


@pytest.mark.parametrize(
    ("arguments", "problems"),
    [
        (("MEANS", READINGS), ["product 'MEANS': not made by pipeline 'weather' (did you mean"]),
        (("MEAN",), ["input READINGS: missing; MEAN is made from it"]),
        (
            ("MEAN", "-i", "READING=readings.json", "-i", "SITE=nowhere", "--obs-id=a/b"),
            [
                "input 'READING': not an input of MEAN (did you mean 'READINGS'?)",
                "input SITE: ",
                "input READINGS: missing",
                "obs_id",
            ],
        ),
        (("MEAN", "-i", "READINGS"), ["--input 'READINGS' (accepted: NAME=FILE", "input READINGS"]),
        (("MEAN", READINGS, READINGS), ["--input READINGS: given twice"]),
        (("MEAN", "-i", "READINGS=."), ["input READINGS: "]),
        (("EXCESS", READINGS), ["input MEAN: missing", "input COUNT: missing"]),
        (("EGG", "--all"), ["EGG: made from itself: EGG -> HEN -> EGG"]),
        (("COUNT", READINGS), ["product 'COUNT': made besides MEAN (accepted: MEAN)"]),
        (("MEAN", READINGS, "-o", "readings.json"), ["--output readings.json: readings.json is a"]),
        (("MEAN", READINGS, "-o", "readings.json/out"), ["--output readings.json/out: /"]),
    ],
)
def test_every_mistake_is_told_before_anything_runs(
    arguments: tuple[str, ...],
    problems: list[str],
    folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert made(folder, *arguments) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == len(problems)
    for line, problem in zip(lines, problems, strict=True):
        assert line.startswith(f"batuta: {problem}")
    assert not (folder / "out").exists()


@pytest.mark.parametrize("name", ["MEAN.json", "COUNT.txt", "MEAN"])
def test_an_input_is_never_replaced_by_what_is_made(
    name: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "out").mkdir()
    (folder / "out" / name).write_text("[1, 2, 6]")
    assert made(folder, "MEAN", f"--input=READINGS=out/{name}") == 2
    product = name.partition(".")[0]
    expected = f"batuta: input READINGS: {name} in --output out would be replaced by {product}"
    assert capsys.readouterr().err.startswith(expected)
    assert [path.read_text() for path in (folder / "out").iterdir()] == ["[1, 2, 6]"]


def test_an_input_that_is_given_is_not_replaced_by_a_by_product(folder: Path) -> None:
    (folder / "count.txt").write_text("mine")
    assert made(folder, "COPIED", "--all", READINGS, "-i", "COUNT=count.txt") == 0
    assert (folder / "out" / "COPIED.txt").read_text() == "3.0 mine"


@pytest.mark.parametrize(
    ("product", "error"),
    [
        ("BROKEN", "SystemExit: no calibration ({module}.py:{line} in broken)"),
        ("MISDECLARED", "output MISDECLARED: the function returned never.txt, but did not"),
    ],
)
def test_a_failure_names_the_author_s_line_below_its_traceback(
    product: str, error: str, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    given = [READINGS] if product == "BROKEN" else []
    assert made(folder, product, *given) == 1
    lines = capfd.readouterr().err.splitlines()
    line = 1 + PIPELINE[: PIPELINE.index("raise SystemExit")].count("\n")
    expected = error.format(module=module(folder), line=line)
    assert lines[-1].startswith(f"batuta: {product} failed: {expected}")
    assert ("Traceback (most recent call last):" in lines) == (product == "BROKEN")


def test_a_run_that_is_killed_leaves_nothing_behind(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = folder / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    before = signal.getsignal(signal.SIGTERM)
    assert made(folder, "KILLED") == 130
    assert not list(temporary.iterdir())
    assert not (folder / "out").exists()
    assert signal.getsignal(signal.SIGTERM) is before


def test_the_debugger_opens_at_the_author_s_line(
    folder: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "readings.json").write_text("not JSON")
    monkeypatch.setattr("sys.stdin", io.StringIO("p pipeline.name\nquit\n"))
    assert made(folder, "MEAN", READINGS, "--pdb") == 1
    shown = capfd.readouterr().out
    assert '-> values = json.loads(context.input("READINGS").read_text())' in shown
    assert "'weather'" in shown


def test_a_pipeline_of_commands_runs_too(folder: Path) -> None:
    (folder / "commands.yaml").write_text(
        """
provider: words
products:
  UPPER:
    command: [python, -c, "import sys; print('BATUTA_PROGRESS 1/1');
      open(sys.argv[2], 'w').write(open(sys.argv[1]).read().upper())", "{input:WORDS}", "{output}"]
    inputs: [WORDS]
    output: upper.txt
"""
    )
    (folder / "words.txt").write_text("quiet")
    assert run(["run", "commands.yaml", "UPPER", "-i", "WORDS=words.txt"]) == 0
    assert (folder / "out" / "UPPER.txt").read_text() == "QUIET"


TILED = """
from batuta.datasets import CarsDataset, CarsDict
from batuta.pipeline import Pipeline

pipeline = Pipeline("tiled")


@pipeline.product("TILES", inputs=[])
def tiles(context):
    path = context.output_path("tiles.json")
    with context.orchestrator({"mode": "multiprocessing", "nb_workers": 2}) as orchestrator:
        dataset = CarsDataset("dict", name="tiles")
        dataset.create_grid(2, 1, 1, 1)
        for row, col in dataset.positions():
            dataset[row, col] = orchestrator.cluster.create_task(tile)(col)
        orchestrator.add_to_save_lists(path, "", dataset)
    return path


def tile(col):
    return CarsDict({"share": 1 / col})
"""


def test_the_debugger_opens_where_the_function_of_a_tile_fails(
    folder: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"tiled_{module(folder)}"
    (folder / f"{name}.py").write_text(TILED)
    monkeypatch.setattr("sys.stdin", io.StringIO("p col\nquit\n"))
    assert run(["run", f"{name}:pipeline", "TILES", "--pdb"]) == 1
    shown = capfd.readouterr()
    assert '-> return CarsDict({"share": 1 / col})' in shown.out
    assert "(Pdb) 0\n" in shown.out
    assert "ZeroDivisionError: division by zero" in shown.err
