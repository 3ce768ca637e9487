"""Citus: what is spread how, that the schema may be spread so, and, where there is a cluster, that it is."""

import os
from pathlib import Path
from typing import Any

import psycopg
from click.testing import CliRunner

from stage import numbered
from tallycast import citus, migrations
from tallycast.cli import main
from tallycast.sql import load
from test_sql import QUERIES

# A coordinator's database, with the extension on every node and the workers known. Its contents are kept.
CLUSTER = os.environ.get("TALLYCAST_TEST_CITUS_URL")
PLACES = """
    select logicalrelid::text, case when partmethod = 'n' then 'everywhere'
      else column_to_column_name(logicalrelid, partkey) end, colocationid
    from pg_dist_partition where partmethod <> 'n' or repmodel = 't'"""


def ask(url: str, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute(query.encode()).fetchall()


def test_every_table_belongs_to_the_directory_or_to_the_tenants(database_url: str) -> None:
    tables = ask(
        database_url,
        "select oid::regclass::text from pg_class "
        "where relkind in ('r', 'p') and relnamespace = 'public'::regnamespace and relname <> 'migrations'",
    )
    assert sorted(name for (name,) in tables) == sorted([*citus.DIRECTORY, *citus.TENANT])
    assert len(citus.TENANT) == 33


def test_every_function_of_the_schema_is_one_that_the_nodes_get(database_url: str) -> None:
    functions = ask(
        database_url,
        "select oid::regprocedure::text from pg_proc where pronamespace = 'public'::regnamespace",
    )
    assert sorted(name for (name,) in functions) == sorted(citus.FUNCTIONS)


def test_every_tenants_table_has_an_app_id_of_one_type_and_collation(database_url: str) -> None:
    columns = ask(
        database_url,
        "select attrelid::regclass::text, format_type(atttypid, atttypmod), attcollation::regcollation::text, "
        "collisdeterministic, attnotnull, attgenerated::text "
        "from pg_attribute join pg_collation l on l.oid = attcollation "
        "where attname = 'app_id' and attrelid in (select oid from pg_class "
        "where relkind in ('r', 'p') and relnamespace = 'public'::regnamespace)",
    )
    of_tenants = {row[0]: row[1:] for row in columns if row[0] in citus.TENANT}
    assert of_tenants == dict.fromkeys(citus.TENANT, ("text", '"C"', True, True, ""))


def test_whatever_is_unique_for_a_tenant_is_so_with_its_app_id(database_url: str) -> None:
    keys = ask(
        database_url,
        "select indrelid::regclass::text, array_agg(attname::text) from pg_index "
        "join pg_attribute on attrelid = indrelid and attnum = any(indkey) "
        "where indisunique and indrelid in (select oid from pg_class where relnamespace = 'public'::regnamespace) "
        "group by indrelid, indexrelid",
    )
    tenants = [(table, columns) for table, columns in keys if table in citus.TENANT]
    assert {table for table, _ in tenants} == set(citus.TENANT)
    assert [table for table, columns in tenants if "app_id" not in str(columns)] == []


def test_nothing_in_the_schema_ties_rows_of_two_nodes_together(database_url: str) -> None:
    """Foreign keys, exclusions, triggers, rules, policies, partitions, identities and sequences, and stored queries."""
    assert ask(database_url, "select conname from pg_constraint where contype in ('f', 'x', 't')") == []
    assert ask(database_url, "select tgname from pg_trigger") == []
    assert ask(database_url, "select policyname from pg_policies") == []
    assert ask(database_url, "select inhrelid::regclass from pg_inherits where inhparent in "
                             "(select oid from pg_class where relkind in ('r', 'p'))") == []  # fmt: skip
    assert ask(database_url, "select relname from pg_class where relkind in ('S', 'v', 'm', 'p') "
                             "and relnamespace = 'public'::regnamespace") == []  # fmt: skip
    assert ask(database_url, "select attrelid::regclass from pg_attribute where attidentity <> ''") == []


def test_functions_come_first_then_the_directory_then_messages_and_all_beside_them() -> None:
    begins = [
        "select create_distributed_function('message_state(timestamp with time zone,timestamp with time zone,"
        "timestamp with time zone,timestamp with time zone)')",
        "select create_distributed_function('fails_before(timestamp with time zone,text,text,"
        "timestamp with time zone,text,text)')",
        "select create_distributed_function('anonymous_id(text)')",
        "select create_reference_table('apps')",
        "select create_reference_table('staff')",
        "select create_reference_table('staff_roles')",
        "select create_reference_table('staff_sessions')",
        "select create_reference_table('staff_links')",
        "select create_reference_table('keyholders')",
        "select create_distributed_table('messages', 'app_id', colocate_with => 'none')",
        "select create_distributed_table('administrations', 'app_id', colocate_with => 'messages')",
        "select create_distributed_table('attempts', 'app_id', colocate_with => 'messages')",
    ]
    statements = [statement for _, statement in citus.missing(set())]
    assert statements[:12] == begins
    assert len(statements) == 3 + 6 + 33
    assert all(statement.endswith("'app_id', colocate_with => 'messages')") for statement in statements[10:])


def test_what_is_placed_already_is_not_placed_again() -> None:
    placed = {*citus.FUNCTIONS, *citus.DIRECTORY, *citus.TENANT}
    assert citus.missing(placed) == []
    assert citus.missing(placed - {"staff_links", "counts", "texts"}) == [
        ("staff_links", "select create_reference_table('staff_links')"),
        ("counts", "select create_distributed_table('counts', 'app_id', colocate_with => 'messages')"),
        ("texts", "select create_distributed_table('texts', 'app_id', colocate_with => 'messages')"),
    ]


def test_a_database_without_citus_is_migrated_and_told_what_it_lacks(
    database_url: str, tmp_path: Path
) -> None:
    options = ["--data-dir", str(tmp_path), "--database-url", database_url]
    done = CliRunner().invoke(main, ["migrate", "--citus", *options])
    assert (done.exit_code, done.stdout) == (2, "the schema is up to date\n")
    assert done.stderr == (
        'tallycast: Citus is not in this database: run "create extension citus" in it on every node first, and tell the '
        "coordinator of its workers (citus_add_node)\n"
    )


def explain(connection: psycopg.Connection[tuple[Any, ...]], query: bytes) -> str:
    """The plan of a named query for one app that does not exist."""
    text, names = numbered(query)
    connection.execute(f"prepare one as {text}".encode())
    values = ", ".join("'none'" if name == "app_id" else "null" for name in names)
    rows = connection.execute(f"explain execute one{f'({values})' if values else ''}".encode()).fetchall()
    return "\n".join(str(line) for (line,) in rows)


def refusals(url: str) -> dict[str, str]:
    """Each named query that the server does not plan, or over several nodes, and what it says."""
    found = {}
    with psycopg.connect(url, autocommit=True, prepare_threshold=None) as connection:
        for domain, name in QUERIES:
            connection.execute("deallocate all")
            try:
                with connection.transaction(force_rollback=True):
                    plan = explain(connection, load(domain)[name])
            except psycopg.Error as error:
                found[f"{domain}.{name}"] = str(error)
                continue
            if "Task Count: " in plan.replace("Task Count: 1\n", ""):
                found[f"{domain}.{name}"] = plan
    return found


def test_one_server_refuses_none_of_the_queries_that_a_cluster_is_asked_to_plan(database_url: str) -> None:
    assert refusals(database_url) == {}


if CLUSTER:
    URL = CLUSTER

    def test_a_cluster_gets_every_table_where_it_belongs_once() -> None:
        migrations.migrate(URL)
        citus.distribute(URL)
        assert citus.distribute(URL) == []
        places = {str(name): (how, group) for name, how, group in ask(URL, PLACES)}
        assert {name: places[name][0] for name in citus.DIRECTORY} == dict.fromkeys(
            citus.DIRECTORY, "everywhere"
        )
        beside = ("app_id", places["messages"][1])
        assert {name: places[name] for name in citus.TENANT} == dict.fromkeys(citus.TENANT, beside)

    def test_a_cluster_plans_every_query_for_the_node_of_its_app() -> None:
        migrations.migrate(URL)
        citus.distribute(URL)
        assert refusals(URL) == {}
