"""REST routes of the providers: how their instances are, and closing circuits by hand."""

from http import HTTPStatus

from pydantic import BaseModel

from batuta.conductor.database.views.provider_views import ProviderView, ProviderViews
from batuta.conductor.dispatch.dispatcher import Dispatcher
from batuta.service.operator_requests import ByOperator
from batuta.service.pagination import Page
from batuta.service.problems import ProblemError, problem_responses
from batuta.service.routing import ServiceRouter


class ClosedCircuits(BaseModel):
    """The addresses of a provider that were left alone, and are not any more."""

    provider: str
    closed: list[str]


def provider_router(views: ProviderViews, dispatcher: Dispatcher) -> ServiceRouter:
    """Return the routes."""
    router = ServiceRouter(prefix="/providers", tags=["providers"])

    @router.get("")
    def providers() -> Page[ProviderView]:
        """The providers of the graph, with their addresses and how each of them answers."""
        return Page(items=views.all())

    @router.delete("/{provider}/circuit", responses=problem_responses(HTTPStatus.NOT_FOUND))
    async def close(provider: str, by: ByOperator) -> ClosedCircuits:
        """Send a provider requests again that was left alone because it failed."""
        if not views.knows(provider):
            known = views.names()
            raise ProblemError(
                HTTPStatus.NOT_FOUND,
                f"provider {provider!r}: not in the graph (known: {', '.join(known)})",
                known=known,
            )
        closed = await dispatcher.write(dispatcher.ledger.close_circuits, provider, by)
        dispatcher.wake()
        return ClosedCircuits(provider=provider, closed=[each.instance for each in closed])

    return router
