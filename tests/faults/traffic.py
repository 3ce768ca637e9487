"""The traffic: providers that post receipts, a system that records campaigns, people who click, and a marketer.

All of them behave as the documentation asks: what was not acknowledged is sent again, with its Idempotency-Key.
"""

import itertools
import queue
import random
import threading
import traceback
from collections.abc import Callable
from typing import Any, NamedTuple

import httpx

from faults.promises import Fact, Launch, Promises, Recording
from harness import App
from test_sending_storm import Simulator, add_channels

AT = 1_700_000_000
_STATUSES = ("accepted", "delivered", "read", "failed")
_SENDERS = ("360dialog", "twilio", "smpp", "meta")
_RECORDED = 20
_AUDIENCE = 120
_PATIENCE = 8.0  # what a caller waits for an answer
_BROWSER = {"User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"}


class Post(NamedTuple):
    """A webhook request: receipts of messages of one channel."""

    provider: str
    facts: tuple[Fact, ...]


def time_of(fact: Fact) -> int:
    """When a fact happened, in Unix seconds: always the same, so that the stored time can be compared."""
    return AT + _STATUSES.index(fact[1])


class Traffic:
    def __init__(self, app: App, simulator: Simulator, provider_url: str, smsc_port: int) -> None:
        self.promises = Promises()
        self._app = app
        self._ids = add_channels(app, simulator, provider_url, smsc_port)
        self._recorded = {
            "generic": app.add_channel(webhookSecret="w"),
            "360dialog": app.add_channel(provider="360dialog", phone="+85230009999", webhookSecret="w"),
        }
        self._posts: queue.SimpleQueue[Post] = queue.SimpleQueue()
        self._links: list[str] = []
        self._numbers, self._launched = itertools.count(), itertools.count()
        self._over = threading.Event()
        self._errors: list[str] = []
        work = [self._post, self._post, self._post, self._record, self._click, self._launch, self._launch]
        self._threads = [threading.Thread(target=self._run, args=[one]) for one in work]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Everybody finishes what is begun: there must be no faults any more."""
        self._over.set()
        for thread in self._threads:
            thread.join(120)
        assert self._errors == []
        assert not any(thread.is_alive() for thread in self._threads)

    def _run(self, work: Callable[[httpx.Client, random.Random], None]) -> None:
        try:
            with httpx.Client(timeout=_PATIENCE) as client:
                work(client, random.Random())
        except Exception:  # noqa: BLE001 - told at the end
            self._errors.append(traceback.format_exc())

    # Providers.

    def _post(self, client: httpx.Client, dice: random.Random) -> None:
        while not (self._over.is_set() and self._posts.empty()):
            try:
                post = self._posts.get(timeout=0.1)
            except queue.Empty:
                continue
            if self._is_taken(client, post):
                self.promises.receipts.update(post.facts)
                if dice.random() < 0.1 and not self._over.is_set():
                    self._posts.put(post)  # once more: providers do
            else:
                self._over.wait(0.05)
                self._posts.put(post)
            self._over.wait(0.01)

    def _is_taken(self, client: httpx.Client, post: Post) -> bool:
        self.promises.posted.update(post.facts)
        url = f"{self._app.server_url}/webhooks/{post.provider}/{self._recorded[post.provider]}"
        try:
            answer = client.post(url, json=_write(post), headers={"Authorization": "Bearer w"})
        except httpx.HTTPError:
            return False
        if answer.status_code not in {200, 503}:
            self.promises.odd.append(f"webhook: {answer.status_code} {answer.text}")
        return answer.status_code == 200

    # Another system, which sends campaigns and has them counted here.

    def _record(self, client: httpx.Client, dice: random.Random) -> None:
        while not self._over.is_set():
            name = f"R{next(self._numbers)}"
            provider = dice.choice(sorted(self._recorded))
            ids = [f"{name}-{n}" for n in range(_RECORDED)]
            posts = [post for _ in range(2) for post in _draw(provider, ids, dice)]
            early = [post for post in posts if dice.random() < 0.3]
            for post in early:
                self._posts.put(post)
            made = self._record_one(client, name, provider, ids)
            for post in posts:
                if post not in early:
                    self._posts.put(post)
            if dice.random() < 0.2:
                self._add_links(client, made["id"])
            self._over.wait(0.15)

    def _record_one(self, client: httpx.Client, name: str, provider: str, ids: list[str]) -> dict[str, Any]:
        messages = [{"recipient": f"+852{60_000_000 + n}", "messageID": one} for n, one in enumerate(ids)]
        body = {"campaignName": name, "channelID": self._recorded[provider], "createdBy": "Mei"}
        self.promises.named.add(name)
        made: dict[str, Any] = self._insist(client, "/sent-campaigns", {**body, "messages": messages})
        self.promises.recordings[name] = Recording(made["id"], made["accepted"])
        return made

    def _add_links(self, client: httpx.Client, campaign_id: str) -> None:
        made = self._insist(
            client, f"/sent-campaigns/{campaign_id}/links", {"url": "https://shop.example.com/sale"}
        )
        self._links += [one["url"] for one in made["links"]]

    # Recipients.

    def _click(self, client: httpx.Client, dice: random.Random) -> None:
        while not self._over.wait(0.05):
            if not self._links:
                continue
            url = dice.choice(self._links)
            self.promises.clicked[url] += 1
            try:
                answer = client.get(url, headers=_BROWSER)
            except httpx.HTTPError:
                continue
            if answer.status_code == 302:
                self.promises.redirected[url] += 1
            elif answer.status_code != 503:
                self.promises.odd.append(f"click: {answer.status_code} {answer.text}")

    # A marketer.

    def _launch(self, client: httpx.Client, dice: random.Random) -> None:
        while not self._over.is_set():
            n = next(self._launched)
            numbers = [f"+852{60_000_000 + n * _AUDIENCE + i}" for i in range(_AUDIENCE)]
            provider = _SENDERS[n % len(_SENDERS)]
            out = set(numbers[:3])
            self._insist(client, "/opt-outs", {"kind": "all", "recipients": sorted(out)})
            self.promises.opted_out |= out
            campaign_id = self._draft(client, provider, numbers)
            launch = Launch(campaign_id, provider, set(numbers), out)
            self.promises.launches.append(launch)
            self._move(client, campaign_id, "start")
            if dice.random() < 0.3:
                self._move(client, campaign_id, "pause")
                self._move(client, campaign_id, "resume")
            self._over.wait(0.5)

    def _draft(self, client: httpx.Client, provider: str, numbers: list[str]) -> str:
        """A campaign with its audience, imported."""
        is_sms = provider in {"twilio", "smpp"}
        text = {
            "kind": "smsDynamic",
            "content": "Hi {{name}}, see https://shop.example.com/sale",
            "trackLinks": True,
        }
        template = {"kind": "whatsApp", "template": {"name": "hello", "language": "en_US"}}
        body = {"campaignName": provider, "channelID": self._ids[provider], "createdBy": "Mei"}
        campaign_id: str = self._insist(client, "/campaigns", body | (text if is_sms else template))["id"]
        rows = "".join(f"{number},Person\n" for number in numbers)
        path = f"/campaigns/{campaign_id}/audience"
        done = self._insist(client, path, f"Recipients Number,name\n{rows}")
        while self._ask(client, f"{path}/{done['id']}")["state"] not in {"done", "refused", "failed"}:
            self._over.wait(0.1)
        found = self._ask(client, f"{path}/{done['id']}")
        if (found["state"], found["accepted"], found["optedOut"]) != ("done", _AUDIENCE - 3, 3):
            self.promises.odd.append(f"import: {found}")
        return campaign_id

    def _move(self, client: httpx.Client, campaign_id: str, action: str) -> None:
        answer = self._insist(client, f"/campaigns/{campaign_id}/{action}", {}, {422})
        if answer is not None:  # else it is over, or paused by itself
            self.promises.moves.add((campaign_id, action))

    # Asking until there is an answer.

    def _insist(
        self, client: httpx.Client, path: str, body: dict[str, Any] | str, also: set[int] | None = None
    ) -> Any:
        """The result of a POST, repeated with its key until it is answered; None for a status of `also`."""
        key = f"{path} {next(self._numbers)}"
        how: dict[str, Any] = {"json": body}
        kind = {}
        if isinstance(body, str):
            how, kind = {"content": body}, {"Content-Type": "text/csv"}
        while True:
            answer = self._try(client, "POST", path, headers={"Idempotency-Key": key, **kind}, **how)
            if answer is not None and answer.is_success:
                return answer.json()["result"]
            if answer is not None and answer.status_code in (also or ()):
                return None
            if answer is not None and answer.status_code != 503:
                self.promises.odd.append(f"{path}: {answer.status_code} {answer.text}")
                raise AssertionError(answer.text)
            self._over.wait(0.1)

    def _ask(self, client: httpx.Client, path: str) -> Any:
        while True:
            answer = self._try(client, "GET", path)
            if answer is not None and answer.is_success:
                return answer.json()["result"]
            if answer is not None and answer.status_code != 503:
                raise AssertionError(f"{path}: {answer.status_code} {answer.text}")
            self._over.wait(0.1)

    def _try(self, client: httpx.Client, method: str, path: str, **options: Any) -> httpx.Response | None:
        headers = {"Authorization": f"Bearer {self._app.token}", **options.pop("headers", {})}
        url = f"{self._app.server_url}/v1/api/apps/{self._app.app_id}{path}"
        try:
            return client.request(method, url, headers=headers, **options)
        except httpx.HTTPError:
            return None


def _draw(provider: str, ids: list[str], dice: random.Random) -> list[Post]:
    """Receipts for most of the messages, in bodies of one to four."""
    facts = [(one, dice.choice(_STATUSES)) for one in ids]
    posts = []
    while facts:
        size = dice.randint(1, 4)
        posts.append(Post(provider, tuple(facts[:size])))
        facts = facts[size:]
    return posts


def _write(post: Post) -> dict[str, Any]:
    if post.provider == "generic":
        receipts = [
            {"messageID": fact[0], "status": fact[1], "timestamp": time_of(fact)} for fact in post.facts
        ]
        return {"receipts": receipts}
    said = {"accepted": "sent"}
    statuses = [
        {"id": fact[0], "status": said.get(fact[1], fact[1]), "timestamp": str(time_of(fact))}
        for fact in post.facts
    ]
    change = {"field": "messages", "value": {"messaging_product": "whatsapp", "statuses": statuses}}
    return {"object": "whatsapp_business_account", "entry": [{"id": "1", "changes": [change]}]}
