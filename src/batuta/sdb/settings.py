"""What the product database is told when it starts."""

from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from pydantic import Field, field_validator

from batuta.errors import ConfigurationError
from batuta.service.settings import ServiceSettings

DEFAULT_FOLDER: Final = Path("batuta-data")
ONE_TIB_BYTES: Final = 2**40
BUCKET_SCHEMES: Final = ("s3", "gs", "az")
ACCEPTED: Final = "accepted: file:///absolute/path, a plain path, s3://bucket/prefix, gs://, az://"


def _default_store() -> str:
    return (Path.cwd() / DEFAULT_FOLDER / "products").as_uri()


class SdbSettings(ServiceSettings):
    """Settings of the sdb.

    Parameters
    ----------
    port : int
        8001 by default.
    database_url : str
        ``sqlite:///path`` (``batuta-data/sdb.db`` by default) or ``postgresql://...``.
    store_url : str
        Where the bytes are kept: ``file:///absolute/path`` or a plain path (the default is
        ``batuta-data/products`` under the working folder); ``s3://bucket/prefix``.
    scratch_folder : Path
        Where uploads are received before they go to a bucket. A folder store receives them
        in itself.
    max_upload_bytes : int
        The largest file accepted, in bytes; 1 TiB by default.
    public_url : str or None
        The address that others reach this service by, where it is not the one it listens on;
        the `uri` of products starts with it.
    """

    port: int = Field(8001, ge=0, le=65_535)
    database_url: str = f"sqlite:///{DEFAULT_FOLDER}/sdb.db"
    store_url: str = Field(default_factory=_default_store)
    scratch_folder: Path = DEFAULT_FOLDER / "incoming"
    max_upload_bytes: int = Field(ONE_TIB_BYTES, ge=1)
    public_url: str | None = None

    @field_validator("store_url")
    @classmethod
    def _known_store(cls, value: str) -> str:
        if store_folder(value) is None and urlsplit(value).scheme not in BUCKET_SCHEMES:
            raise ValueError(f"not a store ({ACCEPTED})")
        return value


def store_folder(store_url: str) -> Path | None:
    """Return the folder that `store_url` names; None if it names a bucket.

    Raises
    ------
    ConfigurationError
        If it is a ``file:`` address of another machine, or of no absolute path.
    """
    parts = urlsplit(store_url)
    if "://" not in store_url and parts.scheme != "file":
        return Path(store_url).absolute() if store_url else None
    if parts.scheme != "file":
        return None
    if parts.netloc not in {"", "localhost"} or not parts.path.startswith("/"):
        raise ConfigurationError(f"--store-url {store_url!r}: not a store ({ACCEPTED})")
    return Path(unquote(parts.path))
