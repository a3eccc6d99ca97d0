"""What a new version of the graph changes, told by the conductor that has the old one."""

import json
from pathlib import Path

import pytest

from batuta.cli.app import run
from batuta.conductor.service import open_conductor
from tests.conductor.graphs import graph_of
from tests.conductor.stage import Stage
from tests.support.services import serving


def test_a_new_graph_is_compared_with_that_of_a_running_conductor(
    stage: Stage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = graph_of(["A"], {"B": {"m_input": ["A"]}})
    new = graph_of(["A"], {"B": {"m_input": ["A"], "due": 60}, "C": {"m_input": ["B"]}})
    path = tmp_path / "new.json"
    path.write_text(json.dumps(new.as_document()))
    with serving(open_conductor, stage.settings(old)) as url:
        assert run(["graph", "diff", str(path), "--conductor-url", url]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "product B: due null -> 60.0",
        "product C: added",
        "can be made from now on: C",
    ]
