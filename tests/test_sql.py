"""The queries as text and as plans: all of them prepare, are used, stay within one app and reach rows by whole keys."""

import ast
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

import tallycast
from stage import generic_plan, make_stage, numbered
from tallycast import db, migrations
from tallycast.sql import load

SOURCE = Path(tallycast.__file__).parent
DOMAINS = sorted(path.stem for path in (SOURCE / "sql").glob("*.sql") if path.stem != "schema")
QUERIES = [(domain, name) for domain in DOMAINS for name in load(domain)]
# Read across tenants: who they are, and the people who work with them.
DIRECTORY = {"apps", "staff", "staff_roles", "staff_sessions", "staff_links", "keyholders"}
# Conditions that are not on a tenant's rows: an insert names its rows itself.
WRITES = re.compile(r"insert\s+into\s+(\w+)\s+(?:as\s+\w+\s+)?\(\s*(\w+)")
CATALOGS = {
    "tables": "select relname, reloptions from pg_class where relkind in ('r', 'p') and relnamespace = 'public'::regnamespace",
    "columns": """
        select c.relname, a.attname, a.attnum, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attoptions,
          a.attstorage, l.collname, pg_get_expr(d.adbin, d.adrelid)
        from pg_attribute a
        join pg_class c on c.oid = a.attrelid and c.relkind = 'r' and c.relnamespace = 'public'::regnamespace
        left join pg_collation l on l.oid = a.attcollation
        left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
        where a.attnum > 0 and not a.attisdropped""",
    "constraints": """
        select conrelid::regclass::text, conname, pg_get_constraintdef(oid) from pg_constraint
        where connamespace = 'public'::regnamespace""",
    "indexes": "select tablename, indexname, indexdef from pg_indexes where schemaname = 'public'",
    "functions": "select proname, pg_get_functiondef(oid) from pg_proc where pronamespace = 'public'::regnamespace",
    "triggers": "select tgrelid::regclass::text, tgname from pg_trigger",
}


@asynccontextmanager
async def new_database(database_url: str, name: str) -> AsyncIterator[str]:
    """An empty database of its own on the test server."""
    async with db.connect(database_url) as connection:
        await connection.execute(f"create database {name}".encode())
        try:
            yield re.sub(r"/\w+\?", f"/{name}?", database_url, count=1)
        finally:
            await connection.execute(f"drop database {name} with (force)".encode())


def tenant_tables(database_url: str) -> set[str]:
    with psycopg.connect(database_url) as connection:
        rows = connection.execute(
            "select table_name from information_schema.columns "
            "where table_schema = 'public' and column_name = 'app_id'"
        )
        return {name for (name,) in rows} - DIRECTORY


def used_queries() -> Iterator[tuple[str, str, str]]:
    """(file, domain, name) of every query that the source takes by name."""
    for path in sorted(SOURCE.rglob("*.py")):
        tree = ast.parse(path.read_text())
        domains: dict[str, str] = {}
        for node in ast.walk(tree):
            match node:
                case ast.Assign(
                    targets=[ast.Name(variable)],
                    value=ast.Call(func=ast.Name("load"), args=[ast.Constant(str(domain))]),
                ):
                    domains[variable] = domain
        for node in ast.walk(tree):
            match node:
                case ast.Subscript(value=ast.Name(variable), slice=ast.Constant(str(name))) if (
                    variable in domains
                ):
                    yield path.name, domains[variable], name
                case ast.Subscript(value=ast.Name(variable), slice=part) if variable in domains:
                    for one in ast.walk(part):  # chosen between two: `_SQL["a" if … else "b"]`
                        if isinstance(one, ast.Constant) and isinstance(one.value, str):
                            yield path.name, domains[variable], one.value


@pytest.mark.anyio
@pytest.mark.parametrize(("domain", "name"), QUERIES)
async def test_every_query_prepares_on_the_migrated_schema(
    connection: db.Connection, domain: str, name: str
) -> None:
    text, names = numbered(load(domain)[name])
    await connection.execute(f"prepare one as {text}".encode(), prepare=False)
    found = await connection.execute(
        b"select cardinality(parameter_types) from pg_prepared_statements where name = 'one'"
    )
    assert await found.fetchone() == (len(names),)


def test_every_query_is_used_and_every_used_query_exists() -> None:
    used = {(domain, name) for _, domain, name in used_queries()}
    assert used == set(QUERIES)


def test_no_file_has_a_query_twice_or_text_that_belongs_to_none() -> None:
    for domain in DOMAINS:
        text = (SOURCE / "sql" / f"{domain}.sql").read_text()
        names = re.findall(r"^-- name: (\w+)$", text, re.MULTILINE)
        assert names == list(load(domain))
        assert text.startswith("-- name: ")
        assert text.count("-- name:") == len(names)


@pytest.mark.anyio
@pytest.mark.parametrize(("domain", "name"), QUERIES)
async def test_every_scan_of_a_tenants_table_is_bound_to_one_app(
    connection: db.Connection, database_url: str, domain: str, name: str
) -> None:
    query = load(domain)[name]
    _, names = numbered(query)
    tenants = tenant_tables(database_url)
    plan = await generic_plan(connection, query)
    touched = {node["Relation Name"] for node in plan if "Relation Name" in node}
    if b"-- scope: directory" in query:
        assert touched <= DIRECTORY
        return
    assert touched <= tenants, "only queries of scope directory read the directory"
    app = f"${names.index('app_id') + 1}"
    for node in plan:
        if "Relation Name" not in node or node["Node Type"] == "ModifyTable":
            continue
        bound = re.compile(rf"\b{node['Alias']}\.app_id\)?(?:::text)? = \(?{re.escape(app)}\)?(?:::text)?")
        said = " ".join(str(node.get(key, "")) for key in ("Index Cond", "Recheck Cond", "Filter"))
        assert bound.search(said), f"{node['Alias']}: {said}"
    for table, column in WRITES.findall(query.decode()):
        assert table in tenants
        assert column == "app_id"
    for values in re.findall(
        r"insert\s+into\s+\w+\s+(?:as\s+\w+\s+)?\([^)]*\)\s*(values\s*\(|select\s+)(\S+)", query.decode()
    ):
        assert values[1].rstrip(",") == "%(app_id)s"


@pytest.mark.anyio
async def test_app_id_is_the_first_column_of_every_index_of_every_tenants_table(
    connection: db.Connection, database_url: str
) -> None:
    rows = await db.fetch_rows(
        connection,
        b"select t.relname::text, i.relname::text, pg_get_indexdef(x.indexrelid, 1, true) from pg_index x "
        b"join pg_class t on t.oid = x.indrelid join pg_class i on i.oid = x.indexrelid "
        b"where t.relnamespace = 'public'::regnamespace",
        {},
    )
    tenants = tenant_tables(database_url)
    assert len(tenants) == 33
    assert {table for table, _, _ in rows} == tenants | DIRECTORY | {"migrations"}
    assert [index for table, index, first in rows if table in tenants and first != "app_id"] == []


def catalog(url: str) -> dict[str, list[tuple[Any, ...]]]:
    with psycopg.connect(url) as connection:
        return {
            what: sorted(
                (
                    row
                    for row in connection.execute(query.encode()).fetchall()
                    if "migrations" not in str(row[0])
                ),
                key=repr,
            )
            for what, query in CATALOGS.items()
        }


@pytest.mark.anyio
async def test_there_are_no_triggers_and_no_foreign_keys(database_url: str) -> None:
    found = catalog(database_url)
    assert found["triggers"] == []
    assert [name for _, name, text in found["constraints"] if "FOREIGN KEY" in text] == []


@pytest.mark.anyio
async def test_the_readable_schema_is_what_the_migrations_make(database_url: str) -> None:
    async with (
        new_database(database_url, "from_schema") as readable,
        new_database(database_url, "from_migrations") as migrated,
    ):
        with psycopg.connect(readable) as connection:
            connection.execute((SOURCE / "sql" / "schema.sql").read_bytes())
        migrations.migrate(migrated)
        found, expected = catalog(readable), catalog(migrated)
    for what in CATALOGS:
        assert found[what] == expected[what], what


def loose_nodes(plan: list[dict[str, Any]]) -> list[str]:
    """What would grow with an app's or a campaign's size: scans by a part of a key, loops over a whole step."""
    found = [node["Relation Name"] for node in plan if node["Node Type"] == "Seq Scan"]
    for node in plan:
        condition = node.get("Index Cond", "")
        if node.get("Relation Name") == "messages" and condition:
            is_whole = re.search(r"message_id = |recipient = |seq [=>]", condition)
            found += [] if is_whole else [condition]
        if node["Node Type"] in {"Nested Loop", "Hash Join", "Merge Join"}:
            outer, inner = (n for n in node["Plans"] if n["Parent Relationship"] in {"Outer", "Inner"})
            is_small = outer.get("Relation Name") in {"counts", "campaigns"}
            is_step = inner["Node Type"] in {"CTE Scan", "Function Scan", "Materialize", "Subquery Scan"}
            found += [f"{outer['Node Type']} x {inner['Node Type']}"] if is_step and not is_small else []
    return found


@pytest.mark.anyio
async def test_plans_of_any_moment_suit_a_table_that_has_grown_since(database_url: str) -> None:
    """A plan stays until statistics are taken again: that of three messages may serve a million for a while."""
    bulk = [
        ("receipts", "fold_receipts"), ("receipts", "fold_replies"), ("receipts", "take_parked"),
        ("receipts", "find_matchable"), ("messages", "add_messages"), ("messages", "list_messages"),
        ("links", "fold_clicks"), ("reports", "detail_page"), ("reports", "detail_page_of_state"),
        ("imports", "find_known"), ("recipients", "find_by_message"), ("recipients", "find_unknown"),
        ("recipients", "read_recipients"),
    ]  # fmt: skip

    async def loose(connection: db.Connection) -> dict[str, list[str]]:
        found = {
            name: loose_nodes(await generic_plan(connection, load(domain)[name])) for domain, name in bulk
        }
        return {name: nodes for name, nodes in found.items() if nodes}

    async with new_database(database_url, "plans") as url:
        migrations.migrate(url)
        async with db.connect(url) as connection:
            assert await loose(connection) == {}
            stage = await make_stage(connection)
            channel = await stage.add_channel()
            for size in (1, 3, 10, 50, 500, 4000):
                campaign = await stage.add_campaign(channel)
                for first in range(0, size, 2000):
                    ids = [f"{size}.{n}" for n in range(first, min(size, first + 2000))]
                    await stage.record(campaign, ids, first)
                assert await loose(connection) == {}, f"{size} more, before statistics"
                await connection.execute(b"vacuum analyze")
                assert await loose(connection) == {}, f"{size} more, with statistics"
