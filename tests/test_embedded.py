"""The embedded PostgreSQL with real servers: who starts it, who stops it, and what a kill leaves behind."""

import json
import os
import pwd
import signal
import stat
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import pytest

from tallycast import embedded

ROOT = os.geteuid() == 0
STRANGER = 54321  # a user id that nothing else has
ACL = "system.posix_acl_access"
COMMAND = """
import json, os, sys
import psycopg
from pathlib import Path
from tallycast import embedded
if account := json.loads(sys.argv[2]):
    os.setgroups([])
    os.setgid(account[1])
    os.setuid(account[0])
server = embedded.start(Path(sys.argv[1]))
with psycopg.connect(server.url) as connection:
    assert connection.execute("select 1").fetchone() == (1,)
print(json.dumps([server.pid, server.started_here, server.url]), flush=True)
sys.stdin.read()
server.stop()
"""


class Command(NamedTuple):
    """Another process of ours, which uses the server until its standard input is closed."""

    process: subprocess.Popen[str]

    def answer(self) -> tuple[int, bool, str]:
        assert self.process.stdout
        pid, started_here, url = json.loads(self.process.stdout.readline())
        return pid, started_here, url

    def end(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        assert self.process.wait(30) == 0


class Cleaner:
    """Keeps what a test started, and ends all of it by its pid."""

    def __init__(self) -> None:
        self.homes: list[Path] = []
        self.processes: list[subprocess.Popen[str]] = []

    def command(self, data_dir: Path, account: tuple[int, int] | None = None) -> Command:
        script = [sys.executable, "-c", COMMAND, str(data_dir), json.dumps(account)]
        return Command(self.spawn(script))

    def spawn(self, command: list[str], **how: Any) -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, **how)
        self.processes.append(process)
        return process

    def clean(self) -> None:
        for process in self.processes:
            process.kill()
            with process:
                pass
        for home in self.homes:
            for pid in pids_in(home):
                os.kill(pid, signal.SIGKILL)
            wait_until_empty(home)


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """Not pytest's own: each session of pytest that starts takes its ACL from the folder that all share."""
    with tempfile.TemporaryDirectory(prefix="tallycast-test-") as directory:
        yield Path(directory).resolve()


@pytest.fixture
def cleaner() -> Iterator[Cleaner]:
    made = Cleaner()
    try:
        yield made
    finally:
        made.clean()


@pytest.fixture
def empty(tmp_path: Path, cleaner: Cleaner) -> Path:
    cleaner.homes += [tmp_path / "data" / "postgres", tmp_path / "data" / "postgres.new"]
    return tmp_path / "data"


@pytest.fixture(scope="module")
def used() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="tallycast-test-") as directory:
        embedded.start(Path(directory)).stop()
        yield Path(directory)


@pytest.fixture
def data_dir(empty: Path, used: Path) -> Path:
    """A data directory of which a server has been stopped."""
    subprocess.run(["cp", "-a", used, empty], check=True)
    return empty


def until(condition: Callable[[], object], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.002)


def pids_in(home: Path) -> list[int]:
    """All PostgreSQL processes that work in a directory."""
    found = []
    for proc in Path("/proc").iterdir():
        try:
            if proc.name.isdigit() and (proc / "cwd").readlink() == home:
                found.append(int(proc.name))
        except OSError:
            continue
    return found


def wait_until_empty(home: Path) -> None:
    until(lambda: not pids_in(home))


def gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}/exe").exists()


def ask(url: str, query: str) -> object:
    with psycopg.connect(url) as connection:
        row = connection.execute(query.encode()).fetchone()
        return row and row[0]


def tell(url: str, statement: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute(statement.encode())


def test_starts_in_an_empty_directory_and_again(empty: Path) -> None:
    assert embedded.find(empty) is None
    server = embedded.start(empty)
    assert server.started_here
    assert ask(server.url, "select 1") == 1
    assert ask(server.url, "select current_database() || ' ' || current_user") == "tallycast tallycast"
    assert ask(server.url, "show fsync") == "on"
    assert ask(server.url, "show max_wal_size") == "4GB"
    assert ask(server.url, "select lower('ÄÖÜ')") == "äöü"
    assert os.getsid(server.pid) == server.pid, "Ctrl-C in our terminal must not reach it"
    tell(server.url, "create table kept as select 42 as value")
    server.stop()
    assert gone(server.pid)
    assert not (empty / "postgres" / "postmaster.pid").exists(), "a clean shutdown"
    server.stop()  # twice is once

    again = embedded.start(empty, {"shared_buffers": "16MB"})
    assert again.started_here
    assert ask(again.url, "select value from kept") == 42
    assert ask(again.url, "show shared_buffers") == "16MB"
    if ROOT:
        owner = Path(f"/proc/{again.pid}").stat()
        assert owner.st_uid
        assert owner.st_gid
    embedded.stop(again)
    assert gone(again.pid)
    assert embedded.find(empty) is None


def test_the_last_user_stops_it(data_dir: Path, cleaner: Cleaner) -> None:
    server = embedded.start(data_dir)
    other = cleaner.command(data_dir)
    assert other.answer()[:2] == (server.pid, False)
    server.stop()
    assert ask(server.url, "select 1") == 1, "the other command still uses it"
    found = embedded.find(data_dir)
    assert found
    assert found.pid == server.pid
    found.stop()
    other.end()
    until(lambda: gone(server.pid))


def test_two_commands_that_start_at_once_share_one(empty: Path, cleaner: Cleaner) -> None:
    commands = [cleaner.command(empty) for _ in range(3)]
    answers = [command.answer() for command in commands]
    assert len({pid for pid, _, _ in answers}) == 1
    assert sorted(started for _, started, _ in answers) == [False, False, True]
    for command in commands:
        command.end()
    assert gone(answers[0][0])


def test_a_server_whose_owner_was_killed_is_taken_over(data_dir: Path, cleaner: Cleaner) -> None:
    owner = cleaner.command(data_dir)
    pid, started_here, _ = owner.answer()
    assert started_here
    owner.process.kill()
    owner.process.wait()
    server = embedded.start(data_dir)
    assert (server.pid, server.started_here) == (pid, False)
    server.stop()
    assert gone(pid)


def test_a_killed_postmaster_keeps_committed_rows(data_dir: Path) -> None:
    server = embedded.start(data_dir)
    tell(server.url, "create table kept as select 42 as value")
    with closing(psycopg.connect(server.url)) as busy:
        # It does not look at its postmaster, and so outlives it with the shared memory attached.
        busy.pgconn.send_query(b"select count(*) from generate_series(1, 100000000000)")
        until(lambda: ask(server.url, "select count(*) from pg_stat_activity where query ~ '^select count'"))
        orphan = busy.pgconn.backend_pid
        os.kill(server.pid, signal.SIGKILL)
        until(lambda: gone(server.pid))
        assert not gone(orphan)
        again = embedded.start(data_dir)
        assert gone(orphan)
    assert again.pid != server.pid
    assert again.started_here
    assert ask(again.url, "select value from kept") == 42
    server.stop()  # the claim of the first handle, on whatever runs
    assert ask(again.url, "select 1") == 1
    again.stop()
    assert gone(again.pid)


def test_a_postmaster_that_is_shutting_down_is_waited_for(data_dir: Path) -> None:
    server = embedded.start(data_dir)
    with psycopg.connect(server.url):
        os.kill(server.pid, signal.SIGTERM)  # it refuses new sessions until the last one has ended
        until(lambda: "smart shutdown" in (data_dir / "postgres" / "log").read_text())
        joiner = Path(f"/proc/{server.pid}")
        os.kill(server.pid, signal.SIGINT)
        again = embedded.start(data_dir)
        assert not (joiner / "exe").exists()
    assert again.started_here
    assert ask(again.url, "select 1") == 1
    server.stop()
    again.stop()


def test_stale_pid_files(data_dir: Path, cleaner: Cleaner) -> None:
    home = data_dir / "postgres"
    owner = home.stat()
    # PostgreSQL takes any live process of its own account for the postmaster, and would refuse.
    account = {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []} if ROOT else {}
    unrelated = cleaner.spawn(["sleep", "1000"], cwd=home, **account)
    for content in (f"{unrelated.pid}\n{home}\n1\n5432\n{home}\n\n\nready\n", "", "garbage\n"):
        for name in ("postmaster.pid", ".s.PGSQL.5432.lock"):
            (home / name).write_text(content)
            os.chown(home / name, owner.st_uid, -1)
        assert embedded.find(data_dir) is None
        server = embedded.start(data_dir)
        assert server.started_here
        assert ask(server.url, "select 1") == 1
        server.stop()
    assert unrelated.poll() is None, "another program in the directory is none of our business"


def test_a_half_made_directory_is_made_anew(empty: Path, cleaner: Cleaner) -> None:
    killed = cleaner.command(empty)
    until((empty / "postgres.new" / "base").exists)
    killed.process.kill()
    killed.process.wait()
    assert not (empty / "postgres").exists()
    server = embedded.start(empty)
    assert ask(server.url, "select 1") == 1
    server.stop()
    assert sorted(path.name for path in empty.iterdir()) == ["postgres", "postgres.lock", "postgres.users"]
    assert not pids_in(empty / "postgres.new")


def test_below_a_closed_parent(tmp_path: Path, cleaner: Cleaner) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(0o700)
    data_dir = closed / "data"
    data_dir.mkdir(0o700)
    cleaner.homes.append(data_dir / "postgres")
    no_id = 0xFFFFFFFF
    others = [(1, 7, no_id), (2, 7, STRANGER), (4, 0, no_id), (16, 4, no_id), (32, 0, no_id)]
    if ROOT:  # an entry whose mask hides all but reading
        os.setxattr(
            closed, ACL, struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in others)
        )
    server = embedded.start(data_dir)
    assert ask(server.url, "select 1") == 1
    server.stop()
    for folder in (closed, data_dir):
        assert stat.S_IMODE(folder.stat().st_mode) & 0o007 == 0
    if ROOT:
        account = (data_dir / "postgres").stat().st_uid
        assert account
        granted = list(struct.iter_unpack("<HHI", os.getxattr(closed, ACL)[4:]))
        mine = [
            (1, 7, no_id),
            (2, 1, account),
            (2, 4, STRANGER),
            (4, 0, no_id),
            (16, 5, no_id),
            (32, 0, no_id),
        ]
        assert granted == mine
        passes = subprocess.run(
            ["/bin/sh", "-c", f"cd {closed}"],
            user=STRANGER,
            group=STRANGER,
            extra_groups=[],
            check=False,
            stderr=subprocess.DEVNULL,
        )
        assert passes.returncode, "nobody else may pass"
        assert data_dir.stat().st_uid == 0


@pytest.mark.skipif(not ROOT, reason="only root needs another account")
def test_without_acls_the_error_says_what_to_do(empty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, *_: object) -> None:
        raise OSError(95, "Operation not supported", path)

    monkeypatch.setattr(os, "setxattr", refuse)
    with pytest.raises(
        embedded.EmbeddedPostgresError, match=r"no ACL can let account .* --data-dir, or set --database-url"
    ):
        embedded.start(empty)


@pytest.mark.parametrize("name", ["long, " * 25, "ein Ümläut & 100%'\""])
def test_paths_that_a_socket_or_libpq_cannot_take(tmp_path: Path, cleaner: Cleaner, name: str) -> None:
    data_dir = tmp_path / name / "data"
    cleaner.homes.append(data_dir / "postgres")
    server = embedded.start(data_dir)
    assert ask(server.url, "select 1") == 1
    place = Path(str(ask(server.url, "show unix_socket_directories")))
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    other = cleaner.command(data_dir)
    assert other.answer()[0] == server.pid
    other.end()
    server.stop()
    assert place == data_dir / "postgres" or not place.exists()


def test_a_socket_directory_of_somebody_else_is_not_used(
    tmp_path: Path, cleaner: Cleaner, monkeypatch: pytest.MonkeyPatch
) -> None:
    data_dir = tmp_path / ("long" * 30)
    cleaner.homes.append(data_dir / "postgres")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    server = embedded.start(data_dir)
    place = Path(str(ask(server.url, "show unix_socket_directories")))
    assert place.parent == tmp_path
    server.stop()
    place.mkdir(0o755)
    place.chmod(0o755)
    with pytest.raises(embedded.EmbeddedPostgresError, match="not a private directory"):
        embedded.start(data_dir)


def test_as_an_ordinary_user(tmp_path: Path, empty: Path, cleaner: Cleaner) -> None:
    account = None
    if ROOT:
        entry = pwd.getpwnam("nobody")
        account = (entry.pw_uid, entry.pw_gid)
        os.chown(tmp_path, *account)
    user = cleaner.command(empty, account)
    pid, started_here, _ = user.answer()
    assert started_here
    assert Path(f"/proc/{pid}").stat().st_uid == tmp_path.stat().st_uid
    server = embedded.start(empty)  # root joins
    assert (server.pid, server.started_here) == (pid, False)
    user.end()
    assert ask(server.url, "select 1") == 1
    server.stop()
    assert gone(pid)
    again = embedded.start(empty)  # and starts it as the same user
    assert Path(f"/proc/{again.pid}").stat().st_uid == tmp_path.stat().st_uid
    again.stop()
    user = cleaner.command(empty, account)  # who can still use all of it
    assert user.answer()[1]
    user.end()


def test_no_port_is_open_and_no_other_user_reaches_the_socket(tmp_path: Path, cleaner: Cleaner) -> None:
    tmp_path.chmod(0o755)
    home = tmp_path / "postgres"
    cleaner.homes.append(home)
    server = embedded.start(tmp_path)
    inodes = set()
    for descriptor in Path(f"/proc/{server.pid}/fd").iterdir():
        inodes.add(str(descriptor.readlink()).removeprefix("socket:[").removesuffix("]"))
    for table in ("tcp", "tcp6", "udp", "udp6"):
        lines = Path(f"/proc/{server.pid}/net/{table}").read_text().splitlines()[1:]
        assert not inodes & {line.split()[9] for line in lines}
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert stat.S_IMODE((home / embedded.SOCKET).stat().st_mode) == 0o700
    if ROOT:
        knock = "import os, socket, sys; os.setuid(int(sys.argv[1])); socket.socket(socket.AF_UNIX).connect(sys.argv[2])"
        script = [sys.executable, "-c", knock, str(STRANGER), str(home / embedded.SOCKET)]
        assert "PermissionError" in subprocess.run(script, capture_output=True, text=True, check=False).stderr
        script[3] = str(home.stat().st_uid)
        assert subprocess.run(script, check=False).returncode == 0
    server.stop()


def test_the_environment_of_libpq_changes_nothing(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "PGPORT": "1",
        "PGHOSTADDR": "192.0.2.1",
        "PGHOST": "nowhere",
        "PGUSER": "me",
        "PGDATABASE": "no",
        "PGDATA": "/no",
    }.items():
        monkeypatch.setenv(name, value)
    server = embedded.start(data_dir)
    assert ask(server.url, "select current_database()") == "tallycast"
    server.stop()


def test_errors_say_what_is_wrong(data_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(
        embedded.EmbeddedPostgresError, match=r"(?s)invalid value for parameter.*--database-url"
    ):
        embedded.start(data_dir, {"shared_buffers": "many"})
    assert embedded.find(data_dir) is None
    log = data_dir / "postgres" / "log"
    with log.open("rb+") as stream:
        stream.truncate(embedded.LOG_LIMIT + 1)
    embedded.start(data_dir).stop()
    assert log.stat().st_size < 100_000, "rotated"
    (data_dir / "postgres" / "PG_VERSION").write_text("17\n")
    with pytest.raises(embedded.EmbeddedPostgresError, match=r"PostgreSQL 17 made .* and this is 18"):
        embedded.start(data_dir)
    (tmp_path / "file").touch()
    with pytest.raises(embedded.EmbeddedPostgresError, match=r"Not a directory|File exists"):
        embedded.start(tmp_path / "file")
    with pytest.raises(embedded.EmbeddedPostgresError, match="--data-dir"):
        embedded.start(Path("/proc/tallycast"))
