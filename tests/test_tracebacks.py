"""A failure is described by its words and by the last line of its author."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from batuta.errors import BatutaError, ConfigurationError
from batuta.orchestrator import Orchestrator
from batuta.tracebacks import AuthorLine, author_line, describe_failure


def fails_itself() -> None:
    raise ValueError("the gain is negative")


def fails_in_a_library() -> None:
    json.loads("{")


def fails_in_batuta() -> None:
    Orchestrator({"mode": "fastest"})


def fails_with_a_cause_of_its_own() -> None:
    try:
        fails_in_a_library()
    except ValueError as exc:
        raise KeyError("value") from exc


def leaves() -> None:
    raise SystemExit("no calibration")


def fails_twice() -> None:
    raise ExceptionGroup("both", [_raised(fails_itself), _raised(fails_in_a_library)])


class UnspeakableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError


def fails_without_words() -> None:
    raise UnspeakableError


def _raised(function: Callable[[], None]) -> Exception:
    with pytest.raises(BaseException) as caught:  # noqa: PT011  whatever it raises
        function()
    assert isinstance(caught.value, BaseException)
    return caught.value  # type: ignore[return-value]  # one ends the program, and none is raised on


def _line_of(text: str) -> int:
    lines = Path(__file__).read_text(encoding="utf-8").splitlines()
    return next(number for number, line in enumerate(lines, 1) if text in line)


@pytest.mark.parametrize(
    ("function", "words", "line", "where"),
    [
        (fails_itself, "ValueError: the gain is negative", 'raise ValueError("', "fails_itself"),
        (fails_in_a_library, "JSONDecodeError: Expecting", 'json.loads("{")', "fails_in_a_library"),
        (fails_in_batuta, "mode: ", 'Orchestrator({"mode"', "fails_in_batuta"),
        (
            fails_with_a_cause_of_its_own,
            "KeyError: 'value'",
            'raise KeyError("',
            "fails_with_a_cause_of_its_own",
        ),
        (leaves, "SystemExit: no calibration", 'raise SystemExit("', "leaves"),
        (fails_without_words, "UnspeakableError", "raise UnspeakableError", "fails_without_words"),
    ],
)
def test_a_failure_is_described_by_its_words_and_its_author_s_line(
    function: Callable[[], None], words: str, line: str, where: str
) -> None:
    described = describe_failure(_raised(function))
    assert described.startswith(words)
    assert described.endswith(f" (test_tracebacks.py:{_line_of(line)} in {where})")


def test_each_exception_of_a_group_is_described() -> None:
    described = describe_failure(_raised(fails_twice))
    assert "the gain is negative (test_tracebacks.py:" in described
    assert "in fails_in_a_library)" in described


def test_a_module_that_its_author_installed_is_theirs(tmp_path: Path) -> None:
    folder = tmp_path / "site-packages"
    folder.mkdir()
    path = folder / "weather.py"
    path.write_text("def mean(values):\n    return sum(values) / len(values)\n", encoding="utf-8")
    scope: dict[str, object] = {"__name__": "weather"}
    exec(compile(path.read_text(encoding="utf-8"), str(path), "exec"), scope)  # noqa: S102  as an import
    mean = scope["mean"]
    assert callable(mean)
    error = _raised(lambda: mean([]))
    assert str(author_line(error, "weather")) == "weather.py:2 in mean"
    found = author_line(error)
    assert found is not None
    assert found.path == __file__


def test_compiled_code_of_a_library_is_not_its_author_s() -> None:
    scope: dict[str, object] = {"__name__": "rasterio._base"}
    exec(compile("def fail():\n    raise OSError", "rasterio/_base.pyx", "exec"), scope)  # noqa: S102  as compiled code shows itself
    fail = scope["fail"]
    assert callable(fail)
    found = author_line(_raised(fail))
    assert found is not None
    assert found.path == __file__


@pytest.mark.parametrize("error", [BatutaError("made, never raised"), ConfigurationError("x: y")])
def test_without_a_line_of_an_author_the_words_alone_are_told(error: BatutaError) -> None:
    assert author_line(error) is None
    assert describe_failure(error) == str(error)


def test_a_line_of_a_notebook_is_that_of_its_cell() -> None:
    assert str(AuthorLine("/tmp/ipykernel_17/3671205244.py", 3, "cone")) == "cell:3 in cone"  # noqa: S108 - as ipykernel names it
