"""Rotation of the encryption key: while everything runs, cut off at any moment, and never with the wrong key."""

import asyncio
import base64
import itertools
import json
import os
import re
import subprocess
import tempfile
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from harness import TALLYCAST, App, Server, run, start_server, wait_for
from stage import until_blocked
from tallycast import (
    administrations,
    apps,
    channels,
    db,
    digests,
    endpoints,
    keyholders,
    migrations,
    rotation,
)
from tallycast.administrations import HOUSE, By
from tallycast.channels import ChannelChange, NewChannel
from tallycast.endpoints import NewEndpoint
from tallycast.keyholders import Keyholder
from tallycast.keys import BadKey, Cipher, Key, KeyFile, load_cipher
from tallycast.rotation import Rotation, Waiting
from test_sql import new_database

NUMBER = "+85291000000"
GENERIC = NewChannel("whatsApp", "generic", "+85230001234", webhook_secret="s3cret")
NAMES = itertools.count()


@dataclass
class Vault:
    """A database of its own with an app that has a secret of each kind, sealed with the key of a file."""

    url: str
    connection: db.Connection
    folder: Path
    app_id: str
    channel_id: str
    endpoint_id: str
    secrets: list[bytes]
    digest: str
    said: list[str]

    @property
    def file(self) -> KeyFile:
        return KeyFile(self.folder)

    @property
    def cipher(self) -> Cipher:
        return load_cipher(None, self.folder)

    def rotation(self, patience: float = 0.3) -> Rotation:
        return Rotation(self.connection, By("cli mei"), self.said.append, patience)

    async def check(self, cipher: Cipher) -> None:
        """Everything opens, and is what it was."""
        channel = await channels.find(self.connection, self.app_id, self.channel_id)
        assert channel.open_secrets(cipher).webhook_secret == "s3cret"
        endpoint = await endpoints.find(self.connection, self.app_id, self.endpoint_id)
        assert endpoint.open_secrets(cipher) == self.secrets
        key = await digests.take_key(self.connection, cipher, self.app_id)
        assert key.digest(NUMBER) == self.digest

    async def sealed(self) -> dict[str, int]:
        """How many secrets each key has sealed; all of them open."""
        found, shut = await rotation.count(self.connection, self.cipher)
        assert shut == []
        return {key.key_id.hex(): n for key, n in found.items()}


@pytest.fixture
async def vault(database_url: str, tmp_path: Path) -> AsyncIterator[Vault]:
    async with new_database(database_url, f"vault_{os.getpid()}_{next(NAMES)}") as url:
        migrations.migrate(url)
        async with db.connect(url) as connection:
            cipher = load_cipher(None, tmp_path)
            app_id = (await apps.create_app(connection, "Shop")).app_id
            channel = await channels.create(connection, cipher, app_id, GENERIC)
            async with connection.transaction():
                new = NewEndpoint("https://example.com/hook")
                made = await endpoints.create(connection, cipher, app_id, new, ())
            changed = await endpoints.rotate_secret(connection, cipher, app_id, made.endpoint_id)
            digest = (await digests.take_key(connection, cipher, app_id)).digest(NUMBER)
            secrets = changed.open_secrets(cipher)
            assert len(secrets) == 2
            yield Vault(
                url, connection, tmp_path, app_id, channel.channel_id, made.endpoint_id, secrets, digest, []
            )


def ids(keys: list[Key]) -> list[str]:
    return [key.key_id.hex() for key in keys]


@pytest.mark.anyio
async def test_every_kind_of_secret_comes_under_the_new_key_and_the_old_one_goes(vault: Vault) -> None:
    [old] = vault.file.read()
    assert await vault.sealed() == {old.key_id.hex(): 4}
    await vault.rotation().run_file(vault.file, keeps=False)
    [new] = vault.file.read()
    assert new.secret != old.secret
    assert await vault.sealed() == {new.key_id.hex(): 4}
    await vault.check(Cipher(new.secret))
    with pytest.raises(BadKey):
        await vault.check(Cipher(old.secret))
    noted = await administrations.list_page(vault.connection, HOUSE, 10, 0)
    assert sorted((one.actor, one.action, one.subject) for one in noted) == [
        ("cli mei", "key.added", new.key_id.hex()),
        ("cli mei", "key.retired", old.key_id.hex()),
        ("cli mei", "key.used", new.key_id.hex()),
    ]
    assert vault.said[-2] == f"4 secrets were sealed with key {new.key_id.hex()}"
    assert vault.file.path.stat().st_mode & 0o777 == 0o600


@pytest.mark.anyio
async def test_secrets_that_an_earlier_version_sealed_open_and_get_the_name_of_their_key(
    vault: Vault,
) -> None:
    [old] = vault.file.read()
    nonce, place = bytes(12), channels.place_of(vault.app_id, vault.channel_id)
    body = AESGCM(old.secret).encrypt(nonce, b'{"webhook_secret":"s3cret"}', place.encode())
    await vault.connection.execute(
        b"update channels set secrets = %s where app_id = %s", [b"\x01" + nonce + body, vault.app_id]
    )
    await vault.check(vault.cipher)
    assert await vault.sealed() == {old.key_id.hex(): 4}
    await vault.rotation().run_file(vault.file, keeps=False)
    await vault.check(vault.cipher)
    assert await vault.sealed() == {ids(vault.file.read())[0]: 4}


@pytest.mark.anyio
async def test_the_old_key_may_stay_and_the_next_time_takes_it_out(vault: Vault) -> None:
    [old] = ids(vault.file.read())
    await vault.rotation().run_file(vault.file, keeps=True)
    new, kept = ids(vault.file.read())
    assert (kept, await vault.sealed()) == (old, {new: 4})
    await vault.rotation().run_file(vault.file, keeps=False)
    assert ids(vault.file.read()) == [new]


@pytest.mark.anyio
async def test_a_key_seals_only_when_every_process_has_it_and_the_old_one_goes_only_when_nobody_seals_with_it(
    vault: Vault,
) -> None:
    [old] = vault.file.read()
    slow = Keyholder(db.always(vault.connection), Cipher(old.secret))
    await slow.tell()
    [holder] = await keyholders.list_live(vault.connection)
    assert holder.key_ids == ids([old])
    with pytest.raises(Waiting, match=re.escape(holder.process)):
        await vault.rotation().run_file(vault.file, keeps=False)
    first, second = vault.file.read()
    assert (first, second.is_next) == (old, True)
    assert await vault.sealed() == {ids([old])[0]: 4}
    # It has both now, and seals with the old one still.
    await slow.leave()
    slow = Keyholder(db.always(vault.connection), Cipher(old.secret, second.secret))
    await slow.tell()
    with pytest.raises(Waiting, match="do not seal with key"):
        await vault.rotation().run_file(vault.file, keeps=False)
    assert [key.is_next for key in vault.file.read()] == [False, False]
    assert await vault.sealed() == {ids([old])[0]: 4}
    await slow.leave()
    await vault.rotation().run_file(vault.file, keeps=False)
    assert ids(vault.file.read()) == ids([second])
    assert await vault.sealed() == {ids([second])[0]: 4}


@pytest.mark.anyio
async def test_a_process_takes_up_the_keys_of_its_file_says_so_and_takes_its_word_back(vault: Vault) -> None:
    mine = Keyholder(db.always(vault.connection), vault.cipher)
    await mine.tell()
    before = [one.key_ids for one in await keyholders.list_live(vault.connection)]
    vault.file.write([*vault.file.read(), Key(bytes(32), is_next=True)])
    await mine.tell()
    after = [one.key_ids for one in await keyholders.list_live(vault.connection)]
    assert (before, after) == ([ids(vault.file.read()[:1])], [ids(vault.file.read())])
    await mine.leave()
    assert await keyholders.list_live(vault.connection) == []


@pytest.mark.anyio
async def test_who_was_killed_on_this_machine_is_not_waited_for(vault: Vault) -> None:
    await Keyholder(db.always(vault.connection), vault.cipher).tell()
    await vault.connection.execute(
        b"update keyholders set process = regexp_replace(process, '[0-9]+ [0-9]+$', '4194304 1')"
    )
    assert await keyholders.list_live(vault.connection) == []
    await vault.rotation().run_file(vault.file, keeps=False)


@pytest.mark.anyio
async def test_a_wrong_key_is_told_and_nothing_is_changed(vault: Vault) -> None:
    vault.file.write([Key(bytes(32))])
    before = await (await vault.connection.execute(b"select secrets from channels")).fetchall()
    with pytest.raises(BadKey, match=rf"does not open channel {vault.channel_id} of {vault.app_id}"):
        await vault.rotation().run_file(vault.file, keeps=False)
    assert vault.file.read() == [Key(bytes(32))]
    assert await (await vault.connection.execute(b"select secrets from channels")).fetchall() == before


@pytest.mark.anyio
async def test_a_secret_that_somebody_changes_meanwhile_is_the_one_that_stays(vault: Vault) -> None:
    old = vault.cipher
    vault.file.write([Key(bytes(32)), *vault.file.read()])
    async with db.connect(vault.url) as other, db.connect(vault.url) as watcher:
        async with vault.connection.transaction():
            change = ChannelChange(webhook_secret="later")
            frozen = Cipher(old.keys[0].secret)
            await channels.change(vault.connection, frozen, vault.app_id, vault.channel_id, change)
            task = asyncio.create_task(rotation.reseal(other, vault.cipher))
            await until_blocked(watcher, other)
        assert await task == 4
    channel = await channels.find(vault.connection, vault.app_id, vault.channel_id)
    assert channel.open_secrets(Cipher(bytes(32))).webhook_secret == "later"


@pytest.mark.anyio
async def test_keys_of_the_environment_are_changed_in_three_steps_that_it_tells(vault: Vault) -> None:
    [old] = vault.file.read()
    new = Key(bytes(range(32)))
    texts = [base64.b64encode(key.secret).decode() for key in (new, old)]
    storage = ["--database-url", vault.url, "--data-dir", str(vault.folder / "other")]
    said = await asyncio.to_thread(run, "keys", "rotate", "--encryption-key", texts[1], *storage, status=1)
    assert "TALLYCAST_ENCRYPTION_KEY=NEW,OLD" in said
    assert await vault.sealed() == {ids([old])[0]: 4}
    both = ["--encryption-key", ",".join(texts), *storage]
    said = await asyncio.to_thread(run, "keys", "rotate", *both)
    assert "4 secrets were sealed with key" in said
    await vault.check(Cipher(new.secret))
    listed = json.loads(await asyncio.to_thread(run, "keys", "list", "--json", *both))
    assert listed == {
        "keys": [
            {"keyID": ids([new])[0], "use": "seals", "sealed": 4},
            {"keyID": ids([old])[0], "use": "opens", "sealed": 0},
        ],
        "shut": [],
        "processes": [],
    }
    assert not any(text in said + json.dumps(listed) for text in texts)
    assert not (vault.folder / "other" / "secret.key").exists()


@pytest.mark.anyio
async def test_looking_at_keys_where_there_are_none_makes_none(vault: Vault) -> None:
    empty = vault.folder / "empty"
    for command in ("list", "rotate"):
        await asyncio.to_thread(
            run, "keys", command, "--database-url", vault.url, "--data-dir", str(empty), status=2
        )
    assert not (empty / "secret.key").exists()


# The whole thing: a server with two processes and a worker, and the command in a process of its own.


@dataclass
class Storm:
    """Signed webhooks, one after another; a wrong signature now and then."""

    app: App
    channel_id: str
    statuses: Counter[int]
    forged: Counter[int]
    sent: int = 0

    def post(self) -> None:
        self.sent += 1
        receipt = {"messageID": f"m-{self.sent}", "status": "delivered"}
        self.statuses[self.app.post_receipts(self.channel_id, receipt, secret="s3cret").status_code] += 1
        self.forged[self.app.post_receipts(self.channel_id, receipt, secret="wrong").status_code] += 1


@contextmanager
def storming(storm: Storm) -> Iterator[None]:
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            storm.post()

    thread = threading.Thread(target=work)
    thread.start()
    yield
    stop.set()
    thread.join()


@pytest.fixture(scope="module")
def shop() -> Iterator[Server]:
    with tempfile.TemporaryDirectory(prefix="tallycast-test-") as folder:
        server = start_server(Path(folder), "--workers", "2", "--private-hosts", "127.0.0.1")
        yield server
        assert server.stop() == 0


def add_channels(app: App, simulator: str, number: int) -> tuple[str, str]:
    """A channel that receives signed receipts, and one that sends; and others, whose secrets have to be sealed too."""
    receiving = app.add_channel(webhookSecret="s3cret")
    credentials = {"baseURL": simulator, "apiKey": "k"}
    sending = app.add_channel(
        type="sms", provider="sandbox", phone="SHOP", credentials=credentials, ratePerSecond=50
    )
    for n in range(number):
        app.add_channel(channelName=f"Shop {n}", webhookSecret=f"secret {n}")
    return receiving, sending


def start_campaign(app: App, channel_id: str, recipients: int) -> str:
    body = {"campaignName": "Sale", "kind": "smsDynamic", "channelID": channel_id, "content": "Hi"}
    made: str = app.result("POST", "/campaigns", json=body)["id"]
    rows = "recipient\n" + "".join(f"+8526{1000000 + n}\n" for n in range(recipients))
    app.result(
        "POST", f"/campaigns/{made}/audience", params={"wait": 30}, content=rows.encode(), headers={"Content-Type": "text/csv"},
    )  # fmt: skip
    app.result("POST", f"/campaigns/{made}/start")
    return made


def list_keys(server: Server) -> dict[str, Any]:
    listed: dict[str, Any] = json.loads(server.run("keys", "list", "--json"))
    return listed


def test_a_key_is_rotated_while_signed_webhooks_come_in_and_a_campaign_goes_out(
    shop: Server, simulator: str, make_app: Callable[[Server], App]
) -> None:
    app = make_app(shop)
    receiving, sending = add_channels(app, simulator, 5)
    campaign = start_campaign(app, sending, 200)
    storm = Storm(app, receiving, Counter(), Counter())
    old = (shop.data_dir / "secret.key").read_bytes()
    with storming(storm):
        wait_for(lambda: storm.sent > 20)
        said = shop.run("keys", "rotate")
        changed = app.result("PATCH", f"/channels/{receiving}", json={"channelName": "New"})
        wait_for(lambda: app.result("GET", f"/campaigns/{campaign}")["stage"] == "sent", 60)
    assert "taken out:" in said
    assert changed["hasWebhookSecret"] is True
    assert (set(storm.statuses), set(storm.forged)) == ({200}, {401})
    lines = httpx.get(f"{simulator}/simulator/ledger").text.splitlines()
    reached = Counter(
        line["recipient"] for line in map(json.loads, lines)
        if line["kind"] == "message" and "8526100" in line["recipient"]
    )  # fmt: skip
    assert (len(reached), set(reached.values())) == (200, {1})
    keys = (shop.data_dir / "secret.key").read_bytes()
    assert keys != old
    assert keys.count(b"\n") == 1
    # Two server processes and two workers; each lets go of the old key when it next looks at the file.
    wait_for(lambda: [len(one["keyIDs"]) for one in list_keys(shop)["processes"]] == [1] * 4)
    listed = list_keys(shop)
    [key] = listed["keys"]
    assert (key["use"], listed["shut"]) == ("seals", [])
    assert key["sealed"] >= 7
    assert [one["keyIDs"] for one in listed["processes"]] == [[key["keyID"]]] * 4
    assert shop.audit()["drift"] == 0


def sealed_with(url: str, key_id: str) -> int:
    with psycopg.connect(url) as connection:
        query = b"select count(*) from channels where encode(substr(secrets, 2, 4), 'hex') = %s"
        found = connection.execute(query, [key_id]).fetchone()
        assert found is not None
        number: int = found[0]
        return number


@pytest.mark.parametrize("moment", ["the key is added", "the key seals", "half is sealed"])
def test_a_rotation_that_is_killed_at_any_moment_is_finished_by_the_next(
    vault_url: str, tmp_path: Path, moment: str
) -> None:
    storage = ["--database-url", vault_url, "--data-dir", str(tmp_path)]
    asyncio.run(fill(vault_url, tmp_path, 400))
    [old] = KeyFile(tmp_path).read()
    process = subprocess.Popen([*TALLYCAST, "keys", "rotate", *storage], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process, process.stdout:
        process.stdout.readline()
        if moment != "the key is added":
            process.stdout.readline()
        if moment == "half is sealed":
            new = ids(KeyFile(tmp_path).read())[0]
            wait_for(lambda: sealed_with(vault_url, new) > 0)
        process.kill()
    assert len(KeyFile(tmp_path).read()) == 2
    if moment == "half is sealed":
        assert 0 < sealed_with(vault_url, ids([old])[0]) < 400
    # Whatever is there opens, before and after.
    assert json.loads(run("keys", "list", "--json", *storage))["shut"] == []
    run("keys", "rotate", *storage)
    [new_key] = KeyFile(tmp_path).read()
    assert new_key.secret != old.secret
    assert sealed_with(vault_url, new_key.key_id.hex()) == 400


@pytest.fixture
def vault_url(database_url: str) -> Iterator[str]:
    name = f"killed_{os.getpid()}_{next(NAMES)}"
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(f"create database {name}".encode())
        url = re.sub(r"/\w+\?", f"/{name}?", database_url, count=1)
        migrations.migrate(url)
        yield url
        connection.execute(f"drop database {name} with (force)".encode())


async def fill(url: str, folder: Path, number: int) -> None:
    cipher = load_cipher(None, folder)
    async with db.connect(url) as connection:
        app_id = (await apps.create_app(connection, "Shop")).app_id
        for _ in range(number):
            await channels.create(connection, cipher, app_id, GENERIC)


def test_two_rotations_at_once_are_one_too_many(vault_url: str, tmp_path: Path) -> None:
    asyncio.run(fill(vault_url, tmp_path, 1))
    storage = ["--database-url", vault_url, "--data-dir", str(tmp_path)]
    with rotation._alone(KeyFile(tmp_path)):  # noqa: SLF001 - what a running one holds
        run("keys", "rotate", *storage, status=2)
    run("keys", "rotate", *storage)
