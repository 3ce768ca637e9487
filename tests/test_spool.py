"""The spool: what is durable, what a crash tears, who may drain which file, and what a full disk costs."""

import fcntl
import multiprocessing
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from stage import BEGIN_MS, says
from tallycast.links import Click
from tallycast.receipts import Arrival
from tallycast.spool import Item, Spool, read

HERE = multiprocessing.get_context("fork")


def arrival(name: str) -> Arrival:
    return Arrival("app-1", 1, BEGIN_MS, [says(name, "read", error_title="“quoted”\n")])


def click(number: int) -> Click:
    return Click(
        "app-1", f"00000000-0000-0000-0000-{number:012d}", "abcd", 1, 2, BEGIN_MS, "GET", "Mozilla", ""
    )


def files(data_dir: Path) -> list[Path]:
    return sorted((data_dir / "spool").iterdir())


def drained(spool: Spool) -> list[Item]:
    """Everything that can be drained now; the files stay."""
    return [item for path in spool.files() for batch in read(path, 2, []) for item in batch]


@contextmanager
def file_size_limit(limit: int) -> Iterator[None]:
    """No file of this process may grow beyond the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_what_was_written_is_read_in_order_and_in_batches(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    assert spool.is_empty()
    spool.write([arrival("m1"), click(1)])
    spool.write([arrival("m2")])
    spool.close()
    (path,) = files(tmp_path)
    assert list(read(path, 2, [])) == [[arrival("m1"), click(1)], [arrival("m2")]]
    assert not spool.is_empty()


def test_only_the_owner_may_read_the_spool(tmp_path: Path) -> None:
    Spool(tmp_path).write([arrival("m1")])
    (path,) = files(tmp_path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_every_write_is_synced_to_disk_before_it_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    sync = os.fsync

    def note(descriptor: int) -> None:
        synced.append(os.fstat(descriptor).st_size)
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    spool = Spool(tmp_path)
    spool.write([arrival("m1")])
    (path,) = files(tmp_path)
    assert synced[-1] == path.stat().st_size
    spool.write([arrival("m2")])
    assert synced[-1] == path.stat().st_size
    assert len(synced) == 3  # the folder that names the file, too


def test_a_torn_last_line_was_never_acknowledged_and_is_ignored(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.write([arrival("m1"), arrival("m2")])
    spool.close()
    (path,) = files(tmp_path)
    whole = path.read_bytes()
    first = whole.index(b"\n") + 1
    for end in range(first, len(whole)):
        path.write_bytes(whole[:end])
        odd: list[bytes] = []
        assert list(read(path, 10, odd)) == [[arrival("m1")]]
        assert odd == []


def test_a_damaged_line_is_set_aside_and_holds_up_no_other(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.write([arrival("m1"), arrival("m2")])
    spool.close()
    (path,) = files(tmp_path)
    first, second, _ = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join([first, b"\xff\x00{", b'{"type":"Nothing"}', second, b""]))
    odd: list[bytes] = []
    assert list(read(path, 10, odd)) == [[arrival("m1"), arrival("m2")]]
    assert odd == [b"\xff\x00{\n", b'{"type":"Nothing"}\n']


def test_the_file_of_the_writer_is_not_drained_until_it_is_closed(tmp_path: Path) -> None:
    writer, drainer = Spool(tmp_path), Spool(tmp_path)
    writer.write([arrival("m1")])
    assert drained(drainer) == []
    assert not drainer.is_empty()
    writer.close()
    assert drained(drainer) == [arrival("m1")]
    writer.write([arrival("m2")])  # a file of its own: the first one may be being drained
    assert len(files(tmp_path)) == 2


def test_the_file_of_a_dead_process_is_drained_by_another(tmp_path: Path) -> None:
    def write_and_die() -> None:
        Spool(tmp_path).write([arrival("m1")])
        os.kill(os.getpid(), 9)

    process = HERE.Process(target=write_and_die)
    process.start()
    process.join()
    assert process.exitcode == -9
    assert drained(Spool(tmp_path)) == [arrival("m1")]


def test_two_drainers_never_have_one_file_at_once(tmp_path: Path) -> None:
    for name in ("m1", "m2"):
        spool = Spool(tmp_path)
        spool.write([arrival(name)])
        spool.close()
    first, second = Spool(tmp_path).files(), Spool(tmp_path).files()
    mine, yours = next(first), next(second)
    assert {mine, yours} == set(files(tmp_path))
    mine.unlink()
    assert list(first) == []  # the other one is still taken
    assert list(second) == []


def test_a_file_that_was_drained_while_one_waited_for_it_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = Spool(tmp_path)
    spool.write([arrival("m1")])
    spool.close()
    (path,) = files(tmp_path)
    lock = fcntl.flock

    def drain_first(descriptor: int, operation: int) -> None:
        path.unlink()
        lock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", drain_first)
    assert list(spool.files()) == []


def test_a_write_that_fails_half_way_leaves_nothing_of_itself(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.write([arrival("m1")])
    (path,) = files(tmp_path)
    size = path.stat().st_size
    with file_size_limit(size + 10), pytest.raises(OSError, match="File too large"):
        spool.write([arrival("m2")])
    assert path.stat().st_size == size
    spool.write([arrival("m3")])
    spool.close()
    assert sorted(drained(Spool(tmp_path)), key=str) == [arrival("m1"), arrival("m3")]


def test_a_write_that_cannot_be_synced_leaves_nothing_of_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = Spool(tmp_path)
    spool.write([arrival("m1")])

    def fail(_descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(OSError, match="Input/output error"):
            spool.write([arrival("m2")])
    spool.write([arrival("m3")])
    spool.close()
    assert sorted(drained(Spool(tmp_path)), key=str) == [arrival("m1"), arrival("m3")]


def test_a_folder_that_cannot_be_made_is_an_error_and_not_a_loss(tmp_path: Path) -> None:
    (tmp_path / "spool").write_text("a file is in the way")
    with pytest.raises(OSError, match="File exists"):
        Spool(tmp_path).write([arrival("m1")])
