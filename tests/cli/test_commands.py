"""The command: what it prints, and the code that it ends with."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from batuta import __version__
from batuta.cli.app import run
from batuta.cli.options import read_document
from batuta.sdb import SdbSettings
from batuta.sdb.service import open_sdb
from tests.support.databases import migrated_sqlite
from tests.support.servers import NatsServer
from tests.support.services import serving

Capture = pytest.CaptureFixture[str]
URL = "http://127.0.0.1:5000/pipeline"
GRAPH: dict[str, Any] = {
    "inputs": ["A"],
    "products": {"B": {"m_input": ["A"], "o_input": [], "provider": "maker", "url": URL}},
}

Write = Callable[..., str]


@pytest.fixture
def write_graph(tmp_path: Path) -> Write:
    def write(**products: Any) -> str:
        document = {**GRAPH, "products": {**GRAPH["products"], **products}}
        path = tmp_path / "graph.json"
        path.write_text(json.dumps(document))
        return str(path)

    return write


@pytest.fixture
def sdb_url(tmp_path: Path, shared_nats: NatsServer) -> Iterator[str]:
    settings = SdbSettings(
        port=0,
        nats_url=shared_nats.url,
        database_url=migrated_sqlite(tmp_path / "sdb.db"),
        store_url=str(tmp_path / "products"),
    )
    with serving(open_sdb, settings) as url:
        yield url


def test_the_version_is_told(capsys: Capture) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"batuta {__version__}\n"


def test_a_graph_without_mistakes_is_counted(write_graph: Write, capsys: Capture) -> None:
    assert run(["graph", "check", write_graph()]) == 0
    assert "1 input, 1 product over 1 level, 1 provider; no mistakes" in capsys.readouterr().out


def test_every_mistake_of_a_graph_is_one_line_and_the_code_is_2(
    write_graph: Write, capsys: Capture
) -> None:
    wrong = {"m_imput": ["A"], "o_input": [], "provider": "maker", "url": URL}
    lost = {"m_input": ["Z"], "o_input": [], "provider": "maker", "url": URL}
    path = write_graph(C=wrong, D=lost)
    assert run(["graph", "check", path]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert all(line.startswith("batuta: ") for line in lines)
    assert any("m_imput" in line and "m_input" in line for line in lines)
    assert any("Z" in line and "D" in line for line in lines)


def test_mistakes_are_told_to_programs_as_json(write_graph: Write, capsys: Capture) -> None:
    path = write_graph(C={"m_input": ["C"], "o_input": [], "provider": "maker", "url": URL})
    assert run(["graph", "check", path, "--json"]) == 2
    (problem,) = json.loads(capsys.readouterr().out)["problems"]
    assert "C -> C" in problem


@pytest.mark.parametrize("form", ["text", "mermaid", "svg", "json"])
def test_a_graph_is_shown_in_every_form(
    form: str, write_graph: Write, tmp_path: Path, capsys: Capture
) -> None:
    path = write_graph()
    assert run(["graph", "show", path, "--format", form]) == 0
    shown = capsys.readouterr().out
    assert "B" in shown
    file = tmp_path / "shown"
    assert run(["graph", "show", path, "-f", form, "-o", str(file)]) == 0
    assert file.read_text().strip() == shown.strip()


def test_a_file_imported_is_listed_and_exported_whole(
    sdb_url: str, tmp_path: Path, capsys: Capture
) -> None:
    file, back = tmp_path / "a.bin", tmp_path / "back.bin"
    file.write_bytes(bytes(range(256)) * 100)
    names = ["--product", "A", "--obs-id", "o1", "--sdb-url", sdb_url]
    assert run(["import", *names, str(file), "--metadata", '{"band": 3}']) == 0
    assert "A of o1, version 1, imported: 25.6 kB" in capsys.readouterr().out
    assert run(["import", *names, str(file), "--metadata", '{"band": 3}']) == 0
    assert "A of o1, version 1, was there already, since 20" in capsys.readouterr().out
    assert run(["import", *names, str(file), "--metadata", '{"band": 3}', "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert (again["version"], again["is_new"]) == (1, False)
    assert run(["ls", "--sdb-url", sdb_url, "--json"]) == 0
    (listed,) = json.loads(capsys.readouterr().out)
    assert (listed["product"], listed["version"], listed["metadata"]) == ("A", 1, {"band": 3})
    assert run(["export", "A", "o1", "-o", str(back), "--sdb-url", sdb_url]) == 0
    assert back.read_bytes() == file.read_bytes()


def test_an_import_that_does_not_have_its_digest_is_refused(
    sdb_url: str, tmp_path: Path, capsys: Capture
) -> None:
    file = tmp_path / "a.bin"
    file.write_bytes(b"a")
    names = ["--product", "A", "--obs-id", "o1", "--sdb-url", sdb_url]
    assert run(["import", *names, "--sha256", "0" * 64, str(file)]) == 1
    assert "0000" in capsys.readouterr().err
    assert run(["ls", "--sdb-url", sdb_url, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["nonsense"], 2, "nonsense"),
        (["import", "--product", "A", "--obs-id", "o", "no-such-file"], 2, "no-such-file"),
        (["conductor"], 2, "--graph is missing"),
        (["conductor", "--graph", "no.json"], 2, "no.json"),
        (["sdb", "--host", "0.0.0.0", "--port", "0"], 2, "BATUTA_TOKEN"),  # noqa: S104  refused
        (["sdb", "--port", "99999"], 2, "99999"),
        (["pipeline", "no_such_module:pipeline"], 2, "no_such_module"),
        (["ls", "--sdb-url", "http://127.0.0.1:1"], 1, "sdb at http://127.0.0.1:1"),
        (["status", "--conductor-url", "http://127.0.0.1:1"], 1, "conductor at"),
        (["up", "no.yaml"], 2, "no.yaml"),
    ],
)
def test_wrong_use_is_one_clear_line(
    arguments: list[str], code: int, said: str, capsys: Capture
) -> None:
    assert run(arguments) == code
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error


def test_options_come_from_the_command_line_then_the_environment_then_the_file(
    tmp_path: Path, write_graph: Write, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    config = tmp_path / "conductor.yaml"
    config.write_text(f"graph: {write_graph()}\nport: 70000\nnats_wait_s: -1\n")
    assert run(["conductor", "--config", str(config)]) == 2
    told = capsys.readouterr().err
    assert "conductor.yaml: port: 70000 given, at most 65535 expected" in told
    assert "nats_wait_s: -1" in told
    monkeypatch.setenv("BATUTA_PORT", "80000")
    assert run(["conductor", "--config", str(config)]) == 2
    assert "BATUTA_PORT: 80000" in capsys.readouterr().err
    assert run(["conductor", "--config", str(config), "--port", "90000"]) == 2
    assert "--port: 90000" in capsys.readouterr().err


def test_nats_that_is_not_there_is_waited_for_then_named(
    write_graph: Write, tmp_path: Path, capsys: Capture
) -> None:
    database = f"sqlite:///{tmp_path / 'c.db'}"
    options = ["--port", "0", "--nats-url", "nats://127.0.0.1:1", "--database-url", database]
    assert run(["conductor", "--graph", write_graph(), *options, "--nats-wait", "0.3"]) == 1
    error = capsys.readouterr().err
    assert "could not connect to NATS at nats://127.0.0.1:1 within 0.3 s" in error


def test_a_digest_that_cannot_be_one_is_refused_before_anything_is_sent(
    tmp_path: Path, capsys: Capture
) -> None:
    file = tmp_path / "a.bin"
    file.write_bytes(b"a")
    names = ["--product", "A", "--obs-id", "o1", "--sdb-url", "http://127.0.0.1:1"]
    assert run(["import", *names, "--sha256", "zz", str(file)]) == 2
    assert "--sha256 'zz': not 64 hexadecimal digits" in capsys.readouterr().err


def test_an_export_goes_into_a_folder_under_its_own_name_or_says_why_not(
    sdb_url: str, tmp_path: Path, capsys: Capture
) -> None:
    file = tmp_path / "a.tar.gz"
    file.write_bytes(b"a")
    assert run(["import", "--product", "A", "--obs-id", "o1", "--sdb-url", sdb_url, str(file)]) == 0
    assert run(["export", "A", "o1", "-o", str(tmp_path), "--sdb-url", sdb_url]) == 0
    assert (tmp_path / "A-o1-v1.tar.gz").read_bytes() == b"a"
    nowhere = str(tmp_path / "nowhere" / "x")
    assert run(["export", "A", "o1", "-o", nowhere, "--sdb-url", sdb_url]) == 1
    # The sdb, which serves in this process, may log there too.
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("batuta: ")]
    assert len(told) == 1
    assert "nowhere" in told[0]


@pytest.mark.parametrize(
    ("text", "mode", "told"),
    [
        ("token: 0123456789abcdef0", 0o644, True),
        ("sdb: {nats_token: secret}", 0o604, True),
        ("sdb: {database_url: 'postgresql://a:b@host/c'}", 0o644, True),
        ("pipelines: [{nats_url: 'nats://a:b@host'}]", 0o644, True),
        ("token: 0123456789abcdef0", 0o640, False),
        ("sdb: {nats_url: 'nats://host'}", 0o644, False),
    ],
)
def test_a_configuration_with_secrets_that_everybody_can_read_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, text: str, mode: int, *, told: bool
) -> None:
    path = tmp_path / "batuta.yaml"
    path.write_text(text)
    path.chmod(mode)
    read_document(path)
    assert ("has secrets, and every user of this machine can read it" in caplog.text) == told
