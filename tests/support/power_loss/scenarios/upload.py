"""An upload that is resumed: bytes that the sdb has said to have are there."""

import re
from base64 import b64encode
from pathlib import Path
from typing import Final

import httpx
import sqlalchemy as sa

from batuta.sdb.tables import UPLOADS
from tests.support.power_loss.points import Said

OBS_ID: Final = "resumed"
_TUS: Final = {"Tus-Resumable": "1.0.0"}
_OFFSET: Final = re.compile(rb"HTTP/1\.1 204 .*?upload-offset: (\d+)", re.DOTALL | re.IGNORECASE)


class Upload:
    """An upload of a file in parts, by the tus protocol.

    Parameters
    ----------
    url : str
        The sdb.
    content : bytes
        The file.
    """

    def __init__(self, url: str, content: bytes) -> None:
        self._url = url
        self._content = content
        fields = {"product": "IMAGE", "obs_id": OBS_ID}
        said = ",".join(
            f"{name} {b64encode(text.encode()).decode()}" for name, text in fields.items()
        )
        headers = {**_TUS, "Upload-Length": str(len(content)), "Upload-Metadata": said}
        created = httpx.post(f"{url}/uploads", headers=headers).raise_for_status()
        self._id = created.headers["Location"].rpartition("/")[2]

    def send(self, start: int, stop: int) -> None:
        """Send a part."""
        headers = {
            **_TUS,
            "Upload-Offset": str(start),
            "Content-Type": "application/offset+octet-stream",
        }
        url = f"{self._url}/uploads/{self._id}"
        answer = httpx.patch(url, headers=headers, content=self._content[start:stop])
        assert answer.headers["Upload-Offset"] == str(stop), answer.text


def check_upload(engine: sa.Engine, folder: Path, content: bytes, said: Said) -> None:
    """Assert that what was said to be received is there, in the `folder` that receives."""
    offset = max((int(each) for text in said for each in _OFFSET.findall(text)), default=0)
    with engine.connect() as connection:
        row = connection.execute(sa.select(UPLOADS)).one_or_none()
    if row is None:
        assert not offset, f"{offset} bytes were said to be received, and the upload is lost"
        return
    assert row.received >= offset, f"{offset} bytes were said to be received, {row.received} are"
    if row.version is None:
        found = (folder / f"{row.id}.upload").read_bytes() if row.received else b""
        assert found[: row.received] == content[: row.received], "what was received is damaged"
