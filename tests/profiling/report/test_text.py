"""The text of a profile, and of two compared: what it says, and that a terminal shows it."""

import json
from typing import Any

import pytest

from batuta.profiling.capture.records import LeakRow, WorkerId
from batuta.profiling.report.comparison import comparison_text
from batuta.profiling.report.document import comparison_document, profile_document
from batuta.profiling.report.text import profile_text
from tests.profiling.profile_builder import (
    BEGIN_S,
    MB,
    ProfileBuilder,
    TaskSpec,
    make_grid,
    make_run,
    simulate_run,
    survey,
)

LONG = "package.module.of.a.very.long.name.that.goes.on.and.on.Class.method_number_"


def text_of(builder: ProfileBuilder) -> str:
    return profile_text(builder.analysis())


def test_the_first_lines_tell_how_long_it_took_and_what_took_it() -> None:
    lines = text_of(survey()).splitlines()
    assert lines[0].startswith("559 of 560 tiles in 2 min 07 s on 4 workers, multiprocessing on")
    assert lines[1] == "The 4 workers worked 93 % of the time; 57 % of it was match."
    assert "A perfect schedule on as many workers takes 1 min 58 s" in lines[2]


def test_every_part_of_the_report_is_there() -> None:
    text = text_of(survey())
    for heading in (
        "Advice",
        "The time of the workers",
        "By task name",
        "What bounds it",
        "Workers",
        "Tiles",
        "Tiles retried or failed",
        "Attempts without a result",
    ):
        assert f"\n{heading}" in text
    assert "  nb_workers: 8 instead of 4\n" in text
    assert "disparity (10, 5)  failed   ValueError: no tie points" in text
    assert "match  lost     3" in text


@pytest.mark.parametrize(
    "builder",
    [
        survey(),
        ProfileBuilder(),
        simulate_run(
            [
                TaskSpec(
                    name=f"{LONG}{n}",
                    tile=(LONG, n, 123456),
                    error=LONG * 3,
                    outcomes=["failed", "done"],
                )
                for n in range(40)
            ],
            host=LONG,
            failed=[{"dataset": LONG, "row": 1, "col": 2, "cause": LONG * 2}],
        ),
    ],
    ids=["survey", "none", "long names"],
)
def test_no_line_is_longer_than_a_terminal_of_a_hundred_columns(builder: ProfileBuilder) -> None:
    assert max(map(len, text_of(builder).splitlines())) <= 100


def test_long_lists_are_cut_and_say_so() -> None:
    works = [TaskSpec(name=f"step {n}", wall_s=10 - n / 10) for n in range(30)]
    assert "  and 10 more\n" in text_of(simulate_run(works))


def test_names_cannot_speak_to_the_terminal() -> None:
    text = text_of(simulate_run([TaskSpec(name="\x1b[2Jstep\n")], host="\x1b]0;caught\x07"))
    assert "\x1b" not in text
    assert "?[2Jstep?" in text


def test_a_run_that_has_not_ended_says_so() -> None:
    text = text_of(simulate_run([TaskSpec()], state="running", ended_s=None))
    assert "The run had not ended when this was read: it is still running, or was killed." in text


def test_a_run_that_failed_says_why() -> None:
    text = text_of(simulate_run([TaskSpec()], state="failed", error="2 tiles are missing"))
    assert "The run failed: 2 tiles are missing" in text


def test_attempts_that_all_failed_are_no_schedule() -> None:
    text = text_of(simulate_run([TaskSpec(outcomes=["failed"], error="ValueError: no data")] * 3))
    assert "every attempt failed" in text
    assert "ValueError: no data" in text
    assert "What bounds it" not in text


def test_what_was_not_measured_is_a_question_mark() -> None:
    builder = ProfileBuilder()
    builder.add(TaskSpec(), waiting_s=None)
    (row,) = (
        line for line in text_of(builder).splitlines() if line.startswith("  step") and "%" in line
    )
    assert row.split()[-1] == "?"


def test_a_leak_is_named_with_its_slope_and_its_line() -> None:
    builder = simulate_run([TaskSpec(name="match")])
    builder.add_loops("match", [50 * MB + 2 * MB * n for n in range(12)])
    builder.leaks.append(LeakRow(0, "match", "process 1", "stereo/match.py", 88, "cost", 2 * MB))
    text = text_of(builder)
    assert "2.00 MB  2.00 MB to 2.00 MB  leaks" in text
    assert "stereo/match.py:88  cost      match" in text


def test_what_could_not_be_measured_is_told() -> None:
    assert "Note: memory of node7 is not known" in text_of(
        simulate_run([TaskSpec()], notes=("memory of node7 is not known",))
    )


def test_the_document_has_the_same_figures_and_is_json() -> None:
    analysis = survey().analysis()
    document = json.loads(json.dumps(profile_document(analysis)))
    assert document["span_s"] == pytest.approx(analysis.span_s)
    assert document["names"][0]["name"] == "match"
    assert document["advice"][0]["values"] == [8]
    lost = dict(document["lost"])
    assert lost.pop("total_s") == pytest.approx(sum(lost.values()))
    assert document["schedule"]["critical_path"][0]["name"] == "read_pair"
    assert document["datasets"][0]["slowest"][0]["row"] == 4
    assert document["failed"][0]["cause"] == "ValueError: no tie points"


def run_of(step_s: float, extra: str, **run: Any) -> ProfileBuilder:
    works = [TaskSpec(name="step", wall_s=step_s, peak_mb=100 * step_s) for _ in range(10)]
    works += [TaskSpec(name="same", wall_s=2), TaskSpec(name=extra)]
    return simulate_run(works, workers=2, **run)


def test_two_runs_are_compared_by_name_the_biggest_change_first() -> None:
    first, second = run_of(1, "gone").analysis(), run_of(3, "new").analysis()
    text = comparison_text(first, second)
    rows = [line.split() for line in text.splitlines()]
    names = [row[0] for row in rows if row and row[0] in {"step", "same", "gone", "new"}]
    assert names == ["step", "same", "gone", "new"]
    (step,) = (" ".join(row) for row in rows if row and row[0] == "step")
    assert step == "step 10.0 s 30.0 s x 3.00 10 1.00 s > 3.00 s 100 MB > 300 MB"
    assert "only in the first" in text
    assert "differ in more" not in text


def test_what_makes_runs_hard_to_compare_is_said() -> None:
    first = run_of(1, "x", grids=(make_grid("dsm", 2, 2),))
    second = run_of(1, "x", mode="local_dask", grids=(make_grid("dsm", 4, 4, 256),), nb_workers=4)
    text = comparison_text(first.analysis(), second.analysis())
    assert "  mode: multiprocessing, then local_dask\n" in text
    assert "  workers: 2, then 4\n" in text
    assert "grid of dsm: 2 x 2 tiles of 512 x 512 px, then 4 x 4 tiles of 256 x 256 px" in text


def test_a_ratio_to_nothing_is_left_out() -> None:
    document = comparison_document(
        simulate_run([TaskSpec(name="a", wall_s=0)], ended_s=BEGIN_S).analysis(),
        simulate_run([TaskSpec(name="a")]).analysis(),
    )
    assert document["span_s"]["ratio"] is None
    assert document["names"][0]["total_s"]["ratio"] is None
    assert json.loads(json.dumps(document))["names"][0]["tasks"]["ratio"] == 1


def test_a_run_compared_with_one_without_tasks_has_only_its_own() -> None:
    text = comparison_text(run_of(1, "x").analysis(), ProfileBuilder(make_run()).analysis())
    assert "only in the first" in text
    assert "only in the second" not in text


def test_many_hosts_are_told_apart() -> None:
    builder = ProfileBuilder(make_run(nb_workers=None))
    for pid, host in enumerate(["north", "south"]):
        builder.add(TaskSpec(), worker=WorkerId(f"w{pid}", host, pid))
    text = text_of(builder)
    assert "  1       north" in text
    assert "  2       south" in text
