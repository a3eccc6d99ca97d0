"""Files are delivered when they are complete."""

from pathlib import Path

from batuta.profiling.capture.layout import CPROFILE_FOLDER
from batuta.profiling.capture.sink import FolderSink


def profiles(folder: Path) -> list[Path]:
    return sorted((folder / CPROFILE_FOLDER).glob("*.prof"))


def test_a_file_has_its_final_name_once_it_is_complete(tmp_path: Path) -> None:
    sink = FolderSink(tmp_path)
    draft = sink.draft_path(CPROFILE_FOLDER, "a.prof")
    draft.write_bytes(b"half")
    assert profiles(tmp_path) == []
    sink.deliver_file(CPROFILE_FOLDER, "a.prof", draft)
    assert [path.read_bytes() for path in profiles(tmp_path)] == [b"half"]
    assert not draft.exists()
