"""Makes what calls the tasks of a worker, profiled as its run asks for.

Profilers are imported when one is asked for: a worker that only measures its tasks imports neither
cProfile nor memray.
"""

import importlib.util
import sys

from batuta.errors import ConfigurationError
from batuta.profiling.capture.contract import Caller, Profiler, ProfileSink
from batuta.profiling.capture.options import ProfileOptions
from batuta.profiling.capture.profiler import (
    NullProfiler,
    PlainCaller,
    ProfiledCaller,
    SerialCaller,
)
from batuta.profiling.capture.records import WorkerId


def make_caller(options: ProfileOptions | None, worker: WorkerId, sink: ProfileSink) -> Caller:
    """Make what calls the tasks of a process.

    Parameters
    ----------
    options : ProfileOptions or None
        How tasks are profiled; None where they are not.
    worker : WorkerId
        This process.
    sink : ProfileSink
        Where profiles are delivered.

    Raises
    ------
    ConfigurationError
        As `check_available`.
    """
    if options is None or (options.mode == "cars_profiling" and options.loops == 1):
        return PlainCaller()
    check_available(options)
    if options.loops > 1:
        return SerialCaller(_make_repeating_caller(options, worker, sink))
    return SerialCaller(ProfiledCaller(_make_profiler(options, worker, sink)))


def check_available(options: ProfileOptions | None) -> None:
    """Check that the profiler that is asked for is installed.

    Raises
    ------
    ConfigurationError
        If memray is asked for and is not installed, or cannot be.
    """
    if options is None or options.mode != "memray" or importlib.util.find_spec("memray"):
        return
    remedy = "pip install 'batuta[profiling]'"
    if sys.platform == "win32":
        remedy = 'it does not run on Windows; use mode "cars_profiling" or "cprofile"'
    raise ConfigurationError(f"profiling.mode: memray is not installed: {remedy}")


def _make_profiler(options: ProfileOptions, worker: WorkerId, sink: ProfileSink) -> Profiler:
    if options.mode == "cprofile":
        from batuta.profiling.capture.cprofile import CProfileProfiler  # noqa: PLC0415 - on demand

        return CProfileProfiler(options.scope, worker, sink)
    if options.mode == "memray":
        from batuta.profiling.capture.memray import MemrayProfiler  # noqa: PLC0415 - on demand

        return MemrayProfiler(options.scope, worker, sink)
    return NullProfiler()


def _make_repeating_caller(options: ProfileOptions, worker: WorkerId, sink: ProfileSink) -> Caller:
    if options.mode == "memray":
        from batuta.profiling.capture.leaks import LeakCaller  # noqa: PLC0415 - on demand

        return LeakCaller(options.loops, worker, sink)
    from batuta.profiling.capture.repeat import RepeatingCaller  # noqa: PLC0415 - on demand

    profiler = _make_profiler(options, worker, sink)
    return RepeatingCaller(options.loops, profiler, worker, sink)
