"""An sdb with some versions, on SQLite with a folder or on PostgreSQL with a bucket."""

import io
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import obstore
import sqlalchemy as sa
from obstore.store import LocalStore, ObjectStore, from_url
from PIL import Image

from batuta.cli.app import run
from batuta.sdb import SdbClient, SdbSettings, StoredProduct
from batuta.sdb.service import open_sdb
from batuta.sdb.store import object_path
from tests.support.services import serving

SMALL_FILE_BYTES: Final = 1000
LARGE: Final = bytes(range(256)) * 8000
CONTENTS: Final = {
    "A": LARGE,
    "B": LARGE[::-1],
    "TWIN": LARGE,
    "SMALL": b"small",
    "PICTURED": b"tiny",
}
"""The file of each product."""
PLACES: Final = ("sqlite and folder", "postgresql and s3")


@dataclass(frozen=True)
class Place:
    """Where an sdb keeps its records and its bytes: as `arguments`, the options of commands."""

    database_url: str
    store_url: str
    scratch_folder: Path

    @property
    def arguments(self) -> list[str]:
        return [
            *("--database-url", self.database_url, "--store-url", self.store_url),
            *("--scratch-folder", str(self.scratch_folder)),
        ]


NewPlace = Callable[[str], Place]


def open_objects_of(store_url: str) -> ObjectStore:
    """Open a store as those who damage it do."""
    return from_url(store_url) if "://" in store_url else LocalStore(store_url, mkdir=True)


@dataclass
class Archive:
    """An sdb with five versions, its store open to be damaged, and a copy of the store."""

    place: Place
    settings: SdbSettings
    objects: ObjectStore
    copy: str
    products: dict[str, StoredProduct]

    def check(self, *options: str) -> int:
        """Run the command; what is old is what is older than its start."""
        return run(["sdb", "check", *self.place.arguments, "--grace", "0", *options])

    def path_of(self, product: str) -> str:
        return object_path(self.products[product].sha256)

    def content_of(self, product: str) -> bytes:
        return bytes(obstore.get(self.objects, self.path_of(product)).bytes())

    def put(self, path: str, content: bytes) -> None:
        obstore.put(self.objects, path, content)

    def flip_a_byte(self, product: str) -> None:
        content = bytearray(self.content_of(product))
        content[len(content) // 2] ^= 1
        self.put(self.path_of(product), bytes(content))

    def list_paths(self) -> set[str]:
        return {each["path"] for page in obstore.list(self.objects) for each in page}

    def execute(self, statement: sa.Executable) -> None:
        url = sa.make_url(self.settings.database_url)
        if url.get_backend_name() == "postgresql":
            url = url.set(drivername="postgresql+psycopg")
        engine = sa.create_engine(url)
        with engine.begin() as connection:
            connection.execute(statement)
        engine.dispose()


def picture(kind: str = "PNG", size: tuple[int, int] = (60, 40), *, large: bool = False) -> bytes:
    """A picture; a large one is kept in the store."""
    buffer = io.BytesIO()
    if large:
        Image.frombytes("RGB", (200, 200), os.urandom(120_000)).save(buffer, kind)
    else:
        Image.new("RGB", size, "teal").save(buffer, kind)
    return buffer.getvalue()


def import_all(client: SdbClient, folder: Path) -> Iterator[StoredProduct]:
    """Two large files, one of them under two products, a small one, and one with a picture."""
    file = folder / "file.bin"
    for product, content in CONTENTS.items():
        file.write_bytes(content)
        quicklook = None
        if product == "PICTURED":
            quicklook = folder / "picture.png"
            quicklook.write_bytes(picture(large=True))
        yield client.import_file(file, product=product, obs_id="run-1", quicklook=quicklook)


def make_archive(place: Place, copy: str, settings: SdbSettings, folder: Path) -> Archive:
    """Import five versions, and copy the store."""
    with serving(open_sdb, settings) as url, SdbClient(url) as client:
        products = {each.product: each for each in import_all(client, folder)}
    objects, copies = open_objects_of(place.store_url), open_objects_of(copy)
    for page in obstore.list(objects):
        for each in page:
            obstore.put(copies, each["path"], obstore.get(objects, each["path"]).bytes())
    return Archive(place, settings, objects, copy, products)
