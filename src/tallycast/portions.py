"""Portions: claimed messages made ready to send, and those that must not be sent set aside."""

import logging
import time
from datetime import UTC, datetime
from itertools import groupby
from typing import NamedTuple
from urllib.parse import quote

from tallycast import db, digests, handovers, optouts, policies, quiet, rendering, sendings, trials
from tallycast.channels import Channel
from tallycast.errors import Problem
from tallycast.handovers import ERASED, Claim, Desk, Failed, PutOff, Results, Row
from tallycast.keys import Cipher
from tallycast.policies import Policy
from tallycast.providers.contract import Outgoing
from tallycast.references import write_reference
from tallycast.rendering import Rendered, Renderer, RenderError
from tallycast.trials import Trial

log = logging.getLogger("tallycast.portions")
OPTED_OUT = "The recipient does not want messages any more"
_POLICY_SECONDS = 5.0
_MAX_TEXTS = 100


class Item(NamedTuple):
    """A message that is ready. `kept_text` is recorded with it: what it says is known only now."""

    claim: Claim
    outgoing: Outgoing
    parts: int
    kept_text: str | None
    claimed_at: float
    trial: Trial | None = None


class _Text(NamedTuple):
    """What a campaign says over this channel: its own text or template, or its fallback's."""

    renderer: Renderer
    is_fallback: bool

    def render(self, seq: int, content: str | None, variables: list[str] | None) -> Rendered:
        return self.renderer.render(seq, content, variables, self.is_fallback)


class Preparer:
    """Prepares for one channel; texts and templates do not change once a campaign has left its draft."""

    def __init__(self, base_url: str, cipher: Cipher, desk: Desk) -> None:
        self._base_url = base_url
        self._cipher = cipher
        self._desk = desk
        self._texts: dict[int, _Text] = {}
        self._policy: Policy | None = None
        self._policy_at = 0.0
        self._refused_trials: list[tuple[Trial, str]] = []

    async def prepare(
        self, connection: db.Connection, channel: Channel, claims: list[Claim]
    ) -> tuple[list[Item], Results]:
        """The items to send, in order, and what is already decided about the others."""
        items: list[Item] = []
        results = Results()
        for campaign_id, group in groupby(claims, lambda claim: claim.campaign_id):
            portion = {claim.seq: claim for claim in group}
            rows = await handovers.read(connection, self._desk.app_id, campaign_id, list(portion))
            text = await self._find_text(connection, campaign_id)
            recipients = [row.recipient for row in rows]
            app_id, kind = self._desk.app_id, channel.type
            blocked = await optouts.blocked(connection, self._cipher, app_id, kind, recipients)
            policy = await self._find_policy(connection)
            for row in rows:
                try:
                    item = self._decide(channel, text, policy, portion[row.seq], row, blocked, results)
                except Exception as error:  # one message must not keep all others
                    log.exception("a message cannot be prepared", extra={"app": self._desk.app_id})
                    results.skipped.append(
                        Failed(portion[row.seq], "unfit", f"It cannot be prepared: {error}"[:500])
                    )
                    continue
                items += [item] if item else []
        return items, results

    def _decide(
        self,
        channel: Channel,
        text: _Text,
        policy: Policy,
        claim: Claim,
        row: Row,
        blocked: set[str],
        results: Results,
    ) -> Item | None:
        if not row.is_queued:
            results.settled.append(claim)
            return None
        if digests.is_digest(row.recipient):
            results.skipped.append(Failed(claim, "erased", ERASED))
            return None
        if row.recipient in blocked:
            results.skipped.append(Failed(claim, "optedOut", OPTED_OUT))
            return None
        opens_at = quiet.next_window(policy, row.recipient, row.country, datetime.now(UTC))
        if opens_at is not None:
            seconds = (opens_at - datetime.now(UTC)).total_seconds()
            results.put_off.append(
                PutOff(claim, seconds, claim.attempts, f"quiet hours until {opens_at:%H:%M} UTC")
            )
            return None
        try:
            rendered = text.render(claim.seq, row.content, row.variables)
        except RenderError as error:
            results.skipped.append(Failed(claim, "unfit", str(error)))
            return None
        kept_text = rendered.text if rendered.text != row.content else None
        outgoing = self._address(channel, row.recipient, claim.campaign_id, claim.seq, rendered)
        return Item(claim, outgoing, rendered.parts, kept_text, time.monotonic())

    def _address(
        self, channel: Channel, recipient: str, campaign_id: int, seq: int, rendered: Rendered
    ) -> Outgoing:
        reference = write_reference(campaign_id, seq)
        hook = (
            f"{self._base_url}/webhooks/{channel.provider}/{channel.channel_id}?reference={quote(reference)}"
        )
        return Outgoing(recipient, channel.phone, reference, rendered.text, rendered.template, hook)

    async def prepare_trials(self, connection: db.Connection, channel: Channel) -> list[Item]:
        """Test messages that wait; consent and quiet hours do not bind who tests on a number of his own."""
        items = []
        for trial in await trials.claim(connection, self._desk):
            try:
                text = await self._load_text(connection, trial.campaign_id)  # a draft's text may change
                rendered = text.render(trials.SEQ, trial.content, trial.variables)
            except (RenderError, Problem, *db.AWAY) as error:
                self._refused_trials.append((trial, f"it was not sent: {error}"))
                continue
            outgoing = self._address(channel, trial.recipient, trial.campaign_id, trials.SEQ, rendered)
            claim = Claim(trial.campaign_id, trials.SEQ, 0)
            items.append(Item(claim, outgoing, rendered.parts, None, time.monotonic(), trial))
        return items

    def refused_trials(self) -> list[tuple[Trial, str]]:
        """Test messages that could not be put together, and why; each is told once."""
        refused, self._refused_trials = self._refused_trials, []
        return refused

    async def _find_text(self, connection: db.Connection, campaign_id: int) -> _Text:
        text = self._texts.get(campaign_id)
        if text is None:
            if len(self._texts) >= _MAX_TEXTS:
                self._texts.clear()
            text = self._texts[campaign_id] = await self._load_text(connection, campaign_id)
        return text

    async def _load_text(self, connection: db.Connection, campaign_id: int) -> _Text:
        app_id = self._desk.app_id
        sending = await sendings.find(connection, app_id, campaign_id)
        renderer = await rendering.load_renderer(connection, app_id, campaign_id, self._base_url)
        return _Text(renderer, sending.channel_number != self._desk.channel_number)

    async def _find_policy(self, connection: db.Connection) -> Policy:
        now = time.monotonic()
        if self._policy is None or now - self._policy_at > _POLICY_SECONDS:
            self._policy = await policies.find_policy(connection, self._desk.app_id)
            self._policy_at = now
        return self._policy
