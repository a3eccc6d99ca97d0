"""What profilers found is in the reports: functions, and lines that hold memory."""

from pathlib import Path

from batuta.profiling.analysis.analyse import analyse_profile
from batuta.profiling.capture.attribution import Line
from batuta.profiling.capture.layout import CPROFILE_TEXT, MEMRAY_TEXT, PROFILE_FOLDER
from batuta.profiling.files.reader import read_profile
from batuta.profiling.merge.model import FunctionTime, LineMemory, ProfilerReport, TaskTimes
from batuta.profiling.report.page import profile_page
from batuta.profiling.report.tables import function_table, memory_line_table
from batuta.profiling.report.text import profile_text
from tests.profiling.profile_builder import ProfileBuilder

SLOPE = FunctionTime("slope<b>", "relief.py", 12, 3_000, 1.5, 2.5)
FOUND = ProfilerReport(
    times=(TaskTimes(None, 2, 9.0, (), (SLOPE,)),),
    lines=(LineMemory(Line("relief.py", 40, "shade"), 120_000_000, 7),),
    notes=("half.bin cannot be read",),
)


def test_functions_come_with_their_own_time_and_that_of_what_they_called() -> None:
    found = function_table(FOUND, 5)
    assert found.rows == (("slope<b>", "relief.py:12", "3,000", "1.50 s", "2.50 s"),)
    assert not function_table(ProfilerReport(), 5)


def test_lines_come_with_what_they_held() -> None:
    found = memory_line_table(FOUND, 5)
    assert found.rows == (("relief.py:40", "shade", "120 MB", "7"),)
    assert not memory_line_table(ProfilerReport(), 5)


def test_the_page_shows_them_with_what_could_not_be_read(tmp_path: Path) -> None:
    builder = ProfileBuilder()
    builder.write(tmp_path)
    page = profile_page(analyse_profile(read_profile(tmp_path)), FOUND)
    assert "slope&lt;b&gt;" in page
    assert "relief.py:40" in page
    assert "half.bin cannot be read" in page
    assert 'id="functions"' not in profile_page(analyse_profile(read_profile(tmp_path)))


def test_the_text_says_where_they_are(tmp_path: Path) -> None:
    ProfileBuilder().write(tmp_path)
    for name in (CPROFILE_TEXT, MEMRAY_TEXT):
        (tmp_path / PROFILE_FOLDER / name).touch()
    text = profile_text(analyse_profile(read_profile(tmp_path)))
    assert f"Functions: {tmp_path / PROFILE_FOLDER / CPROFILE_TEXT}" in text
    assert f"Who held the memory: {tmp_path / PROFILE_FOLDER / MEMRAY_TEXT}" in text
