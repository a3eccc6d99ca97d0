"""Who gives a command that comes by REST."""

from http import HTTPStatus
from typing import Annotated

from fastapi import Depends, Request

from batuta.service.access import PROVED_OPERATOR
from batuta.service.operators import OPERATOR_HEADER, OPERATOR_RULE, Operator, is_operator_name
from batuta.service.problems import ProblemError


def operator_of(request: Request) -> Operator:
    """Return who gives a command: the owner of the token that came with it, else who is claimed.

    Raises
    ------
    ProblemError
        If the header is no name.
    """
    proved: str | None = getattr(request.state, PROVED_OPERATOR, None)
    if proved is not None:
        return Operator(proved, proved=True)
    claimed = request.headers.get(OPERATOR_HEADER)
    if claimed is not None and not is_operator_name(claimed):
        raise ProblemError(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            f"{OPERATOR_HEADER}: {claimed!r:.80} is refused (accepted: {OPERATOR_RULE})",
        )
    return Operator(claimed)


ByOperator = Annotated[Operator, Depends(operator_of)]
"""Who gives a command: a parameter of every route that carries one out."""
