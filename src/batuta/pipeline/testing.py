r"""For the tests of a pipeline's author: products are made in this process, without services.

::

    from batuta.pipeline.testing import make_product

    def test_the_mean_is_that_of_the_readings():
        made = make_product(pipeline, "STATISTICS", inputs={"READINGS": b"value\n1\n3\n"})
        assert made.metadata["mean"] == 2
"""

import logging
import shutil
import tempfile
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import Any

from batuta.errors import ConfigurationError
from batuta.pipeline.declaration import Pipeline
from batuta.pipeline.local_run import (
    DEFAULT_OBS_ID,
    LocalRun,
    MadeFile,
    Source,
    find_product,
    input_problems,
    obs_id_problem,
    run_product,
)
from batuta.pipeline.log_format import log_formatter

__all__ = ["MadeFile", "MadeProduct", "make_product"]


class MadeProduct:
    """A product that was made by `make_product`; its files live as long as it does.

    Attributes
    ----------
    path : Path
        Its file.
    metadata : mapping
        As an archive would store it.
    media_type : str
        Such as ``text/csv``.
    quicklook : Path or None
        The picture that was given with it, if that can be used.
    by_products : mapping of str to MadeFile
        What was made besides, by product.
    inputs : tuple of str
        What the function read.
    progress : tuple of int or None
        Steps done, and their total, as reported last.
    log : str
        What the log of the processing would have: the records of `logging`, a line each.
    """

    def __init__(self, run: LocalRun, log: str, work_dir: Path) -> None:
        main, *others = run.files
        self.path = main.path
        self.metadata: Mapping[str, Any] = main.metadata
        self.media_type = main.media_type
        self.quicklook = main.quicklook
        self.by_products = {each.product: each for each in others}
        self.inputs = run.inputs
        self.progress = run.progress
        self.log = log
        weakref.finalize(self, shutil.rmtree, work_dir, ignore_errors=True)


def make_product(
    pipeline: Pipeline,
    product: str,
    *,
    inputs: Mapping[str, Source] | None = None,
    obs_id: str = DEFAULT_OBS_ID,
) -> MadeProduct:
    """Make a product in this process, as a pipeline service would.

    The function gets a context, a work folder that is the current one, and copies of its inputs;
    what it returns is checked as it is before it is archived.

    Parameters
    ----------
    pipeline : Pipeline
        It makes the product.
    product : str
        Its name.
    inputs : mapping, optional
        By name: the path of a file, or its bytes. An optional input that is not among them is
        None for the function.
    obs_id : str
        The observation.

    Returns
    -------
    MadeProduct
        Its file, metadata, log and progress.

    Raises
    ------
    ConfigurationError
        If the pipeline does not make it, or an input is missing or unknown; one line each.
    PipelineError
        If the function violates its declaration, or what it returned cannot be archived.
    BaseException
        Whatever else the function raises.
    """
    given = dict(inputs or {})
    spec = find_product(pipeline, product)
    problems = [*input_problems([spec], (), given), *filter(None, [obs_id_problem(obs_id)])]
    if problems:
        raise ConfigurationError(problems)
    given = {
        name: source if isinstance(source, bytes) else Path(source).absolute()
        for name, source in given.items()
    }
    work_dir = Path(tempfile.mkdtemp(prefix="batuta-")).resolve()
    try:
        with _captured_log() as log:
            run = run_product(pipeline, spec, given, work_dir, obs_id=obs_id)
    except BaseException:
        shutil.rmtree(work_dir, ignore_errors=True)
        raise
    return MadeProduct(run, log.getvalue(), work_dir)


@contextmanager
def _captured_log() -> Iterator[StringIO]:
    """Collect what is logged, at the level of a processing's log."""
    text = StringIO()
    handler = logging.StreamHandler(text)
    handler.setFormatter(log_formatter())
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        yield text
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
