"""The conductor's REST interface."""

from fastapi import FastAPI

from batuta.conductor.database.orders import OrderViews
from batuta.conductor.database.summaries import Summary
from batuta.conductor.database.views.approval_views import ApprovalViews
from batuta.conductor.database.views.failure_views import FailureViews
from batuta.conductor.database.views.matrix_views import MatrixViews
from batuta.conductor.database.views.rate_views import RateViews
from batuta.conductor.database.views.report_views import ReportViews
from batuta.conductor.database.views.why_views import WhyDetail, WhyViews
from batuta.conductor.dispatch.callbacks import callback_router
from batuta.conductor.routes.approval_routes import approval_router
from batuta.conductor.routes.bulk_routes import bulk_router
from batuta.conductor.routes.campaign_routes import campaign_router
from batuta.conductor.routes.common import UNKNOWN, unknown_product
from batuta.conductor.routes.components import Components
from batuta.conductor.routes.dead_routes import dead_router
from batuta.conductor.routes.event_routes import event_router
from batuta.conductor.routes.failure_routes import failure_router
from batuta.conductor.routes.graph_routes import graph_router
from batuta.conductor.routes.hold_routes import hold_router
from batuta.conductor.routes.late_routes import late_router
from batuta.conductor.routes.log_routes import log_router
from batuta.conductor.routes.matrix_routes import matrix_router
from batuta.conductor.routes.observation_routes import observation_router
from batuta.conductor.routes.order_routes import order_router
from batuta.conductor.routes.processing_orders import ProcessingOrders
from batuta.conductor.routes.processing_routes import processing_router
from batuta.conductor.routes.provider_routes import provider_router
from batuta.conductor.routes.reconciliation_routes import reconciliation_router
from batuta.conductor.routes.report_routes import report_router
from batuta.conductor.routes.set_routes import set_router
from batuta.conductor.routes.stop_routes import stop_router
from batuta.messaging import ServiceStatus
from batuta.service.pagination import Page
from batuta.service.retention_routes import add_retention_routes
from batuta.service.routing import add_routers


def add_routes(app: FastAPI, components: Components) -> None:
    """Add all the routes of the conductor to `app`."""
    orders = ProcessingOrders(components)
    add_routers(app, observation_router(components))
    add_routers(app, processing_router(components.views, orders))
    add_routers(app, bulk_router(orders.make, orders.retry, orders.cancel, orders.reprioritize))
    add_routers(app, reconciliation_router(components.reconciler, components.dispatcher))
    add_routers(app, callback_router(components.callback_addresses, components.dispatcher))
    add_routers(app, event_router(components.events))
    add_routers(app, log_router(components.views, components.logs))
    add_routers(app, dead_router(components.dead_letters, components.events, components.dispatcher))
    add_routers(app, late_router(components.late))
    add_routers(app, failure_router(FailureViews(components.events.engine)))
    add_routers(app, stop_router(components.stops))
    add_routers(
        app, approval_router(ApprovalViews(components.events.engine), components.dispatcher)
    )
    add_routers(app, order_router(OrderViews(components.events.engine)))
    add_routers(
        app,
        set_router(components.order_worker, components.views, OrderViews(components.events.engine)),
    )
    add_routers(app, graph_router(components.graph_changer))
    add_routers(
        app,
        hold_router(
            components.current_graph, components.holds, components.hold_watch, components.dispatcher
        ),
    )
    add_routers(app, campaign_router(components.campaigns))
    matrix = MatrixViews(components.events.engine, components.current_graph)
    add_routers(app, matrix_router(matrix))
    reports = ReportViews(components.events.engine, components.current_graph)
    rates = RateViews(components.events.engine)
    add_routers(app, report_router(reports, rates, components.dead_letters))
    add_routers(app, provider_router(components.provider_views, components.dispatcher))
    add_retention_routes(app, components.pruner)

    @app.get("/why/{product}/{obs_id}", tags=["graph"], responses=UNKNOWN)
    def why(product: str, obs_id: str) -> WhyDetail:
        """Why a product was, or was not, made: from the record, as data and in words."""
        with components.events.one_moment():
            graph = components.graph
            if not graph.knows(product) and not components.views.was_asked_for(product, obs_id):
                raise unknown_product(graph, product)
            views = WhyViews(components.events, components.late, components.provider_views)
            return views.why(product, obs_id)

    approvals = ApprovalViews(components.events.engine)

    @app.get("/summary", tags=["service"])
    def summary() -> Summary:
        """What is recorded, counted: by state, by product and by provider."""
        with components.events.one_moment():
            found = components.views.counts().summary()
            more = {
                "stale": components.views.stale_count(),
                "to_approve": sum(approvals.count().values()),
            }
        return found.model_copy(update=more)

    @app.get("/services", tags=["service"])
    def services() -> Page[ServiceStatus]:
        """The services that reported recently on ``activity.*``."""
        return Page(items=components.registry.services())
