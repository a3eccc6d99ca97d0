"""A bucket that speaks as much of S3 as the store needs, and fails as a test wants."""

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, urlsplit


class Bucket(http.server.ThreadingHTTPServer):
    """It keeps objects in memory.

    Attributes
    ----------
    failing : HTTPStatus or None
        What it answers to everything, if set.
    read_only : bool
        Whether it refuses to write.
    refuses_parts : bool
        Whether it refuses the parts of multipart uploads.
    parts : dict
        The multipart uploads that were neither completed nor aborted.
    away : bool
        Whether it hangs up instead of answering.
    requests : list of str
        What it was asked: method, path and query.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.objects: dict[str, bytes] = {}
        self.parts: dict[str, dict[int, bytes]] = {}
        self.requests: list[str] = []
        self.failing: HTTPStatus | None = None
        self.read_only = False
        self.refuses_parts = False
        self.away = False

    @property
    def environment(self) -> dict[str, str]:
        """What tells the store of it."""
        return {
            "AWS_ENDPOINT": f"http://127.0.0.1:{self.server_port}",
            "AWS_ALLOW_HTTP": "true",
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_REGION": "here",
        }


@contextmanager
def open_bucket() -> Iterator[Bucket]:
    """Serve a bucket in a thread."""
    with Bucket() as bucket:
        thread = threading.Thread(target=bucket.serve_forever, daemon=True)
        thread.start()
        try:
            yield bucket
        finally:
            bucket.shutdown()
            thread.join()


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Bucket
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.requests.append(f"{self.command} {self.path}")
        address = urlsplit(self.path)
        query = parse_qs(address.query, keep_blank_values=True)
        writes = self.command in {"PUT", "POST"}
        if self.server.away:
            self.close_connection = True
        elif self.server.failing is not None:
            self._refuse(self.server.failing, "SignatureDoesNotMatch")
        elif writes and self.server.read_only:
            self._refuse(HTTPStatus.FORBIDDEN, "AccessDenied")
        elif writes:
            self._write(address.path, query, body)
        elif self.command == "DELETE":
            self.server.parts.pop(query["uploadId"][0], None)
            self._answer(HTTPStatus.NO_CONTENT)
        elif "list-type" in query:
            keys = "".join(_LISTED.format(key.partition("/b/")[2]) for key in self.server.objects)
            self._answer(HTTPStatus.OK, f"<ListBucketResult>{keys}</ListBucketResult>".encode())
        else:
            self._read(address.path)

    def _write(self, path: str, query: dict[str, list[str]], body: bytes) -> None:
        answer = b""
        if "uploads" in query:
            self.server.parts["1"] = {}
            answer = _BEGUN
        elif "partNumber" in query and self.server.refuses_parts:
            self._refuse(HTTPStatus.FORBIDDEN, "AccessDenied")
            return
        elif "partNumber" in query:
            self.server.parts["1"][int(query["partNumber"][0])] = body
        elif "uploadId" in query:
            parts = self.server.parts.pop("1")
            self.server.objects[path] = b"".join(parts[number] for number in sorted(parts))
            answer = (
                b"<CompleteMultipartUploadResult><ETag>x</ETag></CompleteMultipartUploadResult>"
            )
        else:
            self.server.objects[path] = body
        self._answer(HTTPStatus.OK, answer)

    def _read(self, path: str) -> None:
        content = self.server.objects.get(path)
        if content is None:
            self._refuse(HTTPStatus.NOT_FOUND, "NoSuchKey")
            return
        first, _, last = self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")
        piece = content[int(first) : int(last) + 1 if last else len(content)]
        span = f"bytes {first}-{int(first) + len(piece) - 1}/{len(content)}"
        self._answer(HTTPStatus.PARTIAL_CONTENT, piece, {"Content-Range": span})

    def _refuse(self, status: HTTPStatus, code: str) -> None:
        self._answer(status, f"<Error><Code>{code}</Code></Error>".encode())

    def _answer(
        self, status: HTTPStatus, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", '"x"')
        self.send_header("Last-Modified", "Sat, 28 Nov 2026 12:00:00 GMT")
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _handle  # noqa: N815  names of http.server


_BEGUN = b"<InitiateMultipartUploadResult><UploadId>1</UploadId></InitiateMultipartUploadResult>"
_LISTED = (
    "<Contents><Key>{}</Key><Size>1</Size>"
    "<LastModified>2026-11-28T12:00:00.000Z</LastModified></Contents>"
)
