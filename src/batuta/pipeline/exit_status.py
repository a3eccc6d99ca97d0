"""Describes how a process ended."""

import signal


def describe_exit(exit_code: int | None) -> str:
    """Describe an exit code of `subprocess` or `multiprocessing`: negative for a signal."""
    if exit_code is None or exit_code >= 0:
        return f"exited with code {exit_code}"
    try:
        name = signal.Signals(-exit_code).name
    except ValueError:
        name = "unknown"
    return f"killed by signal {-exit_code} ({name})"
