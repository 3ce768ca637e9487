"""What can be asked of a server. The reports work with any server that has CINNOX's page, the rest is tallycast's."""

import json
from collections.abc import AsyncIterable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from os import PathLike
from typing import Any, Literal, TypeVar
from urllib.parse import quote

from tallycast_client import exchange
from tallycast_client.bodies import NDJSON, write_lines
from tallycast_client.campaigns import Campaign, Channel, Import, Link, Message, Preview, Recording
from tallycast_client.faces import ListVerb, Verb
from tallycast_client.importing import import_file
from tallycast_client.insights import Changes, Insights, collect_changes
from tallycast_client.moments import write_moment
from tallycast_client.pages import MAX_LIMIT, Listing
from tallycast_client.reading import read, read_list
from tallycast_client.reports import Recipient, SentCampaign
from tallycast_client.retries import Retries
from tallycast_client.steps import Body, Call, Script, Target, create

Kind = TypeVar("Kind")
ChannelType = Literal["sms", "whatsApp"]
Format = Literal["csv", "xlsx", "parquet", "ndjson"]
_LONG_SECONDS = 300.0
_BEGIN = datetime(1970, 1, 1, tzinfo=UTC)
_SLACK = timedelta(days=1)


class Verbs:
    """What `Client` and `AsyncClient` have in common: all but the doing."""

    def __init__(self, url: str, app_id: str, timeout: float, retries: Retries) -> None:
        self._url = url
        self._app_id = app_id
        self._timeout = timeout
        self._retries = retries

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._url!r}, app_id={self._app_id!r})"

    @ListVerb
    def sent_campaigns(
        self,
        *,
        start: datetime | None = None,
        end: datetime | None = None,
        channel: ChannelType | None = None,
        page_size: int = MAX_LIMIT,
    ) -> Listing[SentCampaign]:
        """All campaigns sent in `start <= date < end`, the newest first. A bound that is left out is no bound."""
        params = {**_period(start, end), **_given(channel=channel)}
        return self._list("/data/sent-campaigns-summary", SentCampaign, params, page_size, attrgetter("id"))

    @ListVerb
    def recipients(
        self, history_id: str, *, status: str | None = None, page_size: int = MAX_LIMIT
    ) -> Listing[Recipient]:
        """What became of each recipient of a campaign; only those with a status, e.g. "Delivered", if you like."""
        params = {"historyID": history_id, **_given(status=status)}
        return self._list("/data/sent-campaigns-detail", Recipient, params, page_size)

    @Verb
    def insights(self, campaign_id: str) -> Script[Insights]:
        """A campaign's funnel, its deliveries over time, failures, countries, links and buttons."""
        return self._get(f"/data/campaigns/{_part(campaign_id)}/insights", Insights)

    @Verb
    def changes(self, since: str | None = None, *, page_size: int = MAX_LIMIT) -> Script[Changes]:
        """All campaigns whose figures changed since the cursor of an earlier answer; without one, all there are.

        One that changed in the last seconds may come again the next time: write it over what you have by `id`.
        """
        call = Call(path="/data/campaign-changes", params=_given(since=since, limit=str(page_size)))
        return collect_changes(call, self._retries)

    @Verb
    def channels(self) -> Script[list[Channel]]:
        """The numbers that campaigns are sent from, or reported for."""
        return self._get_list("/channels", Channel)

    @Verb
    def record_campaign(
        self,
        name: str,
        channel_id: str,
        messages: Iterable[Message] = (),
        *,
        date: datetime | None = None,
        created_by: str = "",
        sender_eid: str = "",
        subject: str = "",
        content: str = "",
    ) -> Script[Recording]:
        """Tell tallycast about a campaign that another system sent. Many messages: `add_messages` after it."""
        fields = {
            "campaignName": name,
            "channelID": channel_id,
            "date": None if date is None else write_moment(date, "date"),
            "createdBy": created_by,
            "senderEID": sender_eid,
            "subject": subject,
            "content": content,
            "messages": [message.write() for message in messages],
        }
        return self._post("/sent-campaigns", Recording, _json(fields))

    @Verb
    def add_messages(
        self, campaign_id: str, messages: Iterable[Message] | AsyncIterable[Message]
    ) -> Script[Recording]:
        """Add messages to a recorded campaign, or complete them, as a stream of any length.

        A list is sent again after a broken connection, an iterator is not; doing it yourself changes nothing twice. An
        async iterable is for `AsyncClient`.
        """
        path = f"/sent-campaigns/{_part(campaign_id)}/messages"
        call = create(path, write_lines(messages), NDJSON, seconds=_LONG_SECONDS)
        return self._ask(call, Recording)

    @Verb
    def create_links(self, campaign_id: str, url: str) -> Script[list[Link]]:
        """One tracked link to the URL per message of a recorded campaign; the same ones when asked again."""
        call = create(
            f"/sent-campaigns/{_part(campaign_id)}/links", _json({"url": url}), seconds=_LONG_SECONDS
        )
        return self._ask_links(call)

    @ListVerb
    def campaigns(self, *, stage: str | None = None, page_size: int = MAX_LIMIT) -> Listing[Campaign]:
        """The campaigns that tallycast sends, in every stage or in one, the newest first."""
        return self._list("/campaigns", Campaign, _given(stage=stage), page_size, attrgetter("id"))

    @Verb
    def create_campaign(
        self,
        name: str,
        kind: Literal["smsStandard", "smsDynamic", "whatsApp"],
        channel_id: str,
        *,
        content: str = "",
        template: Mapping[str, Any] | None = None,
        fallback: Mapping[str, Any] | None = None,
        track_links: bool = False,
        created_by: str = "",
        sender_eid: str = "",
        scheduled_at: datetime | None = None,
    ) -> Script[Campaign]:
        """A draft. `content` is the text of smsDynamic; `template` and `fallback` are as the API has them."""
        fields = {
            "campaignName": name,
            "kind": kind,
            "channelID": channel_id,
            "content": content,
            "template": template,
            "fallback": fallback,
            "trackLinks": track_links,
            "createdBy": created_by,
            "senderEID": sender_eid,
            "scheduledAt": None if scheduled_at is None else write_moment(scheduled_at, "scheduled_at"),
        }
        return self._post("/campaigns", Campaign, _json(fields))

    @Verb
    def campaign(self, campaign_id: str) -> Script[Campaign]:
        """How a campaign stands at this moment, and why messages failed."""
        return self._get(f"/campaigns/{_part(campaign_id)}", Campaign)

    @Verb
    def import_audience(
        self,
        campaign_id: str,
        file: str | PathLike[str],
        *,
        on_error: Literal["keep", "refuse"] = "keep",
        mapping: Mapping[str, Any] | None = None,
        patience: float = 600.0,
    ) -> Script[Import]:
        """Import a draft's recipients from a CSV, XLSX or NDJSON file, and wait for the end up to `patience` seconds.

        Look at `state`: an import may be refused. `mapping` says which column is what.
        """
        path = f"/campaigns/{_part(campaign_id)}/audience"
        params = {"onError": on_error, **({} if mapping is None else {"mapping": json.dumps(mapping)})}
        return import_file(path, params, file, patience, self._retries)

    @Verb
    def audience_import(self, campaign_id: str, import_id: str) -> Script[Import]:
        """How an import goes."""
        return self._get(f"/campaigns/{_part(campaign_id)}/audience/{_part(import_id)}", Import)

    @Verb
    def preview(
        self, campaign_id: str, *, limit: int = 5, cost_per_part: float | None = None
    ) -> Script[Preview]:
        """What the first recipients will get, and the SMS parts and cost of all."""
        params = _given(limit=str(limit), costPerPart=None if cost_per_part is None else str(cost_per_part))
        return self._get(f"/campaigns/{_part(campaign_id)}/preview", Preview, params, _LONG_SECONDS)

    @Verb
    def submit(self, campaign_id: str, note: str = "") -> Script[Campaign]:
        """Submit a draft: it is scheduled, or waits for approval."""
        return self._act(campaign_id, "submit", {"note": note})

    @Verb
    def approve(self, campaign_id: str, note: str = "") -> Script[Campaign]:
        """Approve what somebody else submitted."""
        return self._act(campaign_id, "approve", {"note": note})

    @Verb
    def reject(self, campaign_id: str, note: str) -> Script[Campaign]:
        """Send it back to be a draft; the note says what must be changed."""
        return self._act(campaign_id, "reject", {"note": note})

    @Verb
    def schedule(
        self, campaign_id: str, at: datetime | None = None, *, note: str = "", accept_risk: bool = False
    ) -> Script[Campaign]:
        """Give a campaign its moment, or another one; what the draft says when left out."""
        moment = {} if at is None else {"scheduledAt": write_moment(at, "at")}
        return self._act(campaign_id, "schedule", {**moment, "note": note, "acceptRisk": accept_risk})

    @Verb
    def start(self, campaign_id: str, note: str = "", *, accept_risk: bool = False) -> Script[Campaign]:
        """Start sending now. Starting twice sends once."""
        return self._act(campaign_id, "start", {"note": note, "acceptRisk": accept_risk})

    @Verb
    def pause(self, campaign_id: str, note: str = "") -> Script[Campaign]:
        """Within two seconds nothing more is handed to the provider."""
        return self._act(campaign_id, "pause", {"note": note})

    @Verb
    def resume(self, campaign_id: str, note: str = "", *, accept_risk: bool = False) -> Script[Campaign]:
        """Go on with exactly the rest."""
        return self._act(campaign_id, "resume", {"note": note, "acceptRisk": accept_risk})

    @Verb
    def cancel(self, campaign_id: str, note: str = "") -> Script[Campaign]:
        """For good: what was not sent yet fails."""
        return self._act(campaign_id, "cancel", {"note": note})

    @Verb
    def export_recipients(
        self,
        campaign_id: str,
        to: Target,
        *,
        format: Format = "csv",  # noqa: A002 - the API's word
        state: str | None = None,
        excel: bool = False,
        raw: bool = False,
    ) -> Script[int]:
        """Write a campaign's recipients to a file, by name or opened for writing bytes; the number of bytes.

        A file has its name only once it is whole. `excel`: a CSV that Excel opens as it is meant; `raw`: texts that
        look like formulas stay as they are.
        """
        params = {"campaign": campaign_id, **_given(state=state)}
        return self._export("/exports/recipients", params, to, format, excel=excel, raw=raw)

    @Verb
    def export_campaigns(
        self,
        to: Target,
        *,
        start: datetime | None = None,
        end: datetime | None = None,
        channel: ChannelType | None = None,
        format: Format = "csv",  # noqa: A002 - the API's word
        excel: bool = False,
        raw: bool = False,
    ) -> Script[int]:
        """Write the summaries of a period to a file, as `export_recipients`."""
        params = {**_period(start, end), **_given(channel=channel)}
        return self._export("/exports/campaigns", params, to, format, excel=excel, raw=raw)

    def _ask(self, call: Call, kind: type[Kind]) -> Script[Kind]:
        return read(kind, (yield from exchange.ask(call, self._retries)).result)

    def _get(
        self, path: str, kind: type[Kind], params: Mapping[str, str] | None = None, seconds: float = 0.0
    ) -> Script[Kind]:
        return self._ask(Call(path=path, params=params or {}, seconds=seconds), kind)

    def _get_list(self, path: str, kind: type[Kind]) -> Script[list[Kind]]:
        return read_list(kind, (yield from exchange.ask(Call(path=path), self._retries)).result)

    def _post(self, path: str, kind: type[Kind], body: Body) -> Script[Kind]:
        return self._ask(create(path, body), kind)

    def _act(self, campaign_id: str, action: str, fields: Mapping[str, Any]) -> Script[Campaign]:
        return self._post(f"/campaigns/{_part(campaign_id)}/{action}", Campaign, _json(fields))

    def _ask_links(self, call: Call) -> Script[list[Link]]:
        answer = yield from exchange.ask(call, self._retries)
        return read_list(Link, (answer.result or {}).get("links"))

    def _export(
        self, path: str, params: Mapping[str, str], target: Target, kind: Format, **flags: bool
    ) -> Script[int]:
        raised = {name: "true" for name, is_raised in flags.items() if is_raised}
        call = Call(
            path=path, params={**params, "format": kind, **raised}, is_streamed=True, seconds=_LONG_SECONDS
        )
        return exchange.save(call, target, self._retries)

    def _list(
        self, path: str, kind: type[Kind], params: Mapping[str, str], page_size: int, key: Any = None
    ) -> Listing[Kind]:
        if not 1 <= page_size <= MAX_LIMIT:
            raise ValueError(f"page_size must be from 1 to {MAX_LIMIT}")
        call = Call(path=path, params={**params, "limit": str(page_size), "offset": "0"})
        return Listing(call, kind, self._retries, key)


def _given(**params: str | None) -> dict[str, str]:
    return {name: value for name, value in params.items() if value is not None}


def _part(text: str) -> str:
    return quote(text, safe="")


def _json(fields: Mapping[str, Any]) -> bytes:
    given = {name: value for name, value in fields.items() if value is not None}
    return json.dumps(given, ensure_ascii=False).encode()


def _period(start: datetime | None, end: datetime | None) -> dict[str, str]:
    """The API wants both bounds or neither. No end is a day from now: later than any campaign, whatever the clocks say."""
    if start is None and end is None:
        return {}
    first, last = start or _BEGIN, end or datetime.now(UTC) + _SLACK
    return {"startAt": write_moment(first, "start"), "endAt": write_moment(last, "end")}
