"""Objects in buckets: checked and written by obstore, read where they are by GDAL and by Zarr."""

import os
import zlib
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import rasterio

from batuta.datasets.raster_file import ignore_missing_georeferencing
from batuta.errors import BatutaError, ConfigurationError

if TYPE_CHECKING:
    from obstore.store import ObjectStore

SCHEME: Final = "s3://"
_UPLOADS_AT_ONCE: Final = 16
_GDAL_PREFIX: Final = "/vsis3/"
_ENDPOINTS: Final = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")


class BucketError(BatutaError):
    """A file that is whole could not be uploaded."""


def in_bucket(path: str | os.PathLike[str]) -> bool:
    """Return whether a path is the URL of an object in a bucket."""
    return os.fspath(path).startswith(SCHEME)


def check_object(url: str, name: str) -> tuple[int, ...]:
    """Check that an object can be read; return what changes when it does.

    That is its size in bytes, the time of its last change in whole seconds, and its ETag.

    Raises
    ------
    ConfigurationError
        In one line, if it cannot.
    """
    store, key = _store_of(url, name)
    import obstore  # noqa: PLC0415 - of buckets alone
    from obstore.exceptions import BaseError  # noqa: PLC0415

    from batuta.buckets import is_lost, reason_of  # noqa: PLC0415

    try:
        # Of HEAD, S3 does not say what is missing: the object, or its bucket.
        obstore.get_range(store, key, start=0, end=1)
        found = obstore.head(store, key)
    except (BaseError, OSError, ValueError) as exc:
        reason = "no such object" if is_lost(exc) else reason_of(exc)
        raise ConfigurationError(f"{name}: {url} cannot be read: {reason}") from exc
    etag = int.from_bytes((found["e_tag"] or "").encode())
    return found["size"], int(found["last_modified"].timestamp()), etag


def gdal_name(url: str) -> str:
    """Return the name by which GDAL opens an object, or what is in no bucket."""
    return _GDAL_PREFIX + url.removeprefix(SCHEME) if in_bucket(url) else url


@contextmanager
def gdal_environment(path: str) -> Iterator[None]:
    """Configure GDAL as obstore is, for objects in buckets; for other paths, change nothing.

    GDAL takes credentials and region from the same variables itself. Files beside an object are
    not looked for, as that takes several requests.
    """
    if not in_bucket(path):
        yield
        return
    with rasterio.Env(
        **_gdal_settings(os.environ),
        GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR",
        CPL_VSIL_CURL_NON_CACHED=_GDAL_PREFIX,
    ):
        yield


def open_raster(path: str) -> Any:
    """Open a raster, which may be in a bucket, as it is now.

    GDAL remembers what it has read of an object, whatever becomes of that, until a dataset of it is
    closed: so the first one is closed again, whoever else has the object open.

    Raises
    ------
    rasterio.errors.RasterioIOError
        If it cannot be read.
    """
    with ignore_missing_georeferencing(), gdal_environment(path):
        if in_bucket(path):
            rasterio.open(gdal_name(path)).close()
        return rasterio.open(gdal_name(path))


def _gdal_settings(environment: Mapping[str, str]) -> dict[str, str]:
    hosted = environment.get("AWS_VIRTUAL_HOSTED_STYLE_REQUEST", "").lower() == "true"
    settings = {"AWS_VIRTUAL_HOSTING": "TRUE" if hosted else "FALSE"}
    endpoint = next((environment[each] for each in _ENDPOINTS if environment.get(each)), "")
    if endpoint:
        scheme, _, host = endpoint.rpartition("://")
        settings |= {
            "AWS_S3_ENDPOINT": host.rstrip("/"),
            "AWS_HTTPS": "NO" if scheme == "http" else "YES",
        }
    if environment.get("AWS_SKIP_SIGNATURE", "").lower() == "true":
        settings["AWS_NO_SIGN_REQUEST"] = "YES"
    return settings


def put_object(url: str, content: bytes | Path) -> None:
    """Write an object as a whole.

    Raises
    ------
    BucketError
        If it cannot be written; the bucket then has no part of it.
    """
    store, key = _store_of(url, "out")
    import obstore  # noqa: PLC0415 - of buckets alone
    from obstore.exceptions import BaseError  # noqa: PLC0415

    from batuta.buckets import PART_BYTES, reason_of  # noqa: PLC0415

    try:
        obstore.put(store, key, content, chunk_size=PART_BYTES)
    except (BaseError, OSError, ValueError) as exc:
        raise BucketError(f"{url} cannot be written: {reason_of(exc)}") from exc


def check_folder(url: str, name: str) -> tuple[int, ...]:
    """Check that there are objects below a URL; return what changes when one of them does.

    That is their number, their size in bytes, the time of their last change in whole seconds, and
    a checksum of their ETags.

    Raises
    ------
    ConfigurationError
        In one line, if there are none, or they cannot be listed.
    """
    store, key = _store_of(url, name)
    import obstore  # noqa: PLC0415 - of buckets alone
    from obstore.exceptions import BaseError  # noqa: PLC0415

    from batuta.buckets import reason_of  # noqa: PLC0415

    try:
        listed = obstore.list(store, key, chunk_size=1000)
        found = sorted((each for page in listed for each in page), key=itemgetter("path"))
    except (BaseError, OSError, ValueError) as exc:
        raise ConfigurationError(f"{name}: {url} cannot be read: {reason_of(exc)}") from exc
    if not found:
        raise ConfigurationError(f"{name}: {url} cannot be read: no such object")
    tags = zlib.crc32("".join(each["e_tag"] or "" for each in found).encode())
    newest = max(int(each["last_modified"].timestamp()) for each in found)
    return len(found), sum(each["size"] for each in found), newest, tags


def put_folder(url: str, folder: Path) -> None:
    """Write the files of a folder as objects below a URL, and remove what else is there.

    Raises
    ------
    BucketError
        If an object cannot be written, or removed.
    """
    store, key = _store_of(url, "out")
    import obstore  # noqa: PLC0415 - of buckets alone
    from obstore.exceptions import BaseError  # noqa: PLC0415

    from batuta.buckets import PART_BYTES, reason_of  # noqa: PLC0415

    files = {
        f"{key}/{each.relative_to(folder).as_posix()}": each
        for each in folder.rglob("*")
        if each.is_file()
    }

    def put(item: tuple[str, Path]) -> None:
        obstore.put(store, item[0], item[1], chunk_size=PART_BYTES)

    try:
        with ThreadPoolExecutor(_UPLOADS_AT_ONCE) as pool:
            for _ in pool.map(put, files.items()):
                pass  # what one of them raises is raised here
        listed = obstore.list(store, key, chunk_size=1000)
        stale = [each["path"] for page in listed for each in page if each["path"] not in files]
        if stale:
            obstore.delete(store, stale)
    except (BaseError, OSError, ValueError) as exc:
        raise BucketError(f"{url} cannot be written: {reason_of(exc)}") from exc


def zarr_store(group: str) -> Any:
    """Return what Zarr opens for a group: its path, or the objects of its bucket.

    Raises
    ------
    ConfigurationError
        If it is in a bucket, and there can be no such one.
    """
    if not in_bucket(group):
        return group
    from zarr.storage import ObjectStore as ZarrObjects  # noqa: PLC0415 - of buckets alone

    from batuta.buckets import open_bucket  # noqa: PLC0415 - of buckets alone

    return ZarrObjects(open_bucket(group, "input"), read_only=True)


def _store_of(url: str, name: str) -> tuple["ObjectStore", Any]:
    """Return the bucket of an object, and its key."""
    bucket, _, key = url.removeprefix(SCHEME).partition("/")
    if not bucket or not key or key.endswith("/"):
        raise ConfigurationError(f"{name}: {url!r} given, s3://bucket/key expected")
    try:
        from batuta.buckets import open_bucket  # noqa: PLC0415 - of buckets alone
    except ImportError as exc:
        raise ConfigurationError(
            f"{name}: {url} needs {exc.name}, which batuta[formats] installs"
        ) from exc
    return open_bucket(SCHEME + bucket, name), key
