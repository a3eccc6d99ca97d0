"""The configuration of the product database."""

from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from pydantic import Field, field_validator

from batuta.errors import ConfigurationError
from batuta.names import name_problem
from batuta.service.settings import ServiceSettings

DEFAULT_FOLDER: Final = Path("batuta-data")
ONE_TIB_BYTES: Final = 2**40
MAX_SMALL_FILE_BYTES: Final = 2**20
"""The largest file that a database may keep: each is read whole."""
BUCKET_SCHEMES: Final = ("s3", "gs", "az")
ACCEPTED: Final = "accepted: file:///absolute/path, a plain path, s3://bucket/prefix, gs://, az://"


def _default_store() -> str:
    return (Path.cwd() / DEFAULT_FOLDER / "products").as_uri()


class SdbSettings(ServiceSettings):
    """Settings of the sdb; each field has its description."""

    port: int = Field(8001, ge=0, le=65_535, description="Port to listen on; 0 takes a free one.")
    database_url: str = Field(
        f"sqlite:///{DEFAULT_FOLDER}/sdb.db",
        description="Where records are kept: sqlite:///file, or postgresql://...",
    )
    store_url: str = Field(
        default_factory=_default_store,
        description="Where the bytes are kept: file:///absolute/path, a plain path, or "
        "s3://bucket/prefix.",
    )
    scratch_folder: Path = Field(
        DEFAULT_FOLDER / "incoming",
        description="Where uploads are received before they go to a bucket; a folder store "
        "receives them in itself.",
    )
    max_upload_bytes: int = Field(
        ONE_TIB_BYTES, ge=1, description="The largest file accepted, in bytes."
    )
    small_file_bytes: int = Field(
        2**16,
        ge=0,
        le=MAX_SMALL_FILE_BYTES,
        description="Files up to this size, in bytes, are kept in the database, and committed with "
        "their records; 0 keeps all in the store.",
    )
    quota_bytes: int | None = Field(
        None,
        ge=1,
        description="Most bytes that all versions and quicklooks may have together; imports beyond "
        "are refused. By default there is no quota.",
    )
    product_quotas: dict[str, int] = Field(
        default_factory=dict,
        description="The same of one product, as PRODUCT=BYTES; may be repeated.",
    )
    keep_free_bytes: int = Field(
        0,
        ge=0,
        description="Bytes to be left free on the disk that files are received on; imports that "
        "would leave less are refused.",
    )
    upload_expires_s: float = Field(
        86_400.0,
        gt=0,
        le=31_536_000,
        description="How long an upload that was cut may be resumed, in seconds after its last "
        "byte; then what was received of it is deleted.",
    )
    max_uploads: int = Field(
        1000, ge=1, le=100_000, description="Uploads that may wait to be resumed, at most."
    )
    reference_folders: list[Path] = Field(
        default_factory=list,
        description="A folder of this machine whose files whoever may import may have imported by "
        "their paths; may be repeated. By default there is none.",
    )
    quicklook_processes: int = Field(
        2,
        ge=0,
        le=16,
        description="How many processes draw quicklooks at the same time; 0 draws none.",
    )
    public_url: str | None = Field(
        None,
        description="The address that others reach this service by, where it is not the one it "
        "listens on; products' uri starts with it.",
    )

    @field_validator("product_quotas")
    @classmethod
    def _quotas_of_products(cls, value: dict[str, int]) -> dict[str, int]:
        problems = [name_problem("product", name) for name in value]
        problems += [
            f"{name}: {quota} (accepted: a number of bytes from 1 on)"
            for name, quota in value.items()
            if quota < 1
        ]
        if found := [each for each in problems if each is not None]:
            raise ValueError("; ".join(found))
        return value

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
        If it is a ``file:`` URL of another machine, or its path is not absolute.
    """
    parts = urlsplit(store_url)
    if "://" not in store_url and parts.scheme != "file":
        return Path(store_url).absolute() if store_url else None
    if parts.scheme != "file":
        return None
    if parts.netloc not in {"", "localhost"} or not parts.path.startswith("/"):
        raise ConfigurationError(f"--store-url {store_url!r}: not a store ({ACCEPTED})")
    return Path(unquote(parts.path))
