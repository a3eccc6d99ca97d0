"""Real services for tests: in a thread of this process, or in a process that can be killed."""

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from batuta.service.connections import Connections, raise_open_files_limit
from batuta.service.runner import OpenService
from batuta.service.server import Listener, Server
from batuta.service.settings import ServiceSettings
from batuta.service.sockets import address_of, listening_socket

START_S = 30.0


@contextmanager
def serving(open_service: OpenService[Any], settings: ServiceSettings) -> Iterator[str]:
    """Serve in a thread, over a real socket, and yield the address."""
    thread = _ServiceThread(open_service, settings)
    thread.start()
    try:
        yield thread.wait_for_url()
    finally:
        thread.stop()


class _ServiceThread(threading.Thread):
    def __init__(self, open_service: OpenService[Any], settings: ServiceSettings) -> None:
        super().__init__(name="service", daemon=True)
        self._open_service = open_service
        self._settings = settings
        self._ready = threading.Event()
        self._url = ""
        self._server: Server | None = None
        self._failure: BaseException | None = None

    def run(self) -> None:
        try:
            with listening_socket(self._settings) as sock:
                listener = Listener(sock, self._settings.server_certificate())
                asyncio.run(self._serve(listener))
        except BaseException as exc:  # noqa: BLE001  raised in the test's thread
            self._failure = exc
        finally:
            self._ready.set()

    async def _serve(self, listener: Listener) -> None:
        url = address_of(listener.sock, listener.certificate)
        async with self._open_service(self._settings, url) as service:
            connections = Connections(raise_open_files_limit())
            self._server = Server(service.app, connections, listener, grace_s=2)
            self._url = url
            working = asyncio.create_task(service.run())
            self._ready.set()
            await self._server.serve()
            working.cancel()
            await asyncio.wait([working])

    def wait_for_url(self) -> str:
        assert self._ready.wait(START_S), "the service did not start"
        if self._failure is not None:
            raise self._failure
        return self._url

    def stop(self) -> None:
        if self._server is not None:
            self._server.stop()
        self.join()
        if self._failure is not None:
            raise self._failure


class ServiceProcess:
    """A service in a process of its own, that a test may kill and start again.

    Parameters
    ----------
    run : str
        The function that serves, as ``module:name``; it takes its settings.
    settings : ServiceSettings
        Its settings.
    environment : mapping, optional
        Variables besides those of this process.
    """

    def __init__(
        self, run: str, settings: ServiceSettings, environment: Mapping[str, str] | None = None
    ) -> None:
        module, name = run.split(":")
        kind = type(settings)
        program = (
            f"import sys; from {module} import {name}; from {kind.__module__} import "
            f"{kind.__name__}; {name}({kind.__name__}.model_validate_json(sys.argv[1]))"
        )
        self._command = [sys.executable, "-c", program, settings.model_dump_json()]
        self._environment = {**os.environ, **(environment or {})}
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> str:
        """Start it and return the address that it answers on."""
        self.process = subprocess.Popen(
            self._command, stdout=subprocess.PIPE, text=True, env=self._environment
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert " listening on " in line, f"the service did not start: {line!r}"
        return line.split()[-1]

    def kill(self) -> None:
        """Kill it as a power cut would."""
        if self.process is not None:
            self.process.kill()
            self._end()

    def stop(self) -> int:
        """Ask it to stop, and return its exit code."""
        assert self.process is not None
        self.process.terminate()
        return self._end()

    def _end(self) -> int:
        assert self.process is not None
        assert self.process.stdout is not None
        self.process.stdout.close()
        code = self.process.wait()
        self.process = None
        return code
