"""The rules of retention, and the files of the archive."""

import gzip
import json
from pathlib import Path

import pytest

from batuta.cli.options import arguments_of, read_settings
from batuta.conductor.settings import ConductorSettings
from batuta.errors import ConfigurationError
from batuta.pipeline.settings import PipelineSettings
from batuta.service.record_archive import (
    ArchiveError,
    new_file_name,
    read_archive,
    write_archive,
)
from batuta.service.retention import DAY_S, RetentionRules


def test_without_rules_nothing_is_ever_dropped() -> None:
    rules = RetentionRules()
    assert not rules.drops
    assert rules.cutoff(1e9, succeeded=True) < -1e300


@pytest.mark.parametrize(
    ("rules", "succeeded", "failed"),
    [({"finished_days": 2}, 2, None), ({"finished_days": "0.5", "failed_days": 3}, 0.5, 3)],
)
def test_days_count_back_from_now(
    rules: dict[str, object], succeeded: float, failed: float | None
) -> None:
    read = RetentionRules.model_validate(rules)
    assert read.cutoff(100 * DAY_S, succeeded=True) == (100 - succeeded) * DAY_S
    if failed is not None:
        assert read.cutoff(100 * DAY_S, succeeded=False) == (100 - failed) * DAY_S
    assert read.latest_cutoff(100 * DAY_S) == (100 - succeeded) * DAY_S


@pytest.mark.parametrize("given", ["soon", 0, -1, True, None, [], "nan"])
def test_what_is_no_number_of_days_is_refused_in_a_line(given: object, tmp_path: Path) -> None:
    config = tmp_path / "conductor.yaml"
    config.write_text(json.dumps({"graph": "g.json", "retention": {"failed_days": given}}))
    with pytest.raises(ConfigurationError) as caught:
        read_settings(ConductorSettings, {}, config)
    (line,) = caught.value.problems
    assert line.startswith(f"{config}: retention.failed_days: ")
    assert line.endswith("a number of days above 0, or never, expected")


def test_an_unknown_key_of_the_rules_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigurationError) as caught:
        read_settings(PipelineSettings, {"retention": ["finish_days=3"]})
    assert caught.value.problems == (
        "retention: the key 'finish_days' is unknown (did you mean 'finished_days'?)",
    )
    with pytest.raises(ConfigurationError) as caught:
        read_settings(PipelineSettings, {"retention": ["finished_days"]})
    assert caught.value.problems == ('--retention "finished_days": not KEY=VALUE',)


def test_rules_pass_from_a_configuration_to_the_command_line_of_a_service() -> None:
    rules = {"finished_days": 30, "failed_days": "never", "archive": "old"}
    settings = PipelineSettings.model_validate({"retention": rules})
    arguments = arguments_of(settings)
    pairs = [arguments[n + 1] for n, each in enumerate(arguments) if each == "--retention"]
    assert pairs == ["finished_days=30.0", "failed_days=never", "archive=old"]
    assert read_settings(PipelineSettings, {"retention": pairs}).retention == settings.retention


def test_a_file_of_the_archive_is_whole_or_not_there(tmp_path: Path) -> None:
    name = new_file_name("maker", 0.0)
    assert name.startswith("1970-01/maker-19700101T000000-")
    assert list(read_archive(tmp_path, name)) == []
    write_archive(tmp_path, name, [{"id": "é"}, {"id": "b"}])
    with gzip.open(tmp_path / name, "rt", encoding="utf-8") as lines:
        assert [json.loads(line) for line in lines] == [{"id": "é"}, {"id": "b"}]
    assert (tmp_path / name).stat().st_mode & 0o077 == 0
    write_archive(tmp_path, name, [{"id": "b"}])
    assert list(read_archive(tmp_path, name)) == [{"id": "b"}]
    write_archive(tmp_path, name, [])
    assert not list((tmp_path / name).parent.iterdir())


def test_a_damaged_file_of_the_archive_is_told(tmp_path: Path) -> None:
    write_archive(tmp_path, "1970-01/x.jsonl.gz", [{"id": "a"}] * 100)
    path = tmp_path / "1970-01/x.jsonl.gz"
    path.write_bytes(path.read_bytes()[:-12])
    with pytest.raises(ArchiveError, match="not readable"):
        list(read_archive(tmp_path, "1970-01/x.jsonl.gz"))


@pytest.mark.parametrize(
    ("key", "given", "expected"),
    [
        ("data_days", 0.5, "0.5: at least 1 day, or never, expected"),
        ("dead_days", "soon", "'soon': a number of days above 0, or never, expected"),
        ("activity_mb", 0, "'0' given, at least 1 expected"),
        ("data_messages", "many", "'many' given, a whole number expected"),
    ],
)
def test_a_bound_of_a_stream_is_checked_in_a_line(key: str, given: object, expected: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read_settings(ConductorSettings, {"graph": "g.json", "streams": [f"{key}={given}"]})
    assert caught.value.problems == (f"streams.{key}: {expected}",)
