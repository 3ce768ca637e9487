"""The simulated world: the channels, who may send how fast, and what is planned for each message that is taken."""

import asyncio
import random
import time
from collections.abc import Callable
from http import HTTPStatus
from ipaddress import ip_address
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from tallycast.simulator.channels import Channel
from tallycast.simulator.courier import Courier, Notice, Target
from tallycast.simulator.fates import Fate, Happening, Hearing, Medium, Why, draw_fate, draw_hearing
from tallycast.simulator.ledger import Ledger, Message, Refused
from tallycast.simulator.profiles import Profile
from tallycast.simulator.templates import Templates

_RECEIPTS = {Happening.SENT, Happening.DELIVERED, Happening.READ, Happening.FAILED}
_PERSON = "Mozilla/5.0 (Linux; Android 15; Pixel 9) AppleWebKit/537.36 Chrome/142.0 Mobile Safari/537.36"
_CRAWLER = "WhatsApp/2.25.30.74 A"
_WEBHOOK_SECONDS = 5.0  # what 360dialog grants
_EARLY_SECONDS = 2.0


class World:
    """Lives on the running event loop. `seed` decides every fate."""

    def __init__(self, profile: Profile, seed: int, ledger: Ledger, public_url: str = "") -> None:
        self.seed, self.ledger, self.public_url = seed, ledger, public_url
        self.templates = Templates()
        self.courier = Courier()
        self.channels: dict[tuple[str, str], Channel] = {}
        self.set_profile(profile)
        self._nonce = f"{time.time_ns() // 1_000_000:x}"
        self._taken = 0
        self._people = Target(self._open_links, batch=1, concurrency=16)
        self.client = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            timeout=aiohttp.ClientTimeout(total=_WEBHOOK_SECONDS),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
        )

    def set_profile(self, profile: Profile) -> None:
        self.profile = profile
        self.courier.attempts = profile.webhook_attempts
        self.courier.backoff = profile.webhook_backoff_seconds

    def channel(self, provider: str, key: str, make_target: Callable[[Channel], Target]) -> Channel:
        known = self.channels.get((provider, key))
        if known is None:
            known = self.channels[provider, key] = Channel(provider, key)
            known.target = make_target(known)
        return known

    def origin(self) -> str:
        """How tallycast is reached: as told, else as the first webhook shows."""
        hooks = (channel.webhook.url for channel in self.channels.values() if channel.webhook)
        return self.public_url or next(hooks, "http://127.0.0.1:8080/").partition("/webhooks/")[0].rstrip("/")

    def new_id(self) -> str:
        """A message id that no other start of the simulator gave."""
        self._taken += 1
        return f"{self._nonce}{self._taken:08x}"

    def is_key_refused(self, channel: Channel, given: str) -> bool:
        """Whether a key, token or password opens nothing: absent, listed as invalid, or expired by now."""
        limit = self.profile.expires_after
        return not given or given in self.profile.invalid_keys or bool(limit and channel.taken >= limit)

    def hear(self, channel: Channel, recipient: str) -> Hearing:
        """What becomes of a request to send. The limits come first: they depend on the time, what is drawn does not."""
        why = self._find_limit(channel, recipient, time.time())
        if why is not None:
            return Hearing(why, None, 0.0)
        channel.hearings[recipient] += 1
        turn = f"{self.seed}:{channel.key}:{recipient}:request {channel.hearings[recipient]}"
        return draw_hearing(self.profile, turn)

    def _find_limit(self, channel: Channel, recipient: str, now: float) -> Why | None:
        profile = self.profile
        while channel.recent and channel.recent[0] <= now - 1:
            channel.recent.popleft()
        if profile.ceiling and len(channel.recent) >= profile.ceiling:
            return Why.CEILING
        if channel.provider != "smpp" and now - channel.last_to.get(recipient, 0.0) < profile.pair_seconds:
            return Why.PAIR  # an SMSC cannot count so: the parts of a message follow each other
        return Why.STOPPED if channel.provider == "twilio" and self._is_stopped(channel, recipient) else None

    def _is_stopped(self, channel: Channel, recipient: str) -> bool:
        dice = random.Random(f"{self.seed}:{recipient}:stopped")  # noqa: S311 - repeatable on purpose
        return recipient in channel.stopped or dice.random() < self.profile.opted_out

    def draw(self, channel: Channel, recipient: str, medium: Medium) -> Fate:
        channel.fates[recipient] += 1
        turn = f"{self.seed}:{channel.key}:{recipient}:message {channel.fates[recipient]}"
        has_opted_out = medium == "whatsApp" and recipient in channel.stopped
        return draw_fate(self.profile, medium, turn, has_opted_out)

    def refuse(self, channel: Channel, recipient: str, reference: str | None, code: str, title: str) -> None:
        refused = Refused(channel.provider, channel.key, recipient, reference, code, title, time.time())
        self.ledger.add(refused)

    def take(self, channel: Channel, message: Message) -> asyncio.Future[None] | None:
        """Write a message into the ledger and plan what becomes of it.

        The future, where there is one, is done when the first receipt was told: the answer waits for it.
        """
        self.note_taken(channel, message.recipient, message.at)
        self.ledger.add(message)
        return self.plan(channel, message, part=0)

    def note_taken(self, channel: Channel, recipient: str, at: float) -> None:
        channel.taken += 1
        channel.recent.append(at)
        channel.last_to[recipient] = at

    def plan(self, channel: Channel, message: Message, part: int) -> asyncio.Future[None] | None:
        """Plan what happens to a part: its receipts, and with the last one what people do."""
        now, heard = time.time(), None
        is_whole = part == message.total - 1
        for delay, what in message.fate.events:
            if what in _RECEIPTS or (is_whole and _can_happen(message, what)):
                notice = Notice(message, what, now + delay, part)
                is_link = what in {Happening.PREVIEW, Happening.CLICK}
                if message.fate.is_early and delay == 0 and heard is None:
                    heard = notice.heard = asyncio.get_running_loop().create_future()
                self.courier.plan(self._people if is_link else channel.target, notice, notice.at)
        return heard

    async def wait(self, hearing: Hearing, heard: asyncio.Future[None] | None) -> None:
        """Let the time of the answer pass, and the receipt that is to come before it."""
        if hearing.seconds:
            await asyncio.sleep(hearing.seconds)
        if heard is not None:
            await asyncio.wait([heard], timeout=_EARLY_SECONDS)

    def note_told(self, channel: Channel, notices: list[Notice]) -> None:
        """The webhook has taken them."""
        for notice in notices:
            if notice.what in _RECEIPTS:
                notice.message.note_told(notice.what, notice.part)
                continue
            notice.message.replies.append(notice.what)
            if notice.what is not Happening.BUTTON:
                channel.stopped.add(notice.message.recipient)

    async def _open_links(self, notices: list[Notice]) -> bool:
        for notice in notices:
            for link in notice.message.links:
                if is_ours(link, self.origin()):
                    await self._open(link, notice)
        return True

    async def post(self, url: str, body: bytes, headers: dict[str, str]) -> bool:
        """Whether a webhook took a body: it answers 200, and nothing else is a success.

        The URL goes out as it was given: Twilio signs it, and normalising would change it.
        """
        try:
            async with self.client.post(
                URL(url, encoded=True), data=body, headers=headers, allow_redirects=False
            ) as answer:
                await answer.read()
                return answer.status == HTTPStatus.OK
        except (aiohttp.ClientError, OSError, ValueError):
            return False

    async def _open(self, link: str, notice: Notice) -> None:
        is_person = notice.what is Happening.CLICK
        headers = {"User-Agent": _PERSON if is_person else _CRAWLER}
        try:
            async with self.client.get(
                URL(link, encoded=True), headers=headers, allow_redirects=False
            ) as answer:
                if answer.status >= HTTPStatus.BAD_REQUEST:
                    return
        except (aiohttp.ClientError, OSError, ValueError):
            return
        if is_person:
            notice.message.clicks += 1
        else:
            notice.message.previews += 1

    async def stop(self) -> None:
        await self.courier.stop()
        await self.client.close()
        self.ledger.end()


def _can_happen(message: Message, what: Happening) -> bool:
    if what is Happening.BUTTON:
        return bool(message.buttons)
    if what in {Happening.PREVIEW, Happening.CLICK}:
        return bool(message.links)
    return what is not Happening.STOP_PREFERENCE or message.template is not None


def is_ours(link: str, origin: str) -> bool:
    """Whether a link leads to tallycast or stays on this machine: a rehearsal must not visit the world's sites."""
    try:
        host = urlsplit(link).hostname or ""
        is_near = host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        is_near = False
    return is_near or link.startswith(f"{origin}/")
