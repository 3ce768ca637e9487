"""Migrations: applied once, by one process at a time, whole or not at all, and to a fit server only."""

import multiprocessing
from pathlib import Path

import psycopg
import pytest

from tallycast import migrations
from test_sql import new_database

pytestmark = pytest.mark.anyio


def tables(url: str) -> set[str]:
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            "select table_name from information_schema.tables where table_schema = 'public'"
        )
        return {name for (name,) in rows}


async def test_every_migration_is_applied_once(database_url: str) -> None:
    async with new_database(database_url, "applied_once") as url:
        names = [name for _, name, _ in migrations.available()]
        assert migrations.migrate(url) == names
        assert migrations.migrate(url) == []
        with psycopg.connect(url) as connection:
            assert [
                name for (name,) in connection.execute("select name from migrations order by number")
            ] == names


def test_migrations_are_numbered_from_1_without_gaps() -> None:
    numbers = [number for number, _, _ in migrations.available()]
    assert numbers == list(range(1, len(numbers) + 1))


async def test_servers_that_start_at_once_apply_each_migration_once(database_url: str) -> None:
    async with new_database(database_url, "at_once") as url:
        with multiprocessing.get_context("spawn").Pool(3) as pool:
            applied = pool.map(migrations.migrate, [url] * 3)
        assert sorted(name for names in applied for name in names) == [
            name for _, name, _ in migrations.available()
        ]


async def test_an_old_server_is_refused_before_anything_is_made(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrations, "_MINIMUM_VERSION", 990_000)
    async with new_database(database_url, "too_old") as url:
        with pytest.raises(
            migrations.UnfitDatabase, match="PostgreSQL 15 or later is needed, this server is version 18"
        ):
            migrations.migrate(url)
        assert tables(url) == set()


async def test_a_migration_that_fails_leaves_nothing_and_keeps_those_before_it(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = (1, "0001_good.sql", "create table good (n int)")
    second = (2, "0002_bad.sql", "create table half (n int); insert into missing values (1)")
    async with new_database(database_url, "failing") as url:
        monkeypatch.setattr(migrations, "available", lambda: [first, second])
        with pytest.raises(psycopg.errors.UndefinedTable):
            migrations.migrate(url)
        assert tables(url) == {"migrations", "good"}
        monkeypatch.setattr(
            migrations, "available", lambda: [first, (2, "0002_bad.sql", "create table whole (n int)")]
        )
        assert migrations.migrate(url) == ["0002_bad.sql"]
        assert tables(url) == {"migrations", "good", "whole"}


async def test_files_that_are_no_migrations_are_left_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "migrations").mkdir()
    for name in ("0002_more.sql", "0001_init.sql", "0001_init.sql~", "notes.txt", "1_short.sql"):
        (tmp_path / "migrations" / name).write_text("select 1")
    monkeypatch.setattr("tallycast.migrations.resources.files", lambda _package: tmp_path)
    assert [name for _, name, _ in migrations.available()] == ["0001_init.sql", "0002_more.sql"]
