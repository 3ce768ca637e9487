"""The simulator as a whole: one event loop with an HTTP server, an SMSC, and a door for whoever watches."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

import msgspec
from aiohttp import web

from tallycast.config import BadSetting
from tallycast.simulator import cloud, twilio
from tallycast.simulator.cloud import WORLD, write_json
from tallycast.simulator.ledger import Ledger, measure_pace
from tallycast.simulator.profiles import PROFILES, Profile, change_profile
from tallycast.simulator.smsc import Smsc
from tallycast.simulator.world import World

_FLUSH_SECONDS = 0.5
_STOP_SECONDS = 0.5


class Plan(NamedTuple):
    """How to run the simulator. Port 0 takes a free one for HTTP; without an SMPP port there is no SMSC."""

    port: int = 9090
    smpp_port: int | None = 2775
    host: str = "127.0.0.1"
    profile: Profile = PROFILES["normal"]
    seed: int = 1
    ledger: Path | None = None
    public_url: str = ""


async def _stream_ledger(request: web.Request) -> web.StreamResponse:
    answer = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
    await answer.prepare(request)
    for chunk in request.app[WORLD].ledger.chunks():
        await answer.write(chunk)
    return answer


async def _summarise(request: web.Request) -> web.Response:
    world = request.app[WORLD]
    return write_json({**world.ledger.summarise(), "givenUp": world.courier.given_up})


async def _clear(request: web.Request) -> web.Response:
    """Forget what was sent, what is still to be posted, and who has sent how much."""
    world = request.app[WORLD]
    world.ledger.clear()
    world.courier.forget()
    world.courier.given_up = 0
    for channel in world.channels.values():
        channel.forget()
    return write_json({})


async def _pace(request: web.Request) -> web.Response:
    return write_json(measure_pace(request.app[WORLD].ledger.messages, request.query.get("key", "")))


async def _pending(request: web.Request) -> web.Response:
    return write_json({"pending": request.app[WORLD].courier.pending})


async def _get_profile(request: web.Request) -> web.Response:
    return write_json(request.app[WORLD].profile)


async def _change_profile(request: web.Request) -> web.Response:
    world = request.app[WORLD]
    world.set_profile(change_profile(world.profile, await request.read()))
    return write_json(world.profile)


ROUTES = [
    web.get("/simulator/ledger", _stream_ledger),
    web.delete("/simulator/ledger", _clear),
    web.get("/simulator/ledger/summary", _summarise),
    web.get("/simulator/pace", _pace),
    web.get("/simulator/pending", _pending),
    web.get("/simulator/profile", _get_profile),
    web.post("/simulator/profile", _change_profile),
]


@web.middleware
async def _explain_mistakes(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    try:
        return await handler(request)
    except (BadSetting, msgspec.MsgspecError, ValueError) as error:
        return write_json({"error": str(error)}, 400)


@contextlib.asynccontextmanager
async def running(plan: Plan) -> AsyncIterator[tuple[World, int]]:
    """The simulator as long as the block lasts: its world, and the port that it listens on for HTTP."""
    world = World(plan.profile, plan.seed, Ledger(plan.ledger), plan.public_url)
    app = web.Application(middlewares=[_explain_mistakes], client_max_size=2**24)
    app[WORLD] = world
    app.add_routes([*cloud.ROUTES, *twilio.ROUTES, *ROUTES])
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=_STOP_SECONDS)
    smsc = Smsc(world, plan.host, plan.smpp_port) if plan.smpp_port else None
    try:
        await runner.setup()
        await web.TCPSite(runner, plan.host, plan.port, backlog=4096).start()
        if smsc is not None:
            await smsc.start()
        world.courier.spawn(_keep_flushing(world.ledger))
        yield world, runner.addresses[0][1]
    finally:
        if smsc is not None:
            await smsc.stop()
        await world.stop()
        await runner.cleanup()


async def _keep_flushing(ledger: Ledger) -> None:
    while True:
        await asyncio.sleep(_FLUSH_SECONDS)
        ledger.flush()


async def serve(plan: Plan, when_ready: Callable[[int], None]) -> None:
    """Run until SIGTERM or SIGINT."""
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with running(plan) as (_, port):
        when_ready(port)
        await stopped.wait()
