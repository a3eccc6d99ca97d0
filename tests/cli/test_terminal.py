"""What commands print fits a terminal of 80 columns, and a shell completes what is typed."""

import io
import json
import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from rich.console import Console

from batuta.cli import output
from batuta.cli.command_list import COMMANDS
from batuta.cli.completion import complete_first_word
from batuta.cli.live.screen import LiveScreen
from batuta.cli.live.state import LiveState
from batuta.cli.live.view import EventPrinter
from batuta.cli.requests.spans import read_span
from batuta.errors import ConfigurationError
from batuta.messaging import Activity, DataAvailable, ServiceStatus
from tests.conductor.graphs import graph_of
from tests.support.checkout import PYTHON_PATH

WIDTH = 80
LONG = "BACKGROUND_SUBTRACTED_SPECTRUM_LEVEL2"
OBSERVATION = "sb251129007-0050-long-observation-name"
ID = "1ce9b166-90d8-5e80-93d3-948ad24d55ac"


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal of 80 columns."""
    monkeypatch.setenv("COLUMNS", str(WIDTH))
    monkeypatch.setattr("batuta.cli.output.console", Console(width=WIDTH))


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [line.rstrip() for line in capsys.readouterr().out.splitlines() if line.strip()]


@pytest.mark.usefixtures("narrow")
def test_rows_that_fit_are_lines_of_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_table("Products", ["product", "state"], [["A", "failed"], ["B", None]])
    title, head, _, *rows = lines(capsys)
    assert (title, head.split()) == ("Products", ["product", "state"])
    assert [row.split() for row in rows] == [["A", "failed"], ["B"]]


@pytest.mark.usefixtures("narrow")
def test_a_sentence_is_wrapped_at_words_beside_names_that_are_whole(
    capsys: pytest.CaptureFixture[str],
) -> None:
    reason = "the spectrum has no counts between 0.3 and 10 keV, so nothing is left of it"
    output.print_table("Failures", ["product", "reason"], [[LONG, reason]])
    shown = lines(capsys)
    assert max(map(len, shown)) <= WIDTH
    assert LONG in shown[3]
    words = " ".join(line.removeprefix(f" {LONG}").strip() for line in shown[3:])
    assert words == reason


@pytest.mark.usefixtures("narrow")
def test_a_row_that_is_too_wide_is_several_lines_with_no_column_left_out(
    capsys: pytest.CaptureFixture[str],
) -> None:
    columns = ["id", "product", "observation", "state", "claimed", "error"]
    row = [ID, LONG, OBSERVATION, "failed", "2026-11-29 21:07:08", "no luck"]
    output.print_table("Processings", columns, [row])
    assert lines(capsys) == [
        "Processings",
        f"{OBSERVATION}  {LONG}",
        "  state failed, claimed 2026-11-29 21:07:08, error no luck",
        f"  id {ID}",
    ]


@pytest.mark.usefixtures("narrow")
def test_a_value_is_not_parted_from_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    columns = ["observation", "product", "version", "provider", "size", "created"]
    row = ["o1", LONG, 1, "x_ray_spectroscopy_pipeline", "603 B", "2026-11-29 21:07:08"]
    output.print_table("Products", columns, [row])
    assert lines(capsys)[-1] == "      created 2026-11-29 21:07:08"


def test_in_a_pipe_a_row_is_one_line_however_long(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setattr("batuta.cli.output.console", Console(width=output.PIPED_WIDTH))
    output.print_table("Long", ["product", "error"], [[LONG, "word " * 60]])
    assert len(lines(capsys)) == 4
    assert output.wrapped("word " * 60) == ["word " * 60]


@pytest.mark.usefixtures("narrow")
def test_a_long_line_is_wrapped_at_words_and_indented_further() -> None:
    found = output.wrapped(f"  conductor: {LONG} of {OBSERVATION} waits for {LONG}-{LONG}-{LONG}")
    assert found == [
        f"  conductor: {LONG} of",
        f"      {OBSERVATION} waits for",
        f"      {LONG}-{LONG}-{LONG}",
    ]


@pytest.mark.parametrize("observations", [1, 4, 12])
def test_the_live_screen_breaks_no_name_at_80_columns(observations: int) -> None:
    state = LiveState(graph_of(["A"], {LONG: {"m_input": ["A"]}}))
    names = [f"{OBSERVATION}-{number:02}" for number in range(observations)]
    for name in names:
        state.on_data(DataAvailable(product="A", obs_id=name))
        state.states[name][LONG] = "failed"
    console = Console(width=WIDTH, height=40, record=True, file=io.StringIO())
    console.print(LiveScreen(state, "conductor"))
    shown = console.export_text()
    assert all(name in shown for name in names)
    assert "failed" in shown


def test_what_is_published_is_printed_as_json_an_object_a_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    printer = EventPrinter()
    printer.on_data(DataAvailable(product="A", obs_id="o1", version=2))
    service = ServiceStatus(name="maker", kind="pipeline", state="up", url="http://maker")
    printer.on_activity(Activity(service=service))
    printer.log("data.vhf: not understood")
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert (told[0]["data"]["obs_id"], told[0]["data"]["version"]) == ("o1", 2)
    assert told[1]["activity"]["service"]["name"] == "maker"
    assert told[2]["problem"] == "data.vhf: not understood"
    assert all(datetime.fromisoformat(each["at"]).tzinfo is not None for each in told)


# ---------------------------------------------------------------------- spans


def test_a_night_begins_in_the_evening_of_its_day() -> None:
    assert read_span(None, None, None, "2026-11-29") == {
        "from": "2026-11-29T18:00:00+00:00",
        "to": "2026-11-30T06:00:00+00:00",
    }


def test_hours_are_counted_back_from_now() -> None:
    began = datetime.fromisoformat(read_span(None, None, 8.0, None)["from"])
    assert abs(datetime.now(UTC) - timedelta(hours=8) - began) < timedelta(minutes=1)


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        (("2h", None, 3.0, None), "--from or --to and --hours given"),
        ((None, None, 3.0, "2026-11-29"), "--hours and --night given"),
        ((None, None, None, "yesterday"), "--night 'yesterday': no such day"),
        (("soon", None, None, None), "--from 'soon': no such time"),
    ],
)
def test_a_span_that_is_given_twice_or_not_understood_is_refused(
    given: tuple[str | None, str | None, float | None, str | None], problem: str
) -> None:
    with pytest.raises(ConfigurationError, match=problem):
        read_span(*given)


# ---------------------------------------------------------------------- completion


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("batuta ", list(COMMANDS)),
        ("batuta rep", ["reprioritize", "report"]),
        ("batuta zzz", []),
        ("batuta --", None),
        ("batuta 'wh", None),
    ],
)
def test_the_first_word_is_completed_without_the_commands(
    words: str, expected: list[str] | None
) -> None:
    environment = {"_BATUTA_COMPLETE": "complete_bash", "COMP_CWORD": "1", "COMP_WORDS": words}
    assert complete_first_word(environment) == expected


@pytest.mark.parametrize(
    "changed", [{"_BATUTA_COMPLETE": "complete_zsh"}, {"COMP_CWORD": "2"}, {"COMP_CWORD": ""}]
)
def test_other_shells_and_later_words_are_completed_by_the_library(changed: dict[str, str]) -> None:
    environment = {"_BATUTA_COMPLETE": "complete_bash", "COMP_CWORD": "1", "COMP_WORDS": "batuta "}
    assert complete_first_word({**environment, **changed}) is None


def test_the_first_word_is_completed_before_anything_heavy_is_imported() -> None:
    program = (
        "import json, sys\nfrom batuta.cli import main\nmain()\n"
        "print(json.dumps([name for name in ('typer', 'pydantic', 'rich') if name in sys.modules]))"
    )
    completing = {"_BATUTA_COMPLETE": "complete_bash", "COMP_CWORD": "1", "COMP_WORDS": "batuta st"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **completing, "PYTHONPATH": PYTHON_PATH},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    name, loaded = done.stdout.splitlines()
    assert (name, json.loads(loaded)) == ("status", [])


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file that ``batuta --show-completion`` prints for bash, beside a `batuta` to call."""
    if shutil.which("bash") is None:
        pytest.skip("there is no bash here")
    folder = tmp_path_factory.mktemp("shell")
    command = folder / "batuta"
    command.write_text(f"#!{sys.executable}\nfrom batuta.cli import main\nmain()\n")
    command.chmod(0o755)
    done = subprocess.run(
        [command],
        env={**os.environ, "PYTHONPATH": PYTHON_PATH, "_BATUTA_COMPLETE": "source_bash"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    (folder / "completion.sh").write_text(done.stdout)
    return folder


@pytest.mark.parametrize(
    ("words", "among"),
    [
        (["batuta", "rep"], {"reprioritize", "report"}),
        (["batuta", "report", "--n"], {"--night"}),
        (["batuta", "campaign", "p"], {"plan", "pause"}),
        (["batuta", "status", "--"], {"--json", "--stale", "--conductor-url"}),
    ],
)
def test_bash_completes_commands_and_options(
    shell: Path, words: list[str], among: set[str]
) -> None:
    quoted = " ".join(f"'{word}'" for word in words)
    script = (
        f"source {shell}/completion.sh\n"
        "function_of=$(complete -p batuta | sed 's/.*-F \\([^ ]*\\).*/\\1/')\n"
        f"COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}\n"
        "$function_of batuta\n"
        'printf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    done = subprocess.run(
        ["bash", "--norc", "-c", script],
        env={
            **os.environ,
            "PATH": f"{shell}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": PYTHON_PATH,
        },
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert among <= set(done.stdout.split())
