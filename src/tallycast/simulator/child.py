"""A simulator in a process of its own, which ends with the one that started it."""

import asyncio
import contextlib
import multiprocessing
import signal
from collections.abc import Iterator
from multiprocessing.connection import Connection

import uvloop

from tallycast.simulator.server import Plan, running

_START_SECONDS = 60


@contextlib.contextmanager
def simulating(plan: Plan) -> Iterator[str]:
    """The simulator as long as the block lasts: its URL. OSError where it does not start."""
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=_simulate, args=(plan, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        if not ours.poll(_START_SECONDS):
            raise OSError("the simulator does not start")
        yield f"http://{plan.host}:{ours.recv()}"
    except EOFError:
        raise OSError("the simulator ended before it was ready") from None
    finally:
        process.terminate()
        process.join()


def _simulate(plan: Plan, parent: Connection) -> None:
    """Serve until asked to stop. Ctrl-C reaches both: the server still has receipts to take, and ends us then."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    uvloop.run(_serve(plan, parent))


async def _serve(plan: Plan, parent: Connection) -> None:
    loop, stopped = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stopped.set)
    starter = multiprocessing.parent_process()
    if starter is not None:
        loop.add_reader(starter.sentinel, stopped.set)  # readable when it is gone
    async with running(plan) as (_, port):
        parent.send(port)
        await stopped.wait()
