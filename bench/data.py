"""Data sets: campaigns whose messages are in mixed states, made inside PostgreSQL and kept in a cache folder."""

import asyncio
import hashlib
import json
import operator
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psycopg

from tallycast import apps, channels, db, embedded, migrations
from tallycast.channels import NewChannel
from tallycast.keys import load_cipher

APP = "bench"
SECRET = "a-webhook-secret-of-the-benchmark"
# Nothing of a data set that is half made is kept, so nothing has to survive a crash while it is made.
_LOADING = {
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "16GB",
    "autovacuum": "off",
    "maintenance_work_mem": "1GB",
}
_CHANNELS = [
    NewChannel("whatsApp", "360dialog", f"+852300012{n:02}", f"Shop {n}", "Marketing", SECRET)
    for n in range(4)
] + [NewChannel("sms", "generic", f"SHOP{n}", webhook_secret=SECRET) for n in range(2)]
_BLOCK = 10

_CAMPAIGNS = """
insert into campaigns (app_id, campaign_id, channel_number, type, name, created_by, sender_eid, subject, content,
  phone, channel_name, source_name, dated, sent_at, created_at)
select c.app_id, (extract(epoch from t.at) * 1000)::bigint << 20 | (n * 7919 % 1048576), c.channel_number, c.type,
  'Campaign ' || n || ' of the season', (array['Mei', 'Ada', 'Kwok', 'Sam'])[1 + n % 4],
  case when c.type = 'sms' then 'eid-' || n else '' end,
  case when c.type = 'sms' then '' else 'season_offer_v' || n % 20 end, 'See what is new this week',
  c.phone, c.channel_name, c.source_name, t.at, t.at, t.at
from generate_series(0, %(campaigns)s - 1) n
join channels c on c.app_id = %(app)s and c.channel_number = 1 + n % (select count(*) from channels where app_id = %(app)s)
cross join lateral (select timestamptz '2026-09-01 09:00:00.123Z' - n * interval '2 h' as at) t
"""
# One digest per message decides everything about it. `offset 0` keeps it from being computed once per use.
_MESSAGES = """
insert into messages (app_id, campaign_id, seq, channel_number, recipient, country, message_id,
  accepted_at, delivered_at, read_at, failed_at, error_code, error_title)
select app_id, campaign_id, seq, channel_number,
  '+8529' || lpad(((seq * 7919::bigint + campaign_id) %% 10000000)::text, 7, '0'), 'HK',
  case when type = 'sms' then 'SM' || left(encode(digest, 'hex'), 32)
    else 'wamid.HBgLODUyOQ' || translate(left(encode(digest, 'base64'), 43), '+/', 'Aa') end,
  at,
  case when roll >= 35 then at + (1 + get_byte(digest, 1)) * interval '37 ms' end,
  case when roll >= 60 and type <> 'sms' then at + (60 + get_byte(digest, 2)) * interval '1 s' end,
  case when roll between 30 and 34 then at + interval '2 s' end,
  case when roll between 30 and 34 then '131026' end,
  case when roll between 30 and 34 then 'Message undeliverable' end
from (
  select *, get_byte(digest, 0) * 100 / 256 as roll, sent_at + seq * interval '12 ms' as at
  from (
    select c.app_id, c.campaign_id, c.channel_number, c.type, c.sent_at, seq,
      sha256(int8send(c.campaign_id) || int4send(seq)) as digest
    from campaigns c, generate_series(0, %(each)s - 1) seq
    where c.app_id = %(app)s and c.campaign_id = any(%(ids)s)
    offset 0
  ) hashed
  offset 0
) rolled
"""
_ANSWERS = """
insert into replies (app_id, campaign_id, seq, button, replied_at)
select app_id, campaign_id, seq, case when seq % 3 = 0 then 'Yes' else 'No' end, read_at + interval '30 s'
from messages where app_id <> '' and read_at is not null and seq % 8 = 0;

insert into links (app_id, link_key, campaign_id, url, secret)
select app_id, 'k' || n, campaign_id, 'https://shop.example/season', sha256(int8send(campaign_id))
from (select app_id, campaign_id, row_number() over (order by campaign_id desc) as n from campaigns where app_id <> '') newest
where n <= 200;

insert into clicks (app_id, click_id, link_key, campaign_id, seq, clicked_at, method, user_agent, set_aside)
select m.app_id, gen_random_uuid(), 'k1', m.campaign_id, m.seq, m.read_at + interval '45 s', 'GET', 'Mozilla/5.0',
  case when m.seq % 160 = 4 then 'preview or crawler: facebookexternalhit' end
from messages m where m.app_id <> '' and m.read_at is not null and m.seq % 16 = 4;

insert into counts (app_id, campaign_id, total, pending, delivered, read, failed, button_replies, clicks)
select m.app_id, m.campaign_id, m.total, m.pending, m.delivered, m.read, m.failed,
  coalesce(r.n, 0), coalesce(k.n, 0)
from (
  select app_id, campaign_id, count(*) as total,
    count(*) filter (where state = 'pending') as pending,
    count(*) filter (where state in ('delivered', 'read')) as delivered,
    count(*) filter (where state = 'read') as read,
    count(*) filter (where state = 'failed') as failed
  from (
    select app_id, campaign_id, message_state(accepted_at, delivered_at, read_at, failed_at) as state from messages
    where app_id <> ''
  ) states
  group by 1, 2
) m
left join (select campaign_id, count(*) as n from replies where app_id <> '' group by 1) r using (campaign_id)
left join (select campaign_id, count(*) as n from clicks where app_id <> '' and set_aside is null group by 1) k using (campaign_id)
"""


@dataclass(frozen=True)
class Shape:
    name: str
    campaigns: int
    each: int

    @property
    def messages(self) -> int:
        return self.campaigns * self.each


SMALL = Shape("10k", 10, 1_000)
SHAPES = {
    shape.name: shape
    for shape in (
        SMALL,
        Shape("100k", 400, 250),
        Shape("1m", 500, 2_000),
        Shape("10m", 1_000, 10_000),
    )
}


@dataclass(frozen=True)
class DataSet:
    folder: Path
    shape: Shape
    token: str
    channel_ids: dict[int, str]
    whatsapp: list[int]

    @contextmanager
    def database(self) -> Iterator[str]:
        """The URL of its PostgreSQL, which runs with tallycast's own settings for the while."""
        server = embedded.start(self.folder)
        try:
            yield server.url
        finally:
            server.stop()


def prepare(
    cache: Path, shape: Shape, say: Callable[[str], None], fresh: tuple[int, int] = (0, 0)
) -> DataSet:
    """The data set from the cache, or a new one.

    A receipt is measured as one that changes something, so messages are used up: `fresh` tells how many must still be
    pending for webhooks and for the replay.
    """
    folder = cache / f"{shape.name}-{_fingerprint()}"
    found = _find(folder, shape)
    if found is not None and all(map(operator.ge, _pending(found), fresh)):
        return found
    for old in cache.glob(f"{shape.name}-*"):
        say(
            f"making the data set {shape.name} anew: too few messages are pending, or it is of another version"
        )
        shutil.rmtree(old)
    return _make(folder, shape, say)


def _fingerprint() -> str:
    """Changes with the schema and with what is put into it."""
    schema = "".join(sql for _, _, sql in migrations.available())
    return hashlib.sha256((schema + Path(__file__).read_text()).encode()).hexdigest()[:10]


def _find(folder: Path, shape: Shape) -> DataSet | None:
    note = folder / "bench.json"
    if not note.exists():
        return None
    known = json.loads(note.read_text())
    ids = {int(number): channel_id for number, channel_id in known["channel_ids"].items()}
    return DataSet(folder, shape, known["token"], ids, known["whatsapp"])


def _pending(found: DataSet) -> tuple[int, int]:
    """WhatsApp messages that are pending, in the channels for webhooks and in the one for the replay."""
    numbers: list[int] = []
    with found.database() as url, psycopg.connect(url) as connection:
        for chosen in (found.whatsapp[:-1], found.whatsapp[-1:]):
            listed = ",".join(map(str, chosen))
            query = f"select sum(pending) from counts join campaigns using (app_id, campaign_id) where channel_number in ({listed})"
            numbers.append(one_number(connection, query))
    return numbers[0], numbers[1]


def one_number(connection: "psycopg.Connection[Any]", query: str) -> int:
    row = connection.execute(query.encode()).fetchone()
    return int(row[0] or 0) if row else 0


def _make(folder: Path, shape: Shape, say: Callable[[str], None]) -> DataSet:
    began = time.monotonic()
    folder.mkdir(parents=True)
    server = embedded.start(folder, _LOADING)
    try:
        migrations.migrate(server.url)
        made = asyncio.run(_make_app(server.url, folder, shape))
        _fill(server.url, shape, say)
    finally:
        server.stop()
    os.sync()
    note = asdict(made) | {"folder": str(folder)}
    (folder / "bench.json").write_text(json.dumps(note))
    say(f"{shape.messages:,} messages made in {time.monotonic() - began:.0f} s")
    return made


async def _make_app(url: str, folder: Path, shape: Shape) -> DataSet:
    cipher = load_cipher(None, folder)
    async with db.connect(url) as connection:
        await apps.create_app(connection, "Benchmark", APP)
        token = (await apps.create_token(connection, APP)).plain
        made = [await channels.create(connection, cipher, APP, channel) for channel in _CHANNELS]
    ids = {channel.channel_number: channel.channel_id for channel in made}
    whatsapp = [channel.channel_number for channel in made if channel.type == "whatsApp"]
    return DataSet(folder, shape, token, ids, whatsapp)


def _fill(url: str, shape: Shape, say: Callable[[str], None]) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            _CAMPAIGNS.replace("%(app)s", f"'{APP}'").replace("%(campaigns)s", str(shape.campaigns)).encode()
        )
        ids = [
            row[0]
            for row in connection.execute(
                "select campaign_id from campaigns where app_id <> '' order by campaign_id"
            )
        ]
        indexes = _drop_indexes(connection)
        say(f"writing {shape.messages:,} messages")
        _write_messages(url, shape, ids)
        for definition in indexes:
            say(definition.partition(" USING ")[0].lower())
            connection.execute(definition.encode())
        say("counting them")
        connection.execute(_ANSWERS.encode())
        connection.execute("vacuum (freeze, analyze)")
        connection.execute("checkpoint")


def _drop_indexes(connection: "psycopg.Connection[Any]") -> list[str]:
    """Drop what is made faster at once than row by row; the statements that bring it back."""
    keys = connection.execute(
        "select conname, pg_get_constraintdef(oid) from pg_constraint where conrelid = 'messages'::regclass and contype = 'p'"
    ).fetchall()
    back = [f"alter table messages add constraint {name} {definition}" for name, definition in keys]
    for name, _ in keys:
        connection.execute(f"alter table messages drop constraint {name}".encode())
    others = connection.execute(
        "select indexrelid::regclass::text, pg_get_indexdef(indexrelid) from pg_index where indrelid = 'messages'::regclass"
    ).fetchall()
    for name, _ in others:
        connection.execute(f"drop index {name}".encode())
    return back + [definition for _, definition in others]


def _write_messages(url: str, shape: Shape, ids: list[int]) -> None:
    """Two connections, a block of campaigns at a time."""
    blocks = [ids[n : n + _BLOCK] for n in range(0, len(ids), _BLOCK)]
    failures: list[BaseException] = []

    def work() -> None:
        try:
            with psycopg.connect(url, autocommit=True) as connection:
                while blocks:
                    connection.execute(_MESSAGES, {"app": APP, "each": shape.each, "ids": blocks.pop(0)})
        except (psycopg.Error, IndexError) as error:
            if not isinstance(error, IndexError):  # the other one took the last block
                failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
