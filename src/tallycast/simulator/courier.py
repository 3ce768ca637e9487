"""The courier: what is to be posted, when it is due, to whom, and again when it was not taken."""

import asyncio
import heapq
import itertools
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from tallycast.simulator.fates import Happening
from tallycast.simulator.ledger import Message

log = logging.getLogger("tallycast.simulator")
_TICK_SECONDS = 0.01


class Notice:
    """Something that happened to a message at a time (Unix seconds), to be told. `part` is the SMS part it is about."""

    __slots__ = ("at", "attempts", "heard", "message", "part", "what")

    def __init__(self, message: Message, what: Happening, at: float, part: int = 0) -> None:
        self.message, self.what, self.at, self.part = message, what, at, part
        self.attempts = 0
        self.heard: asyncio.Future[None] | None = None

    def end(self) -> None:
        if self.heard is not None and not self.heard.done():
            self.heard.set_result(None)


class Target:
    """One that notices go to: `deliver` gets at most `batch` at a time, `concurrency` times at once."""

    def __init__(
        self, deliver: Callable[[list[Notice]], Awaitable[bool]], batch: int, concurrency: int
    ) -> None:
        self.deliver, self.batch, self.concurrency = deliver, batch, concurrency
        self.waiting: deque[Notice] = deque()
        self.busy = 0


class Courier:
    def __init__(self) -> None:
        self.attempts = 15
        self.backoff = (0.5, 30.0)
        self.given_up = 0
        self._due: list[tuple[float, int, Target, Notice]] = []
        self._order = itertools.count()
        self._under_way = 0
        self._tasks: set[asyncio.Task[Any]] = set()
        self._is_ticking = False

    @property
    def pending(self) -> int:
        return len(self._due) + self._under_way

    def plan(self, target: Target, notice: Notice, at: float) -> None:
        heapq.heappush(self._due, (at, next(self._order), target, notice))
        if not self._is_ticking:
            self._is_ticking = True
            asyncio.get_running_loop().call_soon(self._tick)

    def forget(self) -> None:
        """Drop what is not due yet."""
        for _, _, _, notice in self._due:
            notice.end()
        self._due.clear()

    def spawn(self, work: Any) -> None:
        """Run a coroutine beside everything else, and hold on to it until it ends."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        self.forget()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _tick(self) -> None:
        """Hand over what is due; what falls due within a tick goes together, as providers batch."""
        now, targets = time.time(), []
        while self._due and self._due[0][0] <= now:
            _, _, target, notice = heapq.heappop(self._due)
            target.waiting.append(notice)
            self._under_way += 1
            targets.append(target)
        for target in set(targets):
            self._send(target)
        self._is_ticking = bool(self._due)
        if self._is_ticking:
            asyncio.get_running_loop().call_later(_TICK_SECONDS, self._tick)

    def _send(self, target: Target) -> None:
        while target.waiting and target.busy < target.concurrency:
            amount = min(target.batch, len(target.waiting))
            notices = [target.waiting.popleft() for _ in range(amount)]
            target.busy += 1
            self.spawn(self._deliver(target, notices))

    async def _deliver(self, target: Target, notices: list[Notice]) -> None:
        try:
            is_taken = await target.deliver(notices)
        except Exception:
            log.exception("a notice could not be written")
            is_taken = False
        target.busy -= 1
        for notice in notices:
            self._under_way -= 1
            if is_taken:
                notice.end()
            else:
                self._try_again(target, notice)
        self._send(target)

    def _try_again(self, target: Target, notice: Notice) -> None:
        notice.attempts += 1
        if notice.attempts >= self.attempts:
            self.given_up += 1
            notice.end()
            return
        first, last = self.backoff
        self.plan(target, notice, time.time() + min(last, first * 2 ** min(notice.attempts - 1, 20)))
