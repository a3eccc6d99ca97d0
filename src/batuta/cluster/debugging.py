"""What a debugger needs of tasks: to run in this process, and to tell it what they raise."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

from batuta.cluster.config import SequentialConfig
from batuta.cluster.config_keys import keys_of

_HOOK: Final[ContextVar[Callable[[BaseException], None] | None]] = ContextVar("hook", default=None)


@contextmanager
def task_errors_to(hook: Callable[[BaseException], None]) -> Iterator[None]:
    """Call `hook` with each exception of a task, before its frames are dropped.

    Of the mode `sequential` alone. What the hook raises ends the run.
    """
    token = _HOOK.set(hook)
    try:
        yield
    finally:
        _HOOK.reset(token)


def report_task_error(exc: BaseException) -> None:
    """Call the hook, if there is one."""
    hook = _HOOK.get()
    if hook is not None:
        hook(exc)


def in_this_process(configuration: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """Return a configuration, made sequential where there is a hook."""
    if _HOOK.get() is None:
        return configuration
    known = keys_of(SequentialConfig)
    kept = {key: value for key, value in (configuration or {}).items() if key in known}
    return {**kept, "mode": "sequential"}
