"""The encryption key: made once, for its owner only, and of no use in another row."""

import base64
import multiprocessing
import os
from pathlib import Path

import pytest

from stage import make_stage
from tallycast import channels, db
from tallycast.channels import NewChannel
from tallycast.keys import BadKey, Cipher, KeyFile, load_cipher, make_key

OTHER_KEY = "another key: set TALLYCAST_ENCRYPTION_KEY, or put back the secret.key file"


def read_key(data_dir: str) -> bytes:
    load_cipher(None, Path(data_dir))
    return (Path(data_dir) / "secret.key").read_bytes()


def test_the_key_file_is_made_once_and_only_its_owner_may_read_it(tmp_path: Path) -> None:
    os.umask(os.umask(0o022))
    sealed = load_cipher(None, tmp_path / "new").seal(b"secret", "here")
    path = tmp_path / "new" / "secret.key"
    assert path.stat().st_mode & 0o777 == 0o600
    assert len(base64.b64decode(path.read_text())) == 32
    assert load_cipher(None, tmp_path / "new").open(sealed, "here") == b"secret"
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["secret.key"]


def test_processes_that_start_at_once_agree_on_one_key(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        keys = pool.map(read_key, [str(tmp_path)] * 8, chunksize=1)
    assert len(set(keys)) == 1


def test_a_given_key_comes_before_the_file(tmp_path: Path) -> None:
    given = base64.b64encode(bytes(range(32))).decode()
    sealed = load_cipher(f" {given}\n", tmp_path).seal(b"secret", "here")
    assert Cipher(bytes(range(32))).open(sealed, "here") == b"secret"
    assert not (tmp_path / "secret.key").exists()


@pytest.mark.parametrize(
    "text", ["not base64!", base64.b64encode(bytes(31)).decode(), base64.b64encode(bytes(33)).decode()]
)
def test_a_key_that_is_none_is_refused_with_what_to_do(text: str, tmp_path: Path) -> None:
    with pytest.raises(BadKey, match="TALLYCAST_ENCRYPTION_KEY must be 32 random bytes in base64"):
        load_cipher(text, tmp_path)
    (tmp_path / "secret.key").write_text(text)
    with pytest.raises(BadKey, match=r"secret\.key must be 32 random bytes in base64"):
        load_cipher(None, tmp_path)


def test_the_wrong_key_and_a_changed_secret_do_not_open() -> None:
    sealed = Cipher(bytes(32)).seal(b"secret", "here")
    with pytest.raises(BadKey, match=OTHER_KEY):
        Cipher(bytes([1] * 32)).open(sealed, "here")
    for n in range(1, len(sealed)):
        with pytest.raises(BadKey):
            Cipher(bytes(32)).open(sealed[:n] + bytes([sealed[n] ^ 1]) + sealed[n + 1 :], "here")


def test_the_same_secret_is_sealed_differently_each_time() -> None:
    cipher = Cipher(bytes(32))
    assert len({cipher.seal(b"secret", "here") for _ in range(100)}) == 100


@pytest.mark.anyio
async def test_a_secret_that_is_moved_to_another_channels_row_does_not_open(
    connection: db.Connection,
) -> None:
    stage, cipher = await make_stage(connection), Cipher(bytes(32))
    new = NewChannel("whatsApp", "generic", "+85230001234", webhook_secret="s3cret")
    mine = await channels.create(connection, cipher, stage.app_id, new)
    other = await channels.create(
        connection, cipher, stage.app_id, NewChannel("whatsApp", "generic", "+85230001235")
    )
    assert mine.open_secrets(cipher).webhook_secret == "s3cret"
    assert mine.secrets is not None
    assert b"s3cret" not in mine.secrets
    await connection.execute(
        b"update channels set secrets = %s where app_id = %s and channel_id = %s",
        [mine.secrets, stage.app_id, other.channel_id],
    )
    moved = await channels.find(connection, stage.app_id, other.channel_id)
    with pytest.raises(BadKey, match=OTHER_KEY):
        moved.open_secrets(cipher)


def test_of_several_keys_the_first_seals_and_all_open() -> None:
    one, two = bytes(32), bytes([2] * 32)
    texts = [base64.b64encode(key).decode() for key in (two, one)]
    both = load_cipher(f"{texts[0]}, {texts[1]}", Path("/nowhere"))
    assert both.open(Cipher(one).seal(b"secret", "here"), "here") == b"secret"
    assert Cipher(two).open(both.seal(b"secret", "here"), "here") == b"secret"
    with pytest.raises(BadKey, match=OTHER_KEY):
        Cipher(one).open(both.seal(b"secret", "here"), "here")


def test_what_is_sealed_names_its_key_and_what_names_none_is_tried_with_all() -> None:
    one, two = Cipher(bytes(32)), Cipher(bytes([2] * 32))
    sealed = one.seal(b"secret", "here")
    assert sealed[:5] == b"\x02" + one.keys[0].key_id
    both = Cipher(bytes([2] * 32), bytes(32))
    nameless = b"\x01" + sealed[5:]
    assert (both.open(sealed, "here"), both.open(nameless, "here")) == (b"secret", b"secret")
    assert [both.is_current(text) for text in (sealed, nameless)] == [False, False]
    assert two.find_key(nameless, "here") is None
    assert both.find_key(nameless, "here") == one.keys[0]
    assert [repr(key) for key in one.keys] == ["Key(ab7c6d62)"]


def test_a_running_process_takes_up_a_changed_key_file_before_it_seals_and_when_it_meets_another_key(
    tmp_path: Path,
) -> None:
    running, file = load_cipher(None, tmp_path), KeyFile(tmp_path)
    [first], second = file.read(), make_key()
    file.write([second, first])
    changed = load_cipher(None, tmp_path)
    assert running.open(changed.seal(b"secret", "here"), "here") == b"secret"
    third = make_key()
    file.write([third, second, first])
    assert Cipher(third.secret).open(running.seal(b"secret", "here"), "here") == b"secret"
    file.write([second, third._replace(is_next=True)])
    assert Cipher(second.secret).open(running.seal(b"secret", "here"), "here") == b"secret"
    assert running.keys == [second, third._replace(is_next=True)]


@pytest.mark.parametrize("text", [None, "", "not a key", "next"])
def test_a_key_file_that_cannot_be_read_leaves_a_running_process_its_keys(
    text: str | None, tmp_path: Path
) -> None:
    running = load_cipher(None, tmp_path)
    sealed = running.seal(b"secret", "here")
    path = tmp_path / "secret.key"
    path.unlink() if text is None else path.write_text(text)
    assert running.open(running.seal(b"again", "here"), "here") == b"again"
    assert running.open(sealed, "here") == b"secret"
