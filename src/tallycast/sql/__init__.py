"""Loads the named queries: each block of a `.sql` file starts with `-- name: <query>` and a line of purpose."""

import re
from functools import cache
from importlib import resources

_BLOCK = re.compile(r"^-- name: (\w+)\n(.*?)(?=^-- name: |\Z)", re.MULTILINE | re.DOTALL)


@cache
def load(domain: str) -> dict[str, bytes]:
    """The queries of one domain, as bytes: psycopg takes bytes as already composed SQL."""
    text = (resources.files(__name__) / f"{domain}.sql").read_text()
    return {name: body.strip().rstrip(";").encode() for name, body in _BLOCK.findall(text)}
