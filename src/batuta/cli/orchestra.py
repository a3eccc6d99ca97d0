"""A whole orchestra on this machine: NATS, sdb, pipelines and conductor, each its own process."""

import asyncio
import contextlib
import fcntl
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar, cast

import httpx
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from batuta.cli.options import arguments_of, checked, read_document
from batuta.cli.supervisor import Program, Supervisor, python_program, supervising
from batuta.conductor.settings import ConductorSettings
from batuta.errors import ConfigurationError
from batuta.graph import read_graph
from batuta.messaging.server import DEFAULT_PORT, server_command
from batuta.pipeline.settings import PipelineSettings
from batuta.pipeline.simulate.settings import SimulateSettings
from batuta.sdb.settings import SdbSettings
from batuta.service.settings import LOOPBACK, ServiceSettings, settings_problems

SDB_PORT: Final = 8001
CONDUCTOR_PORT: Final = 8002
PIPELINE_PORT: Final = 5000

S = TypeVar("S", bound=ServiceSettings)


class OrchestraConfig(BaseModel):
    """The configuration of ``batuta up``: which services, each with the options that it differs in.

    Paths in it are relative to the folder of its file. A service whose port is not given takes
    its default, or a free one where that is taken.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    data_dir: Path = Field(Path("batuta-data"), description="Where everything is kept.")
    nats_url: str | None = Field(None, description="A NATS that runs; without it, one is started.")
    nats_port: int | None = Field(None, ge=1, le=65_535, description="Port of the NATS started.")
    token: SecretStr | None = Field(None, description="Token of every service.")
    sdb: dict[str, Any] = Field(default_factory=dict, description="Options of the sdb.")
    conductor: dict[str, Any] = Field(description="Options of the conductor; graph at least.")
    pipelines: list[dict[str, Any]] = Field(
        default_factory=list,
        description="For each pipeline `use`, MODULE:NAME or a file, and its options.",
    )
    simulate: dict[str, Any] | None = Field(
        None, description="Options of the simulated pipeline, for providers that have no other."
    )


@dataclass
class Orchestra:
    """What runs, and where."""

    nats_url: str
    sdb_url: str = ""
    conductor_url: str = ""
    providers: dict[str, str] = field(default_factory=dict)
    supervisor: Supervisor | None = None

    def addresses(self) -> dict[str, str]:
        """Address of everything, by name."""
        return {
            "nats": self.nats_url,
            "sdb": self.sdb_url,
            "conductor": self.conductor_url,
            **self.providers,
        }


def read_orchestra(path: Path) -> OrchestraConfig:
    """Read and check a configuration.

    Raises
    ------
    ConfigurationError
        One line per mistake.
    """
    try:
        return OrchestraConfig.model_validate(read_document(path))
    except ValidationError as exc:
        raise ConfigurationError(settings_problems(exc, str(path))) from exc


@contextlib.asynccontextmanager
async def playing(
    config: OrchestraConfig, folder: Path, tell: Callable[[str], None]
) -> AsyncIterator[Orchestra]:
    """Start an orchestra; it plays until left, and nothing of it is left then.

    Parameters
    ----------
    folder : Path
        What the configuration's paths are relative to.
    tell : callable
        Told, a line at a time, what happens to the services.

    Raises
    ------
    ConfigurationError
        If the configuration is wrong: every mistake, before anything is started.
    ProgramError
        If a service does not start.
    """
    plan = _Plan(config, folder)
    with _alone_in(plan.data_dir):
        async with supervising(plan.data_dir / "logs", tell) as supervisor:
            orchestra = Orchestra(plan.nats_url, supervisor=supervisor)
            await _start_all(plan, supervisor, orchestra)
            yield orchestra


async def _start_all(plan: "_Plan", supervisor: Supervisor, orchestra: Orchestra) -> None:
    if plan.nats_port is not None:
        await supervisor.start(plan.nats())
    sdb = plan.service("sdb", (), plan.sdb)
    orchestra.sdb_url = sdb.url
    async with asyncio.TaskGroup() as group:
        group.create_task(supervisor.start(sdb))
        for use, settings in plan.pipelines:
            group.create_task(_start_pipeline(plan, supervisor, orchestra, (use, settings)))
        if plan.simulate is not None:
            group.create_task(_start_simulation(plan.simulate, plan, supervisor, orchestra))
    # It is told where the pipelines are, and asks the sdb what it holds.
    conductor = plan.service("conductor", (), plan.conductor(orchestra.providers))
    await supervisor.start(conductor)
    orchestra.conductor_url = conductor.url


async def _start_pipeline(
    plan: "_Plan",
    supervisor: Supervisor,
    orchestra: Orchestra,
    part: tuple[str, PipelineSettings],
) -> None:
    use, settings = part
    program = plan.service("pipeline", (use,), settings, _log_name(use))
    await supervisor.start(program)
    orchestra.providers[await _name_of(program)] = f"{program.url}{settings.root_path}"


async def _start_simulation(
    settings: SimulateSettings, plan: "_Plan", supervisor: Supervisor, orchestra: Orchestra
) -> None:
    program = plan.service("simulate", (), settings)
    await supervisor.start(program)
    for provider in read_graph(settings.graph).providers:
        orchestra.providers.setdefault(provider, f"{program.url}{settings.root_path}")


class _Plan:
    """Every service's settings, checked all at once; ports chosen."""

    def __init__(self, config: OrchestraConfig, folder: Path) -> None:
        self._config = config
        self._folder = folder
        self._taken: set[int] = set()
        self._problems: list[str] = []
        self.data_dir = (folder / config.data_dir).resolve()
        self.nats_port = self._nats_port()
        self.nats_url = config.nats_url or f"nats://{LOOPBACK}:{self.nats_port}"
        self.sdb = self._sdb()
        self.pipelines = [
            self._pipeline(number, part) for number, part in enumerate(config.pipelines)
        ]
        self.simulate = self._simulate()
        self._conductor_port = self._port(config.conductor, CONDUCTOR_PORT)
        self._check_conductor()
        if self._problems:
            raise ConfigurationError(self._problems)

    def nats(self) -> Program:
        assert self.nats_port is not None  # noqa: S101  only then is it asked for
        command = server_command(self.data_dir / "nats", self.nats_port)
        return Program(
            name="nats",
            command=python_program("-m", "batuta.service.guard", *command),
            host=LOOPBACK,
            port=self.nats_port,
            health=False,
        )

    def service(
        self, kind: str, first: tuple[str, ...], settings: ServiceSettings, name: str = ""
    ) -> Program:
        """The program that serves with `settings`."""
        token = settings.token_text
        return Program(
            name=name or kind,
            command=python_program("-m", "batuta", kind, *first, *arguments_of(settings)),
            host=settings.host,
            port=settings.port,
            environment={"BATUTA_TOKEN": token} if token else {},
            folder=self._folder,
        )

    def conductor(self, providers: Mapping[str, str]) -> ConductorSettings:
        """Settings of the conductor, once the addresses of `providers` are known."""
        given = dict(self._config.conductor)
        urls = {**providers, **given.pop("provider_urls", {})}
        if "graph" in given:
            given["graph"] = self._folder / str(given["graph"])
        values = {
            **self._shared("conductor"),
            "port": self._conductor_port,
            "sdb_url": self.sdb_url,
            "provider_urls": urls,
            **given,
        }
        return checked(ConductorSettings, values, "conductor")

    def _check_conductor(self) -> None:
        """Find the mistakes in its settings and in its graph; its pipelines start before it."""
        try:
            read_graph(self.conductor({}).graph)
        except ConfigurationError as exc:
            self._problems += exc.problems

    @property
    def sdb_url(self) -> str:
        return f"http://{self.sdb.host}:{self.sdb.port}"

    def _sdb(self) -> SdbSettings:
        values = {
            **self._shared("sdb"),
            "port": self._port(self._config.sdb, SDB_PORT),
            "store_url": (self.data_dir / "products").as_uri(),
            "scratch_folder": self.data_dir / "incoming",
            **self._config.sdb,
        }
        return self._checked(SdbSettings, values, "sdb")

    def _pipeline(self, number: int, part: Mapping[str, Any]) -> tuple[str, PipelineSettings]:
        where = f"pipelines.{number}"
        given = dict(part)
        use = given.pop("use", None)
        if not isinstance(use, str):
            self._problems.append(f"{where}.use: missing (accepted: MODULE:NAME, or a file)")
        values = {
            "nats_url": self.nats_url,
            "token": self._config.token,
            "port": self._port(given, PIPELINE_PORT),
            "sdb_url": self.sdb_url,
            "data_dir": self.data_dir / "pipelines" / _log_name(str(use)),
            **given,
        }
        return str(use), self._checked(PipelineSettings, values, where)

    def _simulate(self) -> SimulateSettings | None:
        if self._config.simulate is None:
            return None
        given = dict(self._config.simulate)
        graph = given.get("graph", self._config.conductor.get("graph", ""))
        values = {
            "nats_url": self.nats_url,
            "token": self._config.token,
            "port": self._port(given, PIPELINE_PORT),
            "sdb_url": self.sdb_url,
            "data_dir": self.data_dir / "simulate",
            **given,
            "graph": self._folder / str(graph),
        }
        return self._checked(SimulateSettings, values, "simulate")

    def _shared(self, name: str) -> dict[str, Any]:
        return {
            "nats_url": self.nats_url,
            "token": self._config.token,
            "database_url": f"sqlite:///{self.data_dir / name}.db",
        }

    def _checked(self, model: type[S], values: Mapping[str, Any], where: str) -> S:
        try:
            return model.model_validate(values)
        except ValidationError as exc:
            self._problems += settings_problems(exc, where)
            # Not used: the plan is refused once the mistakes of the other services are known too.
            return cast("S", model.model_construct(host=LOOPBACK, port=0))

    def _nats_port(self) -> int | None:
        if self._config.nats_url is not None:
            return None
        given = {"port": self._config.nats_port} if self._config.nats_port else {}
        return self._port(given, DEFAULT_PORT)

    def _port(self, given: Mapping[str, Any], default: int) -> int:
        """The port given, else the default, else the next that is free."""
        if "port" in given:
            port: int = given["port"]
            return port
        port = next(
            port for port in range(default, 65_536) if port not in self._taken and _is_free(port)
        )
        self._taken.add(port)
        return port


def _log_name(use: str) -> str:
    """A name for a pipeline's files, of what its configuration calls it."""
    return "".join(letter if letter.isalnum() else "-" for letter in use).strip("-")


async def _name_of(program: Program) -> str:
    async with httpx.AsyncClient(trust_env=False) as client:
        health = (await client.get(f"{program.url}/health")).json()
    return str(health["service"])


def _is_free(port: int) -> bool:
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


@contextlib.contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Let no second orchestra play with the same files."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise ConfigurationError(
                f"data_dir {folder}: another orchestra is playing with it"
            ) from exc
        yield
