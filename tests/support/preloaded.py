"""Processes of a run of several (pytest-xdist), forked from one that has imported all the tests.

To import the tests, and all that they test, takes 15 s of processor time, which each process of a
run would spend. What these processes leave behind, however they end, is killed.
"""

import atexit
import contextlib
import gc
import importlib
import os
import signal
import socket
import sys
import threading
import types
import uuid
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NoReturn

import pytest
from _pytest.assertion.rewrite import AssertionRewritingHook
from _pytest.config import apply_warning_filters

from batuta.process_family import die_with_parent, fork_supervised

_CLIENT: Final = Path(__file__).with_name("preloaded_client.py")
_BOOTSTRAP: Final = "import sys;exec(eval(sys.stdin.readline()))"
"""What execnet has a Python do that it starts: it reads what else to do."""


def start_preloaded(config: pytest.Config) -> str:
    """Fork the process that imports the tests; return the command that forks another from it.

    The command is what execnet starts instead of ``python``. To be called in the process that
    distributes the tests, before it has started any thread.
    """
    name = f"batuta-tests-{uuid.uuid4().hex}"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"\0{name}")  # no file, which would have to be removed (unix(7))
    listener.listen()
    running_fd, held_open_fd = os.pipe()
    owner = os.getpid()
    if os.fork() == 0:
        # It stays open in the owner alone, which tells the others that it runs.
        os.close(held_open_fd)
        _preload_and_fork(config, listener, running_fd, owner)
    listener.close()
    os.close(running_fd)
    return f"{sys.executable} -I -S {_CLIENT} {name}"


def _preload_and_fork(
    config: pytest.Config, listener: socket.socket, running_fd: int, owner: int
) -> NoReturn:
    try:
        # Ctrl-C is for those who run tests; this one ends with its owner.
        on_interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN)
        die_with_parent(owner)
        _import_tests(config)
        gc.freeze()  # what is shared stays so: a collection would write to all of it
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for what is forked
        while True:
            connection, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                signal.signal(signal.SIGINT, on_interrupt)
                _serve(connection, running_fd)
            connection.close()
    except BaseException:  # noqa: BLE001  shown: what called this is not to go on twice
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(1)


def _import_tests(config: pytest.Config) -> None:
    """Import what will be collected, with the warnings that are errors there."""
    with warnings.catch_warnings():
        apply_warning_filters(config.getini("filterwarnings"), [])
        for path in _test_modules(config):
            name = ".".join(path.relative_to(config.rootpath).with_suffix("").parts)
            # Skipped or failed: so it will be where it is collected, which tells.
            with contextlib.suppress(Exception, pytest.skip.Exception, SystemExit):
                importlib.import_module(name)


def _test_modules(config: pytest.Config) -> Iterator[Path]:
    for argument in config.args:
        path = Path(config.invocation_params.dir, argument.partition("::")[0]).resolve()
        if path.is_relative_to(config.rootpath):
            yield from sorted(path.rglob("test_*.py")) if path.is_dir() else [path]


def _serve(connection: socket.socket, running_fd: int) -> NoReturn:
    """Do what execnet has the started process do, and end as a process of its own does."""
    _, fds, _, _ = socket.recv_fds(connection, 1, 3)
    for target, fd in enumerate(fds):
        os.dup2(fd, target)
        os.close(fd)
    fork_supervised(lambda: _wait_for_end(running_fd), running_fd)
    # `connection` stays open as long as this process.
    sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w", buffering=1)  # noqa: SIM115
    _forget_owner()
    code = 0
    try:
        exec(_BOOTSTRAP, vars(sys.modules["__main__"]))  # noqa: S102  as execnet does
    except SystemExit as exc:
        code = exc.code if isinstance(exc.code, int) else 1
    except BaseException:  # noqa: BLE001  shown: what called this is not to go on twice
        sys.excepthook(*sys.exc_info())
        code = 1
    finally:
        _end(code)


def _wait_for_end(running_fd: int) -> None:
    os.read(running_fd, 1)


def _forget_owner() -> None:
    """Make this process one that was started as ``python -c``, rather than as pytest."""
    warnings.resetwarnings()
    for category in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
        warnings.simplefilter("ignore", category)  # as Python does
    main = types.ModuleType("__main__")
    main.__spec__ = None
    sys.modules["__main__"] = main
    sys.argv = ["-c"]
    sys.meta_path[:] = [
        each for each in sys.meta_path if not isinstance(each, AssertionRewritingHook)
    ]


def _end(code: int) -> NoReturn:
    threading._shutdown()  # type: ignore[attr-defined]  # as an interpreter that ends does
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)
