"""The database of a server, a worker or a command: the given one, else the embedded one of the data directory."""

import contextlib
from collections.abc import Iterator

from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict

from tallycast import embedded
from tallycast.config import EXPORT_CONNECTIONS, URGENT_CONNECTIONS, BadSetting, Settings

_SPARE_CONNECTIONS = 40  # commands, and whoever looks in with psql
_FEWEST_CONNECTIONS = 100


@contextlib.contextmanager
def reach(settings: Settings) -> Iterator[str]:
    """The database's URL; an embedded server is started, or joined, for the while."""
    if settings.database_url:
        try:
            conninfo_to_dict(settings.database_url)
        except ProgrammingError:  # its text may hold the URL's password
            raise BadSetting("database-url must be like postgresql://user@host:5432/name") from None
        yield settings.database_url
        return
    each = settings.database_connections + URGENT_CONNECTIONS + EXPORT_CONNECTIONS
    needed = (settings.workers + settings.background_count) * each + _SPARE_CONNECTIONS
    server = embedded.start(settings.data_dir, {"max_connections": str(max(_FEWEST_CONNECTIONS, needed))})
    try:
        yield server.url
    finally:
        server.stop()
