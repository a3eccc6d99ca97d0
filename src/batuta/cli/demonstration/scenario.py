"""What the demonstration brings about besides importing observations: alert, campaign, approval."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from batuta.cli.conductor_client import ConductorClient
from batuta.cli.live.state import AVAILABLE
from batuta.conductor.decisions.campaigns import CampaignState
from batuta.graph import Graph
from batuta.sdb import SdbClient
from batuta.stages import PRELIMINARY, Stage
from batuta.work_classes import WorkClass

OPERATOR: Final = "scientist-on-shift"
REPROCESSED: Final = ("LIGHT_CURVE", "POWER_SPECTRUM", "DYN_POWER_SPECTRUM")
"""What the campaign makes again, with all that follows from it."""
APPROVED: Final = "STEREO_REPORT"
"""The product that waits for a person."""
JUDGED: Final = ("DISPARITY_ERROR", "HEIGHTS")
"""What that person looks at before."""
REASON: Final = "compared with the true disparity: fit to be published"


class Scenario:
    """Plays the observations, and what a person does meanwhile.

    Every step waits for what the conductor says has happened before, for as long as it is not
    cancelled: `awaited` says then what did not come.

    Parameters
    ----------
    conductor_url, sdb_url : str
        Where the services are.
    graph : Graph
        The product graph that they use.
    observations : sequence
        The observations to import.
    log : callable
        Is given a line for each step.
    pause : callable
        Waits before the conductor is asked again.
    """

    def __init__(
        self,
        conductor_url: str,
        sdb_url: str,
        graph: Graph,
        observations: Sequence[Any],
        *,
        log: Callable[[str], None],
        pause: Callable[[], Awaitable[None]],
    ) -> None:
        self._conductor_url = conductor_url
        self._sdb_url = sdb_url
        self._graph = graph
        self._observations = observations
        self._log = log
        self._pause = pause
        self.awaited: list[str] = []
        """What is waited for, a line each."""

    async def play(self) -> None:
        """Play all of it, to the end of the campaign."""
        with ConductorClient(self._conductor_url, operator=OPERATOR) as conductor:
            alerts = [one for one in self._observations if one.alert]
            others = [one for one in self._observations if not one.alert]
            for observation in others:
                await self._import(observation)
            async with asyncio.TaskGroup() as group:
                for observation in others:
                    if observation.preliminary:
                        group.create_task(self._improve(conductor, observation))
                group.create_task(self._approve(conductor))
                group.create_task(self._overtake(conductor, others, alerts))

    async def _import(self, observation: Any) -> None:
        """Import an observation; what has a preliminary version, in this one."""
        alert = " as an alert" if observation.alert else ""
        self._log(f"{observation.obs_id}: {observation.title} arrives{alert}")
        work_class = WorkClass.ALERT if observation.alert else None
        final = {
            name: file
            for name, file in observation.files.items()
            if name not in observation.preliminary
        }
        await asyncio.to_thread(self._import_files, observation.obs_id, final, work_class)
        await asyncio.to_thread(
            self._import_files, observation.obs_id, observation.preliminary, work_class, PRELIMINARY
        )

    def _import_files(
        self,
        obs_id: str,
        files: Mapping[str, Path],
        work_class: WorkClass | None = None,
        stage: Stage | None = None,
    ) -> None:
        with SdbClient(self._sdb_url) as sdb:
            for product, file in files.items():
                sdb.import_file(file, product, obs_id, work_class=work_class, stage=stage)

    async def _improve(self, conductor: ConductorClient, observation: Any) -> None:
        """Import the final inputs, once all is made from the preliminary ones; wait for it."""
        obs_id, files = observation.obs_id, observation.files
        improved = {
            made.name for each in observation.preliminary for made in self._graph.fed_by(each)
        }
        what = f"{', '.join(sorted(improved))} of {obs_id}"
        await self._until(what, lambda: _are_available(conductor, obs_id, improved))
        self._log(f"{obs_id}: its final {', '.join(observation.preliminary)} arrives")
        final = {name: files[name] for name in observation.preliminary}
        await asyncio.to_thread(self._import_files, obs_id, final, None, "final")
        await self._until(
            f"{what}, from the final input",
            lambda: _are_available(conductor, obs_id, improved, version=2),
        )

    async def _approve(self, conductor: ConductorClient) -> None:
        """Approve what waits for a person, once there is what that person looks at.

        Whoever watches on the dashboard may have answered before.
        """
        await self._until(
            f"{APPROVED} to need an approval", partial(_is_asked_or_answered, conductor)
        )
        waiting = await asyncio.to_thread(lambda: list(conductor.approvals(product=APPROVED)))
        items = [{"product": one["product"], "obs_id": one["obs_id"]} for one in waiting]
        for one in items:
            await self._until(
                f"{', '.join(JUDGED)} of {one['obs_id']}",
                partial(_are_available, conductor, one["obs_id"], JUDGED),
            )
        for answer in await asyncio.to_thread(conductor.answer, "approve", items, REASON):
            if answer["problem"] is not None:
                self._log(f"{APPROVED} could not be approved: {answer['problem']}")

    async def _overtake(
        self, conductor: ConductorClient, others: Sequence[Any], alerts: Sequence[Any]
    ) -> None:
        """Start a campaign once its products are there; import the alerts while it waits."""
        made = {
            one.obs_id: self._graph.reachable(one.files)
            for one in others
            if self._graph.reachable(one.files) & set(REPROCESSED)
        }
        for obs_id, products in made.items():
            await self._until(
                f"all {len(products)} products of {obs_id}",
                partial(_are_available, conductor, obs_id, products),
            )
        campaign = await asyncio.to_thread(self._start_campaign, conductor, list(made))
        number = campaign["number"]
        # One that is done before anything of it was seen to wait is overtaken by nothing.
        await self._until(
            f"a processing of campaign {number} that waits",
            lambda: (
                conductor.first_processings(1, campaign=str(number), state="waiting")
                or _has_ended(conductor, number)
            ),
        )
        for observation in alerts:
            await self._import(observation)
        await self._until(f"the end of campaign {number}", partial(_has_ended, conductor, number))

    def _start_campaign(self, conductor: ConductorClient, obs_ids: list[str]) -> dict[str, Any]:
        order = {
            "name": "new timing calibration",
            "products": list(REPROCESSED),
            "obs_ids": obs_ids,
            "downstream": True,
        }
        campaign = conductor.plan_campaign(order)
        self._log(f"campaign {campaign['number']}: {order['name']}, {', '.join(obs_ids)}")
        return conductor.order_campaign(campaign["number"], "start")

    async def _until(self, what: str, condition: Callable[[], object]) -> None:
        """Ask the conductor until the answer is true: then there is `what` was waited for."""
        self.awaited.append(what)
        while not await asyncio.to_thread(condition):
            await self._pause()
        self.awaited.remove(what)


def _is_asked_or_answered(conductor: ConductorClient) -> bool:
    if any(conductor.approvals(product=APPROVED)):
        return True
    return any(each["product"] == APPROVED for each in conductor.report()["answers"]["items"])


def _has_ended(conductor: ConductorClient, number: int) -> bool:
    return CampaignState(conductor.campaign(number)["state"]).ended


def _are_available(
    conductor: ConductorClient,
    obs_id: str,
    products: Collection[str],
    version: int = 1,
) -> bool:
    """Whether products of an observation are available, of this version at least."""
    known = any(one["obs_id"] == obs_id for one in conductor.observations())
    views = conductor.observation(obs_id)["products"] if known else []
    return set(products) <= {
        view["product"]
        for view in views
        if view["state"] == AVAILABLE and (view["version"] or 1) >= version
    }
