"""Poolers in transaction mode (PgBouncer and its like), which give each transaction whatever session is free.

No session is ours behind one, so what sessions set becomes the role's default in the database.
"""

import psycopg
from psycopg import sql

from tallycast import db

Connection = psycopg.Connection[tuple[object, ...]]
_DEFAULTS = (
    "select unnest(setconfig) from pg_db_role_setting where setrole = "
    "(select oid from pg_roles where rolname = current_user) and setdatabase = "
    "(select oid from pg_database where datname = current_database())"
)


def is_pooled(connection: Connection) -> bool:
    """Whether one stands between: it gives its clients other numbers than sessions have."""
    ((number,),) = connection.execute("select pg_backend_pid()").fetchall()
    return number != connection.info.backend_pid


def keep_settings(connection: Connection) -> None:
    """Make the settings of our sessions the role's defaults, in the caller's transaction.

    The session that answers here began before, and others may get it next: it gets them, too.
    """
    kept = {str(text).casefold() for (text,) in connection.execute(_DEFAULTS)}
    ((name,),) = connection.execute("select current_database()").fetchall()
    role = sql.SQL("alter role current_user in database {}").format(sql.Identifier(str(name)))
    for setting, value in db.SETTINGS.items():
        change = sql.SQL("set {} = {}").format(sql.Identifier(setting), sql.Literal(value))
        connection.execute(change)
        if f"{setting}={value}".casefold() not in kept:
            connection.execute(role + sql.SQL(" ") + change)
