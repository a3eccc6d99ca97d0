"""Pipelines of external commands, from a configuration file."""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from batuta.errors import ConfigurationError
from batuta.pipeline.command import read_pipeline
from batuta.sdb import SdbClient
from tests.pipeline.conftest import SharedServices, StartPipeline
from tests.pipeline.pipeline_process import PipelineProcess
from tests.support.waiting import eventually_sync

PROGRAM = """
import os, sys
events, output, *rest = sys.argv[1:]
print("BATUTA_PROGRESS 3/10", flush=True)
print("working in", os.getcwd())
print("written to standard error", file=sys.stderr)
open(output, "w").write(open(events).read() + " ".join(rest))
"""

FAILING = """
import sys
print("reading", file=sys.stderr)
print("no calibration\\n", file=sys.stderr)
sys.exit(4)
"""

DOCUMENT = {
    "provider": "seds_pipeline",
    "products": {
        "SED": {
            "command": [
                "python",
                "sed.py",
                "{input:EVENTS}",
                "{output}",
                "--gti={optional:GTI}",
                "{obs_id}/{product}; $(touch pwned)",
            ],
            "inputs": ["EVENTS"],
            "optional": ["GTI"],
            "output": "sed.fits",
            "media_type": "application/x-sed",
            "timeout_s": 60.0,
        },
        "FAILS": {
            "command": ["python", "-c", "import sys; sys.exit(4)", "{output}"],
            "output": "x",
        },
        "FAILS_WITH_WORDS": {
            "command": ["python", "-c", FAILING, "{output}"],
            "output": "x",
        },
    },
}


def written_in(folder: Path) -> Path:
    """Write the configuration file with its program beside it."""
    (folder / "sed.py").write_text(PROGRAM)
    path = folder / "pipeline.yaml"
    path.write_text(yaml.safe_dump(DOCUMENT))
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A configuration file that the test may change."""
    folder = tmp_path / "pipelines"
    folder.mkdir()
    return written_in(folder)


@pytest.fixture(scope="module")
def shared_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configuration file that stays as it is."""
    return written_in(tmp_path_factory.mktemp("pipelines"))


@pytest.fixture
def commands(shared_services: SharedServices, shared_file: Path) -> Iterator[PipelineProcess]:
    """The shared service of its pipeline."""
    with shared_services.lend(str(shared_file)) as lent:
        yield lent


def test_a_command_makes_a_product_without_a_shell(
    commands: PipelineProcess, sdb: SdbClient, events: str, tmp_path: Path
) -> None:
    record = commands.make("SED", events)
    assert (record["state"], record["error"]) == ("succeeded", None)
    assert record["progress"] == {"done": 3, "total": 10}
    stored = sdb.export("SED", events, to=tmp_path / "sed")
    assert (tmp_path / "sed").read_text() == f"1 2 3\n{events}/SED; $(touch pwned)"
    assert (stored.media_type, stored.provider) == ("application/x-sed", "seds_pipeline")
    log = commands.log(record)
    assert "working in" in log
    assert "written to standard error" in log
    assert "BATUTA_PROGRESS" not in log


def test_an_optional_input_is_passed_if_it_exists(
    commands: PipelineProcess, sdb: SdbClient, events: str, tmp_path: Path
) -> None:
    gti = tmp_path / "gti.fits"
    gti.write_text("gti")
    sdb.import_file(gti, "GTI", events)
    record = commands.make("SED", events)
    assert record["inputs"] == [
        {"product": "EVENTS", "version": 1},
        {"product": "GTI", "version": 1},
    ]
    sdb.export("SED", events, to=tmp_path / "sed")
    assert re.search(r"--gti=\S+/inputs/input-2\.fits ", (tmp_path / "sed").read_text())


@pytest.mark.parametrize(
    ("product", "error"),
    [
        ("FAILS", "python exited with code 4"),
        ("FAILS_WITH_WORDS", "python exited with code 4: no calibration"),
    ],
)
def test_a_command_that_fails_is_reported_with_its_exit_code_and_last_words(
    commands: PipelineProcess, product: str, error: str
) -> None:
    record = commands.make(product)
    assert record["state"] == "failed"
    assert record["error"] == error


def test_a_command_is_killed_with_its_processing(start_pipeline: StartPipeline, file: Path) -> None:
    document = {"provider": "slow", "products": {"SLOW": {**_slow(), "output": "x"}}}
    file.write_text(json.dumps(document))
    service = start_pipeline(str(file))
    record = service.post("SLOW")
    eventually_sync(lambda: service.get(record)["progress"]["total"] == 1)
    service.http.delete(f"/processing/{record['id']}")
    assert service.get(record)["state"] == "cancelled"


def _slow() -> dict[str, object]:
    program = "import time; print('BATUTA_PROGRESS 0/1', flush=True); time.sleep(600)"
    return {"command": [sys.executable, "-c", program, "{output}"]}


def test_json_is_read_as_yaml_is(file: Path) -> None:
    path = file.with_suffix(".json")
    path.write_text(json.dumps(DOCUMENT))
    pipeline = read_pipeline(path)
    assert pipeline.name == "seds_pipeline"
    assert list(pipeline.products) == list(DOCUMENT["products"])
    assert pipeline.products["SED"].timeout_s == 60


def test_every_mistake_in_a_file_is_reported_at_once(file: Path) -> None:
    good = DOCUMENT["products"]["SED"]  # type: ignore[index]  # a dict
    document = {
        "provider": "se.ds",
        "products": {
            "A": {"comand": ["x"], "output": "a"},
            "B": {**good, "command": "python sed.py"},
            "C": {**good, "command": ["no_such_program", "{input:SPECTRUM}", "{outptu}"]},
            "D": {**good, "output": "../d", "timeout_s": -1.0},
            "E/F": good,
        },
    }
    file.write_text(yaml.safe_dump(document))
    with pytest.raises(ConfigurationError) as caught:
        read_pipeline(file)
    for mistake in [
        "provider: 'se.ds' is not a service's name",
        "products.A: the key 'comand' is unknown (did you mean 'command'?)",
        "products.B.command: 'python sed.py' given, a list expected",
        "products.C.command: program 'no_such_program': not found beside the file or on PATH",
        "products.C.command: {input:SPECTRUM}: 'SPECTRUM' is not in inputs",
        "products.C.command: {outptu}: unknown placeholder (accepted: {input:NAME}",
        "products.C.command: {output} is missing: no word names the file to write",
        "products.D.output: '../d' is not the name of a file",
        "product 'D': timeout_s: -1.0 (accepted: seconds above 0)",
        "product: 'E/F' is not a name",
    ]:
        assert any(
            line == f"{file}: {mistake}" or mistake in line for line in caught.value.problems
        )
    assert all(line.startswith(f"{file}: ") for line in caught.value.problems)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("provider: [", "not YAML: expected the node content"),
        ("- 1\n", "a list given, a mapping of keys expected"),
        (
            "provider: a\nproducts: {}\n",
            "products: an empty mapping given, at least 1 item expected",
        ),
        ("provider: a\n", "the key 'products' is missing"),
        ("provider: a\nprovider: b\n", "key 'provider' given twice"),
        ("provider: a\nprodukts: {}\n", "the key 'produkts' is unknown (did you mean 'products'?)"),
    ],
)
def test_a_file_that_is_no_pipeline_is_refused(file: Path, text: str, why: str) -> None:
    file.write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        read_pipeline(file)
    assert why in str(caught.value)
    assert all("\n" not in line for line in caught.value.problems)
