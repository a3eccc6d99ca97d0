"""Pipelines made of external commands, declared in a configuration file (YAML or JSON)."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Annotated, Any, Final

import yaml
from pydantic import BaseModel, ConfigDict, Field

from batuta.errors import ConfigurationError, one_line, shortened
from batuta.names import service_problem
from batuta.pipeline.context import Context, PipelineError
from batuta.pipeline.declaration import DEFAULT_TIMEOUT_S, Output, Pipeline, ProductSpec
from batuta.pipeline.exit_status import describe_exit
from batuta.validation import validated
from batuta.yaml_text import BoundedLoader, read_text, yaml_problem

PROGRESS: Final = re.compile(rb"^BATUTA_PROGRESS (\d{1,15})/(\d{1,15})\s*$")
"""A line on the command's standard output that reports its progress."""

MAX_LINE_BYTES: Final = 65_536
"""Of a longer line of standard error, so much is copied at once."""
MAX_LAST_WORDS: Final = 300
"""Characters of the last line of a command that failed, in its error."""

_PLACEHOLDER: Final = re.compile(r"\{([^{}]*)\}")
_PLAIN: Final = ("output", "obs_id", "product", "work_dir", "stage")
_ACCEPTED: Final = "{input:NAME}, {optional:NAME}, " + ", ".join(f"{{{name}}}" for name in _PLAIN)


class CommandDocument(BaseModel):
    """One product of a configuration file."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    command: Annotated[list[str], Field(min_length=1)]
    output: Annotated[str, Field(min_length=1)]
    inputs: list[str] = []
    optional: list[str] = []
    media_type: str | None = None
    timeout_s: float = DEFAULT_TIMEOUT_S
    max_attempts: int | None = None
    priority: int | None = None
    o_wait_s: float | None = None
    o_wait_from: str | None = None
    o_min: int | None = None
    on_update: str | None = None
    on_late: str | None = None
    approval: str | None = None
    late_result: str | None = None
    stages: str | None = None


class PipelineDocument(BaseModel):
    """A configuration file; products are checked one by one, to report all mistakes."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    provider: str
    products: Annotated[dict[str, dict[str, Any]], Field(min_length=1)]


@dataclass(frozen=True, kw_only=True)
class Command:
    """A command that makes a product; called like a pipeline's function.

    It is run without a shell, in the processing's work folder. Each placeholder of its words is
    replaced; a word that names a missing optional input is left out.
    """

    words: tuple[str, ...]
    output: str
    media_type: str | None = None

    def __call__(self, context: Context) -> Output:
        """Run it to its end and return its output.

        Raises
        ------
        PipelineError
            If it cannot be started, or exits with a code other than 0.
        """
        output = context.output_path(self.output)
        plain = {
            "output": str(output),
            "obs_id": context.obs_id,
            "product": context.product,
            "work_dir": str(context.work_dir),
            "stage": str(context.stage),
        }
        filled = [_fill(word, context, plain) for word in self.words]
        _run([word for word in filled if word is not None], context)
        return Output(output, media_type=self.media_type)


def read_pipeline(path: Path) -> Pipeline:
    """Read a pipeline of external commands.

    Raises
    ------
    ConfigurationError
        With every mistake, one line each.
    """
    document = validated(PipelineDocument, _parsed(path), source=str(path))
    problems = [service_problem("provider", document.provider)]
    specs: list[ProductSpec] = []
    for name, entry in document.products.items():
        try:
            specs.append(_spec(name, entry, path.absolute().parent))
        except ConfigurationError as exc:
            problems += exc.problems
    found = [f"{path}: {problem}" for problem in problems if problem]
    if found:
        raise ConfigurationError(found)
    pipeline = Pipeline(document.provider)
    for spec in specs:
        pipeline.declare(spec)
    return pipeline


def _parsed(path: Path) -> Any:
    """Read YAML, of which JSON is a part; keys given twice are refused."""
    text = read_text(path)
    try:
        return yaml.load(text, _UniqueKeys)  # noqa: S506  a SafeLoader
    except (yaml.YAMLError, ValueError, RecursionError) as exc:
        raise ConfigurationError(f"{path}: {yaml_problem(exc)}") from exc


class _UniqueKeys(BoundedLoader):
    """Refuses repeated keys, of which YAML would silently use the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key, (key_node, _) in zip(keys, node.value, strict=True):
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key!r} given twice", key_node.start_mark
                )
        return super().construct_mapping(node, deep)


def _spec(name: str, entry: Mapping[str, Any], beside: Path) -> ProductSpec:
    where = f"products.{name}"
    document = validated(CommandDocument, entry, within=where)
    command = Command(
        words=tuple(_absolute(word, beside) for word in document.command),
        output=document.output,
        media_type=document.media_type,
    )
    spec = ProductSpec(
        name=name,
        function=command,
        inputs=tuple(document.inputs),
        optional=tuple(document.optional),
        timeout_s=document.timeout_s,
        max_attempts=document.max_attempts,
        priority=document.priority,
        o_wait_s=document.o_wait_s,
        o_wait_from=document.o_wait_from,
        o_min=document.o_min,
        on_update=document.on_update,
        on_late=document.on_late,
        approval=document.approval,
        late_result=document.late_result,
        stages=document.stages,
    )
    problems = [*spec.problems(), *_command_problems(where, command, spec)]
    if problems:
        raise ConfigurationError(problems)
    return spec


def _absolute(word: str, beside: Path) -> str:
    """Make a word that names a file beside the configuration file the whole path of that file."""
    path = beside / word
    return str(path) if word and not _PLACEHOLDER.search(word) and path.is_file() else word


def _command_problems(where: str, command: Command, spec: ProductSpec) -> Iterator[str]:
    names = [name for word in command.words for name in _PLACEHOLDER.findall(word)]
    for name in dict.fromkeys(names):
        kind, colon, product = name.partition(":")
        declared = {"input": spec.inputs, "optional": spec.optional}.get(kind)
        if colon and declared is not None:
            if product not in declared:
                key = "inputs" if kind == "input" else "optional"
                yield f"{where}.command: {{{name}}}: {product!r} is not in {key}"
        elif name not in _PLAIN:
            yield f"{where}.command: {{{name}}}: unknown placeholder (accepted: {_ACCEPTED})"
    if "output" not in names:
        yield f"{where}.command: {{output}} is missing: no word names the file to write"
    if Path(command.output).name != command.output or command.output in {".", ".."}:
        yield f"{where}.output: {command.output!r} is not the name of a file"
    program = command.words[0]
    if not _PLACEHOLDER.search(program) and shutil.which(program, path=_search_path()) is None:
        yield f"{where}.command: program {program!r}: not found beside the file or on PATH"


def _fill(word: str, context: Context, plain: Mapping[str, str]) -> str | None:
    """Replace the placeholders of `word`; None if it names a missing optional input."""
    missing = False

    def value(match: re.Match[str]) -> str:
        nonlocal missing
        kind, _, product = match.group(1).partition(":")
        if kind == "input":
            return str(context.input(product))
        if kind == "optional":
            path = context.optional_input(product)
            missing = missing or path is None
            return str(path)
        return plain[kind]

    filled = _PLACEHOLDER.sub(value, word)
    return None if missing else filled


def _run(command: list[str], context: Context) -> None:
    environment = {**os.environ, "PATH": _search_path()}
    program = shutil.which(command[0], path=_search_path()) or command[0]
    context.log.info("running %s", command)
    try:
        process = subprocess.Popen(
            [program, *command[1:]],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
        )
    except OSError as exc:
        raise PipelineError(f"{command[0]} cannot be started: {exc.strerror}") from exc
    with process, ThreadPoolExecutor(1, "stderr") as pool:
        assert process.stdout is not None  # noqa: S101  it is a pipe
        assert process.stderr is not None  # noqa: S101  it is a pipe
        last_words = pool.submit(_copy_errors, process.stderr)
        _follow(process.stdout, context)
    if process.returncode != 0:
        said = f": {words}" if (words := last_words.result()) else ""
        name = Path(command[0]).name
        raise PipelineError(f"{name} {describe_exit(process.returncode)}{said}")


def _follow(stdout: IO[bytes], context: Context) -> None:
    """Copy the command's output to the log, except the lines that report progress."""
    for line in stdout:
        found = PROGRESS.match(line)
        if found and int(found[1]) <= int(found[2]):
            context.progress(int(found[1]), int(found[2]))
        else:
            os.write(1, line)


def _copy_errors(stderr: IO[bytes]) -> str:
    """Copy the command's standard error to the log; return its last line that is not blank."""
    last = b""
    for line in iter(lambda: stderr.readline(MAX_LINE_BYTES), b""):
        os.write(2, line)
        last = line.strip() or last
    return shortened(one_line(last.decode(errors="replace")), MAX_LAST_WORDS)


def _search_path() -> str:
    """PATH, with the programs installed beside this Python first, so that `python` is it."""
    beside = str(Path(sys.executable).parent)
    return os.pathsep.join([beside, os.environ.get("PATH", os.defpath)])
