"""The sdb killed again and again in the middle of imports: nothing lost, nothing half there."""

import hashlib
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from batuta.errors import BatutaError
from batuta.messaging import DataAvailable
from batuta.sdb import SdbClient, StoredProduct
from tests.sdb.conftest import MakeSettings
from tests.sdb.test_outbox import announced
from tests.support.servers import NatsServer, free_port
from tests.support.services import ServiceProcess
from tests.support.waiting import eventually_sync

IMPORTS = 40
SENDERS = 8
KILLS = 4
MIB = 2**20


@pytest.fixture
def nats_of_sdb(own_nats: NatsServer) -> NatsServer:
    """What a test announces is all that there is."""
    return own_nats


async def test_every_product_recorded_is_announced_and_every_one_announced_is_there(
    make_settings: MakeSettings,
    database_url: str,
    own_nats: NatsServer,
    make_file: Callable[[bytes, str], Path],
    store_folder: Path,
    tmp_path: Path,
) -> None:
    settings = make_settings(database_url=database_url, port=free_port())
    service = ServiceProcess("batuta.sdb:run", settings)
    url = service.start()
    senders = [_Sender(url, make_file, number) for number in range(SENDERS)]
    for sender in senders:
        sender.start()
    for kill in range(1, KILLS + 1):
        wanted = kill * IMPORTS // (KILLS + 1)
        eventually_sync(lambda wanted=wanted: sum(len(s.stored) for s in senders) >= wanted)  # type: ignore[misc]  # mypy cannot infer a lambda's default
        service.kill()
        service.start()
    for sender in senders:
        sender.join()
    assert [sender.failure for sender in senders] == [None] * SENDERS
    with SdbClient(url) as client:
        recorded = list(client.list())
        _check_bytes(client, recorded, tmp_path / "out")
    events = await announced(own_nats, len(recorded))
    service.stop()
    told = {_identity(DataAvailable.model_validate(event.data)) for event in events}
    assert told == {_identity(product) for product in recorded}
    assert sorted(p.processing_id or "" for p in recorded) == sorted(
        f"p{sender}-{number}" for sender in range(SENDERS) for number in range(IMPORTS // SENDERS)
    )
    assert list((store_folder / "incoming").iterdir()) == []


class _Sender(threading.Thread):
    """Imports one file after another, as a pipeline does: again until it is done."""

    def __init__(self, url: str, make_file: Callable[[bytes, str], Path], number: int) -> None:
        super().__init__(daemon=True)
        self._url = url
        self._make_file = make_file
        self._number = number
        self.stored: list[StoredProduct] = []
        self.failure: BatutaError | None = None

    def run(self) -> None:
        try:
            with SdbClient(self._url, retry_for_s=60) as client:
                for number in range(IMPORTS // SENDERS):
                    self.stored.append(self._import(client, f"p{self._number}-{number}"))
        except BatutaError as exc:
            self.failure = exc

    def _import(self, client: SdbClient, name: str) -> StoredProduct:
        path = self._make_file(_content(name), name)
        return client.import_file(path, "PRODUCT", "sb1", processing_id=name)


def _check_bytes(client: SdbClient, recorded: list[StoredProduct], to: Path) -> None:
    for product in recorded:
        client.export(product.product, product.obs_id, product.version, to=to)
        assert to.read_bytes() == _content(product.processing_id or "")


def _content(name: str) -> bytes:
    """Return the bytes of an import: of each sender, small and large ones in turn."""
    times = MIB // 8 if name[-1] in "02468" else 4
    return hashlib.sha256(name.encode()).digest() * times


def _identity(thing: DataAvailable | StoredProduct) -> tuple[int | None, str | None, str | None]:
    return thing.version, thing.sha256, thing.processing_id
