"""The workflows of DBOS, and the service that starts them.

``steps`` makes the three levels itself; ``calls`` has a child workflow for each.

``python -m benchmarks.orchestra_peers.workers.dbos_service PORT DATABASE_URL``
"""

import sys

from aiohttp import web
from dbos import DBOS, SetWorkflowID

from benchmarks.orchestra_peers.processes import LOOPBACK
from benchmarks.orchestra_peers.step import LEVELS, Step

STEP = Step()


async def make(product: str, obs_id: str) -> str:
    """Make one product."""
    return await STEP.make(product, obs_id)


MAKE = DBOS.step()(make)


async def steps(obs_id: str) -> None:
    """Make the three levels of an observation."""
    for product in LEVELS:
        await MAKE(product, obs_id)


async def maker(product: str, obs_id: str) -> str:
    """Make one product, as a workflow."""
    digest: str = await MAKE(product, obs_id)
    return digest


MAKER = DBOS.workflow()(maker)


async def calls(obs_id: str) -> None:
    """Ask for the three levels of an observation."""
    for product in LEVELS:
        await MAKER(product, obs_id)


WORKFLOWS = {"steps": DBOS.workflow()(steps), "calls": DBOS.workflow()(calls)}


async def _announce(request: web.Request) -> web.Response:
    obs_id = await request.json()
    with SetWorkflowID(obs_id):
        await DBOS.start_workflow_async(WORKFLOWS[request.match_info["workflow"]], obs_id)
    return web.json_response({})


async def _health(_: web.Request) -> web.Response:
    return web.json_response({"status": "ok"})


async def _application(database: str) -> web.Application:
    DBOS(config={"name": "bench", "system_database_url": database, "log_level": "WARNING"})
    DBOS.launch()
    application = web.Application()
    application.add_routes([web.get("/health", _health), web.post("/{workflow}", _announce)])
    return application


if __name__ == "__main__":
    web.run_app(
        _application(sys.argv[2]),
        host=LOOPBACK,
        port=int(sys.argv[1]),
        access_log=None,
        shutdown_timeout=1,
    )
