"""What the routes of the conductor call."""

from dataclasses import dataclass

from batuta.conductor.activity import ServiceRegistry
from batuta.conductor.campaign_runner import CampaignRunner
from batuta.conductor.database.current_graph import CurrentGraph
from batuta.conductor.database.stops import StopStore
from batuta.conductor.database.views.event_views import EventViews
from batuta.conductor.database.views.hold_views import HoldViews
from batuta.conductor.database.views.late_views import LateViews
from batuta.conductor.database.views.observations import (
    Views,
)
from batuta.conductor.database.views.provider_views import ProviderViews
from batuta.conductor.dispatch.archive import Archive
from batuta.conductor.dispatch.callbacks import CallbackAddresses
from batuta.conductor.dispatch.dispatcher import Dispatcher
from batuta.conductor.dispatch.providers import Providers
from batuta.conductor.graph_changer import GraphChanger
from batuta.conductor.hold_watch import HoldWatch
from batuta.conductor.order_worker import OrderWorker
from batuta.conductor.pruner import Pruner
from batuta.conductor.reconciliation import Reconciler
from batuta.graph import Graph
from batuta.messaging.dead_letters import DeadLetters
from batuta.service.http_pool import HttpPool


@dataclass(frozen=True)
class Components:
    """What the REST interface calls."""

    current_graph: CurrentGraph
    views: Views
    dispatcher: Dispatcher
    providers: Providers
    archive: Archive
    reconciler: Reconciler
    registry: ServiceRegistry
    pruner: Pruner
    callback_addresses: CallbackAddresses
    events: EventViews
    dead_letters: DeadLetters
    logs: HttpPool
    late: LateViews
    graph_changer: GraphChanger
    holds: HoldViews
    hold_watch: HoldWatch
    campaigns: CampaignRunner
    order_worker: OrderWorker
    provider_views: ProviderViews
    stops: StopStore

    @property
    def graph(self) -> Graph:
        """The graph in force."""
        return self.current_graph.graph
