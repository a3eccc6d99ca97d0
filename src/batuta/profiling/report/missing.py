"""What the page needs and is not there."""

from batuta.errors import BatutaError


class PageError(BatutaError, ImportError):
    """The page cannot be drawn: bokeh or jinja2, which draw it, are not installed."""

    def __init__(self, missing: str | None) -> None:
        super().__init__(f"the page of a profile needs {missing}: pip install 'batuta[profiling]'")
