"""The deployment plan of an orchestra: its configuration checked as a whole, its ports bound."""

import difflib
import json
import os
import socket
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Generic, Literal, Self, TypeVar, cast

from pydantic import BaseModel, ConfigDict, Field

from batuta.cli.deployment.nats_check import nats_works
from batuta.cli.deployment.pipeline_checks import compare, load_declarations
from batuta.cli.deployment.places import conductor_places, sdb_places
from batuta.cli.deployment.supervisor import Program, answers_health, python_program
from batuta.cli.deployment.tls_plan import OrchestraTls, PlannedTls
from batuta.cli.options import arguments_of, read_document, secrets_of
from batuta.conductor.settings import ConductorSettings
from batuta.credentials import STORE_VARIABLES
from batuta.dashboard.settings import DashboardSettings
from batuta.errors import ConfigurationError
from batuta.graph import DeclaredPipeline, Graph, derive_document, load_override, read_graph
from batuta.messaging import NatsConfig
from batuta.messaging.server import (
    DEFAULT_PORT,
    server_answers,
    server_command,
)
from batuta.pipeline.settings import PipelineSettings
from batuta.pipeline.simulate.settings import SimulateSettings
from batuta.private_files import write_private
from batuta.sdb.settings import SdbSettings, store_folder
from batuta.service.settings import LOOPBACK, TOKEN_FILE, ServiceSettings, Token
from batuta.service.sockets import address_of, listen
from batuta.service.token_file import read_tokens
from batuta.tls import ServerCertificate
from batuta.validation import validated
from batuta.yaml_text import read_text

LAST_PORT: Final = 65_535
DERIVED_GRAPH: Final = "graph.json"
"""In `data_dir`."""

STOP_ORDER: Final = {
    # It would record that the others do not answer, and leave their instances alone for it.
    "conductor": 0,
    # Nobody needs it.
    "dashboard": 0,
    # What they import, and that they stop, is still taken.
    "pipeline": 1,
    "simulate": 1,
    "sdb": 2,
    # All of them publish what is left, and that they stop.
    "nats": 3,
}
"""In which order services are stopped, those of one number at once: none before those that call
it."""

S = TypeVar("S", bound=ServiceSettings)


class OrchestraConfig(BaseModel):
    """The configuration of ``batuta up``: the services, each with the options that it sets.

    Paths in it are relative to the folder of its file. A service without a port
    listens on its default one, or on the next free one if that is in use.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    data_dir: Path = Field(Path("batuta-data"), description="Where everything is kept.")
    nats_url: str | None = Field(None, description="A NATS that runs; without it, one is started.")
    nats_port: int | None = Field(None, ge=1, le=65_535, description="Port of the NATS started.")
    nats_tls_ca: Path | None = Field(None, description="Authorities of that NATS, PEM.")
    nats_tls_cert: Path | None = Field(None, description="Certificate shown to that NATS, PEM.")
    nats_tls_key: Path | None = Field(None, description="Key of that certificate, PEM.")
    token: Token | None = Field(None, description="Token of every service.")
    tokens: Path | None = Field(
        None, description="File of named tokens; by default tokens.yaml in data_dir."
    )
    tls: OrchestraTls | None = Field(
        None, description="Certificate of every service and of the NATS that is started."
    )
    sdb: dict[str, Any] = Field(default_factory=dict, description="Options of the sdb.")
    conductor: dict[str, Any] = Field(
        default_factory=dict,
        description="Options of the conductor; without graph, it is derived from the pipelines.",
    )
    graph_override: Path | None = Field(
        None, description="JSON or YAML: keys of a derived graph that the pipelines do not state."
    )
    pipelines: list[Any] = Field(
        default_factory=list,
        description="For each pipeline `use`, MODULE:NAME or a file, and its options.",
    )
    reload: bool = Field(False, description="Whether pipelines load edited code again.")
    dashboard: dict[str, Any] | Literal[False] = Field(
        default_factory=dict, description="Options of the dashboard; false for none."
    )
    simulate: dict[str, Any] | None = Field(
        None, description="Options of the simulated pipeline, for providers that have no other."
    )


@dataclass(frozen=True)
class BoundService(Generic[S]):
    """A service of the plan: its settings, and the socket it will listen on, bound already."""

    settings: S
    sock: socket.socket
    certificate: ServerCertificate | None = None

    @property
    def url(self) -> str:
        """The URL of the service."""
        return address_of(self.sock, self.certificate)


def plan_orchestra(path: Path, *, reload: bool = False) -> "DeploymentPlan":
    """Read a configuration file and check all of it: its form, its graph, its pipelines.

    With `reload`, pipelines that do not say otherwise load edited code again.

    Raises
    ------
    ConfigurationError
        One line for each mistake, whatever it is in.
    """
    document = read_document(path)
    problems: tuple[str, ...] = ()
    try:
        config = validated(OrchestraConfig, document, source=str(path))
    except ConfigurationError as exc:
        problems = exc.problems
        # The rest is checked all the same: the user wants to know everything.
        config = OrchestraConfig.model_validate(
            {key: value for key, value in document.items() if _is_sound(key, value)}
        )
    return DeploymentPlan(
        config.model_copy(update={"reload": reload or config.reload}),
        path.resolve().parent,
        source=str(path),
        problems=problems,
        load_pipelines=True,
    )


def _is_sound(key: object, value: object) -> bool:
    try:
        validated(OrchestraConfig, {key: value})
    except ConfigurationError:
        return False
    return True


class DeploymentPlan:
    """The settings of every service, checked together, and their sockets, open until closed.

    Parameters
    ----------
    config : OrchestraConfig
        The configuration.
    folder : Path
        The folder that its paths are relative to.
    source : str
        The file that it was read from: named in messages.
    problems : sequence of str
        Mistakes that were found when it was read.
    load_pipelines : bool
        Whether to load the pipelines, and to compare them with the graph.

    Attributes
    ----------
    warnings : list of str
        What may be a mistake, and is no reason not to start.

    Raises
    ------
    ConfigurationError
        One line for each mistake and for each port in use.
    """

    def __init__(
        self,
        config: OrchestraConfig,
        folder: Path,
        *,
        source: str = "",
        problems: Sequence[str] = (),
        load_pipelines: bool = False,
    ) -> None:
        self._config = config
        self._folder = folder
        self._source = source
        self._problems = list(problems)
        self.warnings: list[str] = []
        self._names: dict[str, str] = {}
        self._derived: dict[str, Any] | None = None
        self._sockets: list[socket.socket] = []
        self.data_dir = (folder / config.data_dir).resolve()
        self.tls = PlannedTls(config.tls, folder.resolve())
        self.nats_port = self._nats_port()
        self._token_file = self._checked_token_file()
        self.sdb = self._sdb()
        self.pipelines = [
            self._pipeline(number, part) for number, part in enumerate(config.pipelines)
        ]
        self.simulate = self._simulate()
        self._conductor = self._conductor_part()
        self.dashboard = self._dashboard()
        declared = self._load_pipelines() if load_pipelines else None
        self._graph = self._read_graph(declared)
        if declared is not None and self._graph is not None:
            self._check_pipelines(self._graph, declared)
            self.simulate = self._without_others(self.simulate, self._graph, declared)
        for line in self.tls.problems():
            self._refuse(line)
        self.warnings += self.tls.warnings()
        if self._problems:
            self.close()
            raise ConfigurationError(self._problems)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the sockets."""
        for sock in self._sockets:
            sock.close()

    @property
    def nats_url(self) -> str:
        """The URL of NATS, running or to be started."""
        scheme = "nats" if self.tls.certificate is None else "tls"
        return self._config.nats_url or f"{scheme}://{LOOPBACK}:{self.nats_port}"

    @property
    def nats_is_started(self) -> bool:
        """Whether to start a server; otherwise a running one is used."""
        return self._config.nats_url is None

    @property
    def nats_config(self) -> NatsConfig:
        """How NATS is reached, running or to be started."""
        token = self._config.token.get_secret_value() if self._config.token else None
        if not self.nats_is_started:
            token = os.environ.get("BATUTA_NATS_TOKEN")
        tls = {name.removeprefix("nats_"): each for name, each in self._nats_tls().items()}
        return NatsConfig(url=self.nats_url, token=token, **tls)

    def _nats_tls(self) -> dict[str, Any]:
        """Return the settings of all clients of NATS that its TLS needs."""
        if not self.nats_is_started:
            names = ("nats_tls_ca", "nats_tls_cert", "nats_tls_key")
            given = {name: getattr(self._config, name) for name in names}
            return {name: self._folder / path for name, path in given.items() if path is not None}
        return self.tls.nats_options(LOOPBACK)

    def change_nats_port(self) -> bool:
        """Choose another port for NATS, whose first was lost; return False if configured."""
        if self._config.nats_port is not None:
            return False
        self.nats_port = self._nats_port()
        return True

    def nats(self) -> Program:
        """Return the NATS server to start."""
        name = f"batuta-{uuid.uuid4().hex}"
        token = self._config.token.get_secret_value() if self._config.token else None
        pair = self.tls.pair
        command = server_command(
            self.data_dir / "nats", self.nats_port, LOOPBACK, name, token, pair
        )
        return Program(
            name="nats",
            command=python_program("-m", "batuta.service.lifeline_main", *command),
            url=self.nats_url,
            # Another server may have bound the port since it was found free: compare names.
            ready=partial(server_answers, LOOPBACK, self.nats_port, name),
            works=partial(
                nats_works,
                self.nats_config,
                self.data_dir / "nats",
                self.sdb.url,
            ),
            stop_order=STOP_ORDER["nats"],
            reads=() if pair is None else (pair.cert, pair.key),
        )

    def service(self, kind: str, part: BoundService[S], use: str = "") -> Program:
        """Return the program that runs `part`, ``batuta <kind> [<use>]``."""
        settings = part.settings
        if "nats_url" not in settings.model_fields_set:
            # The port of NATS may change until it runs.
            settings = settings.model_copy(update=self._nats_settings())
        first = [use] if use else []
        return Program(
            name=self._names.get(use, file_name(use)) if use else kind,
            command=python_program("-m", "batuta", kind, *first, *arguments_of(settings)),
            url=part.url,
            ready=partial(answers_health, part.url),
            sock=part.sock,
            environment=secrets_of(settings),
            hidden=self._hidden_from(kind),
            folder=self._folder,
            stop_order=STOP_ORDER[kind],
        )

    def _hidden_from(self, kind: str) -> frozenset[str]:
        """Return the variables that a service has no use for: the keys of the sdb's bucket."""
        own = kind == "sdb" or store_folder(self.sdb.settings.store_url) is not None
        return frozenset() if own else STORE_VARIABLES

    def _nats_settings(self) -> dict[str, Any]:
        given = {"nats_url": self.nats_url, **self._nats_tls()}
        return {**given, "nats_token": self._config.token} if self.nats_is_started else given

    def conductor(self, providers: Mapping[str, str]) -> BoundService[ConductorSettings]:
        """Return the conductor, once the URLs of `providers` are known."""
        part = self._conductor
        # The conductor refuses the address of a provider that its graph does not have.
        used = self._graph.providers if self._graph is not None else {}
        known = {name: url for name, url in providers.items() if name in used}
        urls = {**known, **part.settings.provider_urls}
        settings = part.settings.model_copy(update={"provider_urls": urls})
        return replace(part, settings=settings)

    def _sdb(self) -> BoundService[SdbSettings]:
        values = {**sdb_places(self.data_dir), **self._config.sdb}
        return self._part(SdbSettings, values, "sdb")

    def _conductor_part(self) -> BoundService[ConductorSettings]:
        values = {
            **conductor_places(self.data_dir),
            "sdb_url": self.sdb.url,
            **self._with_graph_path(self._config.conductor),
        }
        if self._problems:
            # That the graph is missing may only follow from what is told already.
            values.setdefault("graph", self.data_dir / DERIVED_GRAPH)
        return self._part(ConductorSettings, values, "conductor")

    def _dashboard(self) -> BoundService[DashboardSettings] | None:
        if self._config.dashboard is False:
            return None
        values = {
            "sdb_url": self.sdb.url,
            "conductor_url": self._conductor.url,
            **self._config.dashboard,
        }
        return self._part(DashboardSettings, values, "dashboard")

    def _pipeline(self, number: int, given: object) -> tuple[str, BoundService[PipelineSettings]]:
        where = f"pipelines[{number}]"
        options = dict(given) if isinstance(given, dict) else {}
        use = options.pop("use", None)
        if not isinstance(use, str) or not use:
            self._refuse(f"{where}: {_without_use(given)}")
            return "", self._placeholder(PipelineSettings)
        values = {
            "sdb_url": self.sdb.url,
            "data_dir": self.data_dir / "pipelines" / file_name(use),
            "reload": self._config.reload,
            **options,
        }
        return use, self._part(PipelineSettings, values, where)

    def _simulate(self) -> BoundService[SimulateSettings] | None:
        if self._config.simulate is None:
            return None
        values = {
            "sdb_url": self.sdb.url,
            "data_dir": self.data_dir / "simulate",
            **self._with_graph_path({**self._conductor_graph(), **self._config.simulate}),
        }
        return self._part(SimulateSettings, values, "simulate")

    def _without_others(
        self,
        part: BoundService[SimulateSettings] | None,
        graph: Graph,
        declared: Sequence[DeclaredPipeline],
    ) -> BoundService[SimulateSettings] | None:
        """Return the simulated pipeline without the providers that others are: they report too."""
        if part is None:
            return None
        others = {each.name for each in declared} | self._conductor.settings.provider_urls.keys()
        elsewhere = sorted({*part.settings.elsewhere, *(others & graph.providers.keys())})
        settings = part.settings.model_copy(update={"elsewhere": elsewhere})
        return replace(part, settings=settings)

    def _conductor_graph(self) -> dict[str, Any]:
        return {
            key: self._config.conductor[key] for key in ("graph",) if key in self._config.conductor
        }

    @property
    def _graph_is_derived(self) -> bool:
        return "graph" not in self._config.conductor and bool(self._config.pipelines)

    def _with_graph_path(self, given: Mapping[str, Any]) -> dict[str, Any]:
        values = dict(given)
        if "graph" in values:
            values["graph"] = self._folder / str(values["graph"])
        elif self._graph_is_derived:
            values["graph"] = self.data_dir / DERIVED_GRAPH
        return values

    def _load_pipelines(self) -> list[DeclaredPipeline] | None:
        uses = [use for use, _ in self.pipelines if use]
        declared, problems = load_declarations(uses, self._folder)
        self._problems += problems
        self._names = {each.use: each.name for each in declared}
        return None if problems else declared

    def _check_pipelines(self, graph: Graph, declared: Sequence[DeclaredPipeline]) -> None:
        """Check that graph and pipelines agree."""
        findings = compare(
            graph,
            declared,
            elsewhere=self._conductor.settings.provider_urls.keys(),
            simulated=self._config.simulate is not None,
        )
        self._problems += findings.problems
        self.warnings += findings.warnings

    def _read_graph(self, declared: Sequence[DeclaredPipeline] | None) -> Graph | None:
        try:
            if self._graph_is_derived:
                return None if declared is None else self._derive_graph(declared)
            if self._config.graph_override is not None:
                self._refuse("graph_override: the graph of the conductor is a file: edit that")
            path = self._with_graph_path(self._config.conductor).get("graph")
            return read_graph(path) if path is not None else None
        except ConfigurationError as exc:
            self._problems += exc.problems
            return None

    def _derive_graph(self, declared: Sequence[DeclaredPipeline]) -> Graph:
        override = None
        if self._config.graph_override is not None:
            path = self._folder / self._config.graph_override
            override = load_override(read_text(path), str(path))
        self._derived = derive_document(declared, override)
        return Graph.parse(self._derived, "the graph derived from the pipelines")

    def write_derived_graph(self) -> None:
        """Write the graph that was derived, where the conductor reads it."""
        if self._derived is not None:
            text = json.dumps(self._derived, indent=2, ensure_ascii=False)
            write_private(self.data_dir / DERIVED_GRAPH, f"{text}\n")

    def _checked_token_file(self) -> Path:
        """Return the file of named tokens; a mistake in it is told before anything starts."""
        given = self._config.tokens
        path = self.data_dir / TOKEN_FILE.name if given is None else self._folder / given
        try:
            if read_tokens(path) and self._config.token is None:
                self.warnings.append(f"{path}: without token, nothing is required of callers")
        except ConfigurationError as exc:
            self._problems += [f"tokens: {line}" for line in exc.problems]
        return path.absolute()

    def _refuse(self, line: str) -> None:
        self._problems.append(f"{self._source}: {line}" if self._source else line)

    def _part(self, model: type[S], given: Mapping[str, Any], where: str) -> BoundService[S]:
        """Validate the settings of a service, and bind its port."""
        values = {
            "token": self._config.token,
            "tokens": self._token_file,
            **self.tls.options,
            **given,
        }
        try:
            settings = validated(model, values, within=where)
        except ConfigurationError as exc:
            for line in exc.problems:
                self._refuse(line)
            return self._placeholder(model)
        try:
            settings.require_token_beyond_loopback()
            settings, certificate = self.tls.of_service(settings)
            sock = self._listen(settings, exactly="port" in given)
        except ConfigurationError as exc:
            for line in exc.problems:
                self._refuse(f"{where}: {line}")
            return self._placeholder(model)
        port = sock.getsockname()[1]
        bound = BoundService(settings.model_copy(update={"port": port}), sock, certificate)
        self.tls.note(where, bound.url, settings, certificate)
        return bound

    def _placeholder(self, model: type[S]) -> BoundService[S]:
        """Return what stands for a service until the mistakes of all are collected."""
        nothing = cast("S", model.model_construct(host=LOOPBACK, port=0))
        return BoundService(nothing, self._keep_open(listen(LOOPBACK, 0)))

    def _listen(self, settings: ServiceSettings, *, exactly: bool) -> socket.socket:
        """Bind exactly the given port, or the first free one from the default on."""
        if exactly:
            return self._keep_open(listen(settings.host, settings.port))
        for port in range(settings.port, LAST_PORT):
            try:
                return self._keep_open(listen(settings.host, port))
            except ConfigurationError:
                continue
        return self._keep_open(listen(settings.host, 0))

    def _keep_open(self, sock: socket.socket) -> socket.socket:
        self._sockets.append(sock)
        return sock

    def _nats_port(self) -> int:
        """Return a port that is free now; NATS binds it by itself, later."""
        config = self._config
        if config.nats_url is not None:
            return 0
        wanted = ServiceSettings(port=config.nats_port or DEFAULT_PORT)
        try:
            sock = self._listen(wanted, exactly=config.nats_port is not None)
        except ConfigurationError as exc:
            for line in exc.problems:
                self._refuse(f"nats_port: {line}")
            return 0
        port: int = sock.getsockname()[1]
        self._sockets.remove(sock)
        sock.close()
        return port


def _without_use(given: object) -> str:
    """Return what to write in the place of a pipeline that has no `use`."""
    if isinstance(given, str):
        return f'write "- use: {given}"'
    keys = list(given) if isinstance(given, dict) else []
    for key in difflib.get_close_matches("use", map(str, keys), n=1):
        return f"the key {key!r} is unknown (did you mean 'use'?)"
    return 'write "- use: MODULE:NAME", as in "- use: weather:pipeline"'


def file_name(use: str) -> str:
    """Return a file name for a pipeline, made from its `use` in the configuration."""
    return "".join(letter if letter.isalnum() else "-" for letter in use).strip("-")
