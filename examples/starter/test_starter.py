"""The products of the sample image, made in this process: no service is needed."""

from pathlib import Path

import pandas as pd

from batuta.pipeline.testing import make_product
from examples.starter.starter import pipeline

IMAGE = Path(__file__).parent / "image.tif"


def test_the_sources_of_the_sample_are_found() -> None:
    background = make_product(pipeline, "BACKGROUND", inputs={"IMAGE": IMAGE})
    sources = make_product(
        pipeline, "SOURCES", inputs={"IMAGE": IMAGE, "BACKGROUND": background.path}
    )
    assert sources.metadata["sources"] == 3
    assert list(pd.read_csv(sources.path)["row"]) == [40, 96, 20]
