"""Buckets of S3 and compatible stores, as obstore opens them; errors of theirs in one line."""

from typing import Final

from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import ObjectStore, from_url

from batuta.errors import ConfigurationError, one_line, shortened

PART_BYTES: Final = 128 * 2**20
"""Part size of a multipart upload to a bucket, which accepts at most 10,000 parts."""
_MAX_REASON_LENGTH: Final = 300


def open_bucket(url: str, name: str) -> ObjectStore:
    """Return the store of a URL; credentials and region come from the environment.

    Parameters
    ----------
    url : str
        ``s3://bucket/prefix``, or of another store that obstore knows.
    name : str
        What messages call it.

    Raises
    ------
    ConfigurationError
        If there can be no such store.
    """
    try:
        return from_url(url)
    except (BaseError, ValueError) as exc:
        raise ConfigurationError(f"{name} {url}: {exc}") from exc


def is_lost(exc: Exception) -> bool:
    """Return whether there is no such object, in a bucket that there is."""
    # Of S3, a bucket that does not exist is a 404 too.
    return isinstance(exc, FileNotFoundError) and "NoSuchBucket" not in str(exc)


def reason_of(exc: Exception) -> str:
    """Return the reason in the message of the library (obstore 0.12), in one line.

    ``<operation> in 1.3ms, after 2 retries - <reason>: <the answer, in XML>``, and then, for pages,
    the state of the library.
    """
    if isinstance(exc, FileNotFoundError) or "NoSuchBucket" in str(exc):
        return "no such bucket"
    first_line = str(exc).partition("\n")[0]
    reason = one_line(first_line.rpartition(" - ")[2].partition("<")[0]).rstrip(": ")
    if isinstance(exc, (PermissionDeniedError, UnauthenticatedError)):
        return f"{reason} (accepted: credentials that may read, write and list)"
    return shortened(reason, _MAX_REASON_LENGTH)
