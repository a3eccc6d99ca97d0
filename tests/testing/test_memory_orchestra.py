"""Pipelines are conducted in the process of a test, by the conductor's own decisions."""

from pathlib import Path

import pytest

from batuta.errors import BatutaError, ConfigurationError
from batuta.graph import Graph
from batuta.pipeline import Context, Output, Pipeline
from batuta.stages import Stage
from batuta.testing import FakeClock, MemoryOrchestra, MemorySdb

pipeline = Pipeline("weather")


@pipeline.product("MEAN", inputs=["READINGS"], also_makes=["COUNT"], max_attempts=3)
def mean(context: Context) -> list[Output]:
    values = [float(text) for text in context.input("READINGS").read_text().split()]
    path, count = context.output_path("mean.txt"), context.output_path("count.txt")
    path.write_text(str(sum(values) / len(values)))
    count.write_text(str(len(values)))
    return [Output(path, metadata={"values": len(values)}), Output(count, product="COUNT")]


@pipeline.product(
    "REPORT", inputs=["MEAN"], optional=["SITE"], on_update="reprocess", o_wait_s=60.0
)
def report(context: Context) -> Path:
    site = context.optional_input("SITE")
    path = context.output_path("report.txt")
    path.write_text(
        f"{site.read_text() if site else 'nowhere'} {context.input('MEAN').read_text()}"
    )
    return path


def test_what_follows_from_an_input_is_made_and_announced_once() -> None:
    with MemoryOrchestra(pipeline) as orchestra:
        orchestra.deliver("READINGS", "o1", b"1 3", sensor="north")
        orchestra.run()
        assert orchestra.sdb.get("REPORT", "o1").path.read_text() == "nowhere 2.0"
        made = orchestra.sdb.get("MEAN", "o1")
        assert (made.metadata, made.inputs) == ({"values": 2}, {"READINGS": 1})
        assert [(each.subject, each.product, each.state) for each in orchestra.announcements] == [
            ("data.sdb", "READINGS", "available"),
            ("activity.weather", "MEAN", "succeeded"),
            ("data.sdb", "MEAN", "available"),
            ("data.sdb", "COUNT", "available"),
            ("activity.weather", "REPORT", "succeeded"),
            ("data.sdb", "REPORT", "available"),
        ]


def test_what_fails_is_made_at_a_later_attempt_without_waiting() -> None:
    clock = FakeClock(2_000_000.0)
    with MemoryOrchestra(pipeline, clock=clock) as orchestra:
        orchestra.fail("MEAN", times=2, error="no calibration")
        orchestra.deliver("READINGS", "o1", b"1")
        orchestra.run(advance=False)
        assert [each.state for each in orchestra.processings("MEAN", "o1")] == ["retrying"]
        orchestra.run()
        assert orchestra.attempts("MEAN", "o1") == 3
        assert orchestra.sdb.get("MEAN", "o1").version == 1
        assert clock.now > 2_000_000.0


def test_what_fails_for_good_says_why_and_a_corrected_input_has_it_made() -> None:
    with MemoryOrchestra(pipeline) as orchestra:
        orchestra.deliver("READINGS", "o1", b"x")
        orchestra.run()
        (failed,) = orchestra.processings("MEAN", "o1")
        assert failed.attempt == 3
        assert "could not convert string to float: 'x' (test_memory_orchestra.py:" in str(
            failed.error
        )
        assert "it lacks MEAN, which is failed" in orchestra.why("REPORT", "o1").answer
        with pytest.raises(BatutaError, match="MEAN of o1: not in the sdb"):
            orchestra.sdb.get("MEAN", "o1")
        orchestra.deliver("READINGS", "o1", b"4")
        orchestra.run()
        assert orchestra.sdb.get("REPORT", "o1").path.read_text() == "nowhere 4.0"


def test_the_keys_of_the_graph_apply() -> None:
    with MemoryOrchestra(pipeline) as orchestra:
        orchestra.deliver("READINGS", "o1", b"1")
        orchestra.run()
        orchestra.deliver("READINGS", "o1", b"3")
        orchestra.make("MEAN", "o1")
        orchestra.run()
        assert orchestra.sdb.get("REPORT", "o1").inputs == {"MEAN": 2}
        assert {each.version for each in orchestra.sdb if each.product == "REPORT"} == {1, 2}


def test_a_graph_that_the_pipelines_do_not_make_is_refused() -> None:
    graph = Graph.parse(
        {
            "inputs": ["READINGS"],
            "products": {
                "MEDIAN": {"m_input": ["READINGS"], "provider": "weather", "url": "http://h"},
                "MAP": {"m_input": ["READINGS"], "provider": "maps", "url": "http://m"},
            },
        }
    )
    with pytest.raises(ConfigurationError) as caught:
        MemoryOrchestra(pipeline, graph=graph)
    assert caught.value.problems == (
        "MEDIAN: pipeline 'weather' does not make it",
        "MAP: no pipeline given is its provider 'maps'",
    )


def test_a_name_that_cannot_be_one_is_refused() -> None:
    with MemoryOrchestra(pipeline) as orchestra:
        with pytest.raises(ConfigurationError, match="obs_id"):
            orchestra.deliver("READINGS", "../o1", b"1")
        assert list(orchestra.sdb) == []


def test_each_version_has_a_file_of_its_own_whatever_the_names(tmp_path: Path) -> None:
    sdb = MemorySdb(tmp_path)
    names = [("A-b", "c"), ("A", "b-c"), ("A", "b-c"), ("A" * 128, "b" * 128)]
    stored = [sdb.add(*pair, str(index).encode()) for index, pair in enumerate(names)]
    assert [each.path.read_text() for each in stored] == ["0", "1", "2", "3"]


def test_a_misspelt_product_is_refused_rather_than_never_made() -> None:
    with MemoryOrchestra(pipeline) as orchestra:
        with pytest.raises(ConfigurationError, match="did you mean 'READINGS'"):
            orchestra.deliver("READING", "o1", b"1")
        with pytest.raises(ConfigurationError, match="'NOPE': not in the graph"):
            orchestra.fail("NOPE")


def test_a_product_is_made_once_more_from_the_final_input_and_never_goes_back() -> None:
    staged = Pipeline("orbits")

    @staged.product("TRACK", inputs=["ORBIT"], stages="first_and_final")
    def track(context: Context) -> Path:
        path = context.output_path("track.txt")
        path.write_text(f"{context.stage} from {context.input('ORBIT').read_text()}")
        return path

    arrivals: list[tuple[bytes, Stage]] = [
        (b"predicted", "preliminary"),
        (b"rapid", 2),
        (b"precise", "final"),
        (b"predicted late", "preliminary"),
    ]
    with MemoryOrchestra(staged) as orchestra:
        for text, stage in arrivals:
            orchestra.deliver("ORBIT", "o1", text, stage=stage)
            orchestra.run()
        made = [each for each in orchestra.sdb if each.product == "TRACK"]
        assert [(each.stage, each.path.read_text()) for each in made] == [
            ("preliminary", "preliminary from predicted"),
            ("final", "final from precise"),
        ]
        assert orchestra.sdb.get("ORBIT", "o1").version == 3
