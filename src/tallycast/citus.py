"""Citus: the tenants' tables spread by app over the nodes of an existing cluster, the directory whole on every node.

What can be asked of a cluster, and how, follows https://docs.citusdata.com/en/stable/develop/api_udf.html.
"""

import psycopg

from tallycast import migrations
from tallycast.poolers import Connection

# Called in statements, which run where the rows are. As PostgreSQL writes their names.
FUNCTIONS = (
    "message_state(" + ",".join(["timestamp with time zone"] * 4) + ")",
    "fails_before(" + ",".join(["timestamp with time zone,text,text"] * 2) + ")",
    "anonymous_id(text)",
)
# Read across tenants.
DIRECTORY = ("apps", "staff", "staff_roles", "staff_sessions", "staff_links", "keyholders")
TENANT = (
    "messages", "administrations", "attempts", "campaigns", "channels", "clicks", "counts", "digest_keys", "erasures",
    "figure_watches", "handovers", "idempotency_keys", "identities", "import_chunks", "import_errors", "imports",
    "insights", "leases", "links", "notices", "opt_outs", "parked", "replies", "retentions", "sendings", "templates",
    "texts", "tokens", "told_figures", "transitions", "trials", "unreadable", "webhook_endpoints",
)  # fmt: skip
_EXTENSION = "select from pg_extension where extname = 'citus'"
# A table with method n and model s is known to Citus and still on the coordinator alone.
_PLACED = """
    select logicalrelid::text from pg_dist_partition where partmethod <> 'n' or repmodel = 't'
    union all
    select objid::regprocedure::text from pg_dist_object where classid = 'pg_proc'::regclass"""


def missing(placed: set[str]) -> list[tuple[str, str]]:
    """(function or table, statement that places it) of all that is not placed yet, in order.

    `messages` comes before the tables that lie beside it, in a group that no table of others is in.
    """
    steps = [(name, f"select create_distributed_function('{name}')") for name in FUNCTIONS]
    steps += [(name, f"select create_reference_table('{name}')") for name in DIRECTORY]
    for name in TENANT:
        beside = "none" if name == "messages" else "messages"
        statement = f"select create_distributed_table('{name}', 'app_id', colocate_with => '{beside}')"
        steps.append((name, statement))
    return [(name, statement) for name, statement in steps if name not in placed]


def distribute(url: str) -> list[str]:
    """Spread the migrated database at `url`, a coordinator's, over its cluster; what was placed now.

    Each table has a transaction of its own, so that a run which fails goes on with the next one. Nothing else may use
    the database meanwhile: statements fail that need a table here and one there.
    """
    with psycopg.connect(url, autocommit=True, prepare_threshold=None) as connection:
        if not connection.execute(_EXTENSION).rowcount:
            raise migrations.UnfitDatabase(
                'Citus is not in this database: run "create extension citus" in it on every node first, and tell the '
                "coordinator of its workers (citus_add_node)"
            )
        found = missing(_find_placed(connection))
        return [name for name, statement in found if _place(connection, name, statement)]


def _find_placed(connection: Connection) -> set[str]:
    return {str(name) for (name,) in connection.execute(_PLACED)}


def _place(connection: Connection, name: str, statement: str) -> bool:
    """Run a statement of `missing`; whether it was still missing."""
    with migrations.locked(connection):
        if name in _find_placed(connection):  # while this one waited
            return False
        connection.execute(statement.encode())
    return True
