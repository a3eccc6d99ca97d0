"""Plays campaigns in a test: planned, moved on round by round, their processings answered."""

from collections import Counter
from collections.abc import Callable
from typing import Any

from batuta.conductor.database.campaigns.campaign_parts import split
from batuta.conductor.database.campaigns.campaign_planning import PlanReader, Target
from batuta.conductor.database.campaigns.campaign_rounds import Round
from batuta.conductor.database.requests.due_requests import DueRequest
from batuta.conductor.database.views.campaign_views import CampaignPlan
from batuta.conductor.decisions.campaigns import CampaignOrder, CampaignScope, CampaignState
from batuta.conductor.decisions.events import Archived, Refused
from batuta.conductor.decisions.rules import Arrival
from tests.conductor.harness import NOTHING, UNLIMITED, Harness


class CampaignPlayer:
    """A conductor's campaigns, in this thread."""

    def __init__(self, harness: Harness) -> None:
        self.harness = harness
        self.versions: Counter[tuple[str, str]] = Counter()
        self.restart()

    def restart(self) -> None:
        """Forget all that is not in the database, as a conductor that was killed does."""
        found = self.harness.open_campaigns()
        self.store, self.rounds, self.views = found.store, found.rounds, found.views

    def arrive(self, *names: tuple[str, str]) -> list[DueRequest]:
        """Announce inputs, each (product, obs_id), in their next version."""
        arrivals = []
        for product, obs_id in names:
            self.versions[product, obs_id] += 1
            arrivals.append(Arrival(product, obs_id, self.versions[product, obs_id]))
        return self.harness.take(arrivals, UNLIMITED)

    def make_all(self, requests: list[DueRequest]) -> list[DueRequest]:
        """Answer requests, and all that follows from them; return them in their order."""
        waiting, made = list(requests), []
        for request in waiting:  # grows as it goes
            made.append(request)
            waiting += self.answer(request)
        return made

    def answer(self, request: DueRequest, *, failed: bool = False) -> list[DueRequest]:
        """Let a request succeed or fail; return what is requested because of that."""
        harness = self.harness
        if failed:
            harness.apply(Refused(processing_id=request.processing_id, error="bad data"))
            return []
        key = (request.product, request.obs_id)
        self.versions[key] += 1
        harness.clock.advance(1)
        made = Archived(
            processing_id=request.processing_id,
            product=request.product,
            obs_id=request.obs_id,
            provider=request.provider,
            version=self.versions[key],
        )
        arrival = Arrival(*key, self.versions[key], archived=True)
        return harness.take_made([arrival], [made])

    def announce_again(self) -> None:
        """Announce all versions again, as NATS may, and a stream that is read from its start."""
        for (product, obs_id), version in self.versions.items():
            archived = product in self.harness.graph.products
            for each in range(1, version + 1):
                self.harness.take([Arrival(product, obs_id, each, archived=archived)], NOTHING)

    def plan(self, target: Target, **values: Any) -> int:
        """Plan a campaign, and return its number."""
        harness = self.harness
        selection = {"products": sorted(target.products), "scope": target.scope.value}
        number = self.store.begin_plan(
            {
                "selection": selection,
                "graph": harness.graph.digest,
                "work_class": "reprocess",
                "max_concurrent": 1000,
                **values,
            }
        )
        total = 0
        for page in PlanReader(harness.engine, harness.graph, target).pages():
            self.store.add_parts(number, list(split(page.planned, dropped=page.dropped)))
            total += sum(len(products) for _, products in page.planned)
        plan = CampaignPlan(
            looked_at=total,
            observations=total,
            processings=total,
            products=[],
            providers=[],
            estimate_s=None,
            without_record=[],
        )
        self.store.end_plan(number, plan.model_dump(), total)
        return number

    def order(self, number: int, order: CampaignOrder) -> CampaignState:
        """Start, pause, resume or cancel it."""
        state = CampaignState(self.store.order(number, order, self.harness.graph.digest).state)
        self.harness.carry_out_holds()
        return state

    def round(self, number: int) -> Round:
        """Do one round."""
        done = self.rounds.advance(number, self.rounds.ended_items(number))
        if done.complete:
            report = self.views.make_report(number)
            return Round(self.rounds.end(number, report), changed=True)
        return done

    def rest(self, number: int) -> CampaignState:
        """Do rounds until nothing is left to do at once; return its state."""
        while (done := self.round(number)).changed:
            if done.state.ended:
                break
        return done.state

    def run(
        self, number: int, fails: Callable[[DueRequest], bool] = lambda _: False
    ) -> list[DueRequest]:
        """Play a started campaign to its end; return what was requested, in order."""
        requested: list[DueRequest] = []
        while not self.rest(number).ended:
            some = self.harness.ledger.take_due(UNLIMITED)
            assert some, "nothing is due, and the campaign has not ended"
            for request in some:  # grows as it goes
                requested.append(request)
                some += self.answer(request, failed=fails(request))
        return requested


def target_of(*products: str, scope: CampaignScope = CampaignScope.ALL, **values: Any) -> Target:
    """A target of some products."""
    return Target(products=products, scope=scope, **values)
