"""The process that draws one file: ``python -m batuta.quicklook PARENT MODULE PATH``.

It writes one byte and the picture, or one byte and why there is none, to its standard output.
"""

import importlib
import io
import os
import resource
import signal
import sys
import warnings
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from batuta.errors import describe_error
from batuta.process_family import die_with_parent
from batuta.quicklook.kinds import KINDS
from batuta.quicklook.limits import MAX_MEMORY_BYTES, MAX_TIME_S, CannotDrawError
from batuta.quicklook.process import PICTURE, REASON

if TYPE_CHECKING:
    from PIL.Image import Image


def main(parent: int, module: str, path: Path) -> None:
    """Draw `path` by `module`, and write what comes of it."""
    die_with_parent(parent)
    answer = _only_output()
    # pyarrow would import it, for half a second; nothing here needs it.
    sys.modules["pandas"] = None  # type: ignore[assignment]  # as the import system documents
    _bound_resources()
    with warnings.catch_warnings(action="ignore"):
        result = _result(module, path)
    while result:
        result = result[os.write(answer, result) :]


def _only_output() -> int:
    """Return a descriptor of the standard output; what libraries print goes nowhere."""
    answer = os.dup(1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    return answer


def _bound_resources() -> None:
    """Bound memory and time, and be the first that a kernel out of memory ends."""
    # Of what may be written alone: a large file that is mapped to be read takes no memory.
    for limit, value in (
        (resource.RLIMIT_DATA, MAX_MEMORY_BYTES),
        (resource.RLIMIT_CPU, MAX_TIME_S),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(limit)[1]
        if hard == resource.RLIM_INFINITY or hard > value:
            resource.setrlimit(limit, (value, value))
    # For the systems where nobody else ends it, once its parent is gone.
    signal.alarm(MAX_TIME_S + 5)
    with suppress(OSError):  # another system than Linux
        Path("/proc/self/oom_score_adj").write_text("1000")


def _result(module: str, path: Path) -> bytes:
    if module not in {kind.module for kind in KINDS}:
        return REASON + f"{module}: no kind is drawn by it".encode()
    try:
        draw = importlib.import_module(f"batuta.quicklook.{module}").draw
        return PICTURE + _encoded(draw(path))
    except CannotDrawError as exc:
        return REASON + str(exc).encode()
    except MemoryError:
        return REASON + f"it needs more than {MAX_MEMORY_BYTES // 2**20} MiB of memory".encode()
    except Exception as exc:  # noqa: BLE001  of an untrusted file, libraries raise anything
        return REASON + f"it cannot be read: {describe_error(exc)}".encode()


def _encoded(picture: "Image") -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=False, compress_level=6)
    return buffer.getvalue()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
