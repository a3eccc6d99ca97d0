"""The command."""

import json
import logging
import sys
from pathlib import Path


def main() -> None:
    """Run the program as the arguments say."""
    from cars.orchestrator.cluster import log_wrapper  # noqa: PLC0415 - as late as CARS does
    from cars.pipelines.pipeline import run  # noqa: PLC0415

    conf, out, *killed_once = sys.argv[1:]
    Path(out).mkdir(parents=True)
    screen = logging.StreamHandler(sys.stdout)
    logging.getLogger("CARS").addHandler(screen)
    run(json.loads(conf), Path(out), killed_once[0] if killed_once else None)
    log_wrapper.generate_summary(out, {}, "default", clean_worker_logs=True)
    log_wrapper.generate_pdf_profiling(out)
