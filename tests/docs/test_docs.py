"""The documentation says what is so: links resolve, commands exist, code is the examples'."""

import json
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from pydantic import BaseModel

from batuta.cli.deployment.plan import OrchestraConfig
from batuta.cli.lazy_commands import load_command
from batuta.conductor import ConductorSettings
from batuta.dashboard.settings import DashboardSettings
from batuta.graph import Graph
from batuta.messaging import decode_activity, decode_data
from batuta.pipeline import PipelineSettings
from batuta.pipeline.simulate import SimulateSettings
from batuta.sdb import SdbSettings

ROOT: Final = Path(__file__).parents[2]
HELLO: Final = ROOT / "examples" / "hello"
STARTER: Final = ROOT / "examples" / "starter"
SKIPPED: Final = {"node_modules", "build", "dist", "demo-out"}

PAGES: Final = sorted(
    path
    for path in ROOT.rglob("*.md")
    # Folders whose names begin with a dot are environments and caches.
    if not any(part in SKIPPED or part[0] == "." for part in path.relative_to(ROOT).parts)
)
FENCE: Final = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK: Final = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
HEADING: Final = re.compile(r"^#+ +(.+?) *$", re.MULTILINE)
HEREDOC: Final = re.compile(r"<<'END'.*?^END$", re.MULTILINE | re.DOTALL)
TEST: Final = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")
MACHINE_PATH: Final = re.compile(r"(?<![\w.])/(?:work|home|root|Users|tmp|mnt)/")
TUTORIAL: Final = ROOT / "docs" / "tutorial" / "first-pipeline.md"
SHOWN: Final = [
    (ROOT / "README.md", HELLO / "pipeline.py", "hello"),
    (ROOT / "README.md", HELLO / "batuta.yaml", "hello"),
    (TUTORIAL, STARTER / "starter.py", "sky"),
    (TUTORIAL, STARTER / "batuta.yaml", "sky"),
]
"""Pages, the code that they show, and what it is named there."""


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def fences(path: Path, *languages: str) -> list[str]:
    """Code blocks of a page in these languages; "" is a block that names none."""
    found = FENCE.findall(path.read_text(encoding="utf-8"))
    return [code for language, code in found if language in languages]


def prose(path: Path) -> str:
    return FENCE.sub("", path.read_text(encoding="utf-8"))


def anchor(heading: str) -> str:
    """The anchor that a heading gets on the usual forges."""
    plain = re.sub(r"[^\w\s-]", "", heading.lower())
    return re.sub(r"\s", "-", plain)


def anchors(path: Path) -> set[str]:
    return {anchor(heading) for heading in HEADING.findall(prose(path))}


def commands(path: Path) -> Iterator[list[str]]:
    """Words of every `batuta` command in the shell blocks of a page."""
    for block in fences(path, "sh", "bash", ""):
        script = HEREDOC.sub("", block).replace("\\\n", " ")
        for found in re.finditer(r"(?:^|\$\()(?:\S*/)?batuta\b(.*)$", script, re.MULTILINE):
            yield words(found.group(1))


def words(rest: str) -> list[str]:
    """Split what follows `batuta`, up to the end of the command."""
    lexer = shlex.shlex(rest, posix=True, punctuation_chars="();<>|&")
    lexer.whitespace_split = True
    arguments: list[str] = []
    try:
        for word in lexer:
            if set(word) <= set("();<>|&"):
                break
            arguments.append(word)
    except ValueError:  # a quote that continues in the next line, after a pipe
        return arguments
    return arguments


def parse(arguments: list[str]) -> None:
    """Read a command as the program would, without running it; raises where it would refuse."""
    if arguments == ["--version"]:
        return
    name, *arguments = arguments
    command = load_command(name)
    while hasattr(command, "commands") and not _runs_alone(command, arguments):
        name, *arguments = arguments
        command = command.commands[name]
    command.make_context(name, arguments)


def _runs_alone(group: Any, arguments: list[str]) -> bool:
    """Return whether a group is called without one of its commands, as it may be."""
    return group.invoke_without_command and (not arguments or arguments[0].startswith("-"))


def test_pages_are_found() -> None:
    assert {"README.md", "docs/index.md"} <= {name_of(page) for page in PAGES}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_to_files_and_headings_resolve(page: Path) -> None:
    broken = []
    for link in LINK.findall(prose(page)):
        if re.match(r"[a-z]+:", link):
            continue
        file, _, fragment = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        if not target.exists() or (fragment and fragment not in anchors(target)):
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_no_page_names_a_path_of_one_machine(page: Path) -> None:
    assert MACHINE_PATH.findall(page.read_text(encoding="utf-8")) == []


def test_every_batuta_command_is_one_that_the_program_reads() -> None:
    refused = []
    count = 0
    for page in PAGES:
        for arguments in commands(page):
            count += 1
            if not arguments or arguments == ["--version"]:
                continue
            try:
                parse(arguments)
            except Exception as exc:  # noqa: BLE001  whatever the parser raises is the finding
                refused.append(f"{name_of(page)}: batuta {shlex.join(arguments)}: {exc!r}")
    assert refused == []
    assert count > 50


def test_a_command_with_an_option_that_is_none_is_refused() -> None:
    with pytest.raises(Exception, match="no-such-option"):
        parse(["ls", "--no-such-option"])


def test_every_page_of_the_documentation_is_reached_from_its_index() -> None:
    index = ROOT / "docs" / "index.md"
    reached = {
        (index.parent / link.partition("#")[0]).resolve() for link in LINK.findall(prose(index))
    }
    decisions = ROOT / "docs" / "decisions" / "README.md"
    reached |= {(decisions.parent / link).resolve() for link in LINK.findall(prose(decisions))}
    pages = {page for page in PAGES if page.is_relative_to(ROOT / "docs")} - {index}
    assert {name_of(page) for page in pages - reached} == set()


@pytest.mark.parametrize(("page", "source", "name"), SHOWN)
def test_the_code_shown_is_that_of_the_example(page: Path, source: Path, name: str) -> None:
    code = source.read_text(encoding="utf-8").replace("starter", name)
    assert code in fences(page, "python", "yaml")


def test_the_first_pipeline_has_twenty_lines_at_most() -> None:
    lines = (HELLO / "pipeline.py").read_text(encoding="utf-8").splitlines()
    assert len([line for line in lines if line.strip()]) <= 20


def test_graphs_written_in_the_documentation_are_right() -> None:
    page = ROOT / "docs" / "how-to" / "simulate.md"
    written = re.compile(r"graph\.json <<'END'\n(.*?)^END$", re.MULTILINE | re.DOTALL)
    [document] = written.findall(page.read_text(encoding="utf-8"))
    assert len(Graph.parse(json.loads(document)).products) == 3


@pytest.mark.parametrize("command", ["sdb", "conductor", "pipeline", "simulate"])
def test_every_option_of_a_service_is_in_the_reference_of_commands(command: str) -> None:
    reference = (ROOT / "docs" / "reference" / "cli.md").read_text(encoding="utf-8")
    params = load_command(command).params
    options = {each.opts[0] for each in params if each.opts[0][:2] == "--"}
    assert {each for each in options - {"--help"} if f"`{each}`" not in reference} == set()


@pytest.mark.parametrize(
    ("page", "model"),
    [
        ("configuration", OrchestraConfig),
        ("conductor", ConductorSettings),
        ("sdb", SdbSettings),
        ("pipeline", PipelineSettings),
        ("dashboard", DashboardSettings),
        ("pipeline", SimulateSettings),
    ],
)
def test_every_setting_is_in_its_reference(page: str, model: type[BaseModel]) -> None:
    reference = (ROOT / "docs" / "reference" / f"{page}.md").read_text(encoding="utf-8")
    assert {name for name in model.model_fields if f"`{name}`" not in reference} == set()


def test_the_events_shown_are_events() -> None:
    announced, bare, activity = fences(ROOT / "docs" / "reference" / "events.md", "json")
    assert decode_data(announced.encode()).product == "QPO_ECL"
    assert decode_data(bare.encode()).obs_id == "sb25112001"
    decoded = decode_activity(activity.encode())
    assert decoded.processing is not None
    assert decoded.processing.state == "running"


def test_every_test_that_is_named_exists() -> None:
    named = {each for page in PAGES for each in TEST.findall(page.read_text(encoding="utf-8"))}
    assert len(named) > 30
    missing = []
    for file, name in sorted(named):
        path = ROOT / file
        defined = f"def {name}(" if name else ""
        if not (path.is_file() and defined in path.read_text(encoding="utf-8")):
            missing.append(f"{file}::{name}")
    assert missing == []


def test_every_extra_that_is_named_exists() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = {
        extra
        for path in [*PAGES, *(ROOT / "src").rglob("*.py")]
        for extras in re.findall(r"(?:batuta|\.)\[([a-z,]+)\]'", path.read_text(encoding="utf-8"))
        for extra in extras.split(",")
    }
    assert named <= project["optional-dependencies"].keys()
    assert "profiling" in named
