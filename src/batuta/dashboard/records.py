"""What the dashboard reads of the conductor's answers: no more than it uses."""

from pydantic import BaseModel


class MatrixRow(BaseModel):
    """The state of each product of an observation that is there, or was asked for."""

    obs_id: str
    states: dict[str, str]
    stale: list[str] = []


class MatrixPage(BaseModel):
    """A page of ``/matrix``."""

    items: list[MatrixRow]
    next: str | None = None


class GraphVersionNumber(BaseModel):
    """A version of the graph."""

    number: int


class GraphVersionsPage(BaseModel):
    """A page of ``/graph/versions``, the newest first."""

    items: list[GraphVersionNumber]
