"""The API of a server that is reached over HTTP, and what to say when it is not reached."""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx

import tallycast
from tallycast.api import Answer, Call, Caller
from tallycast.errors import Problem

# An import's preview or a first page of a large report may take a while; a connection is there at once, or not.
_TIMEOUT = httpx.Timeout(120, connect=10)


class Unreachable(Problem):
    """The server cannot be reached; the message says why and what to do."""


@asynccontextmanager
async def open_remote(url: str, token: str) -> AsyncIterator[Caller]:
    """Connections to the server at `url`, kept while the command runs. Redirects are not followed: the token would go along."""
    headers = {"authorization": f"Bearer {token}", "user-agent": f"tallycast/{tallycast.__version__}"}
    async with httpx.AsyncClient(headers=headers, timeout=_TIMEOUT) as client:

        @asynccontextmanager
        async def call(call: Call) -> AsyncIterator[Answer]:
            try:
                async with client.stream(
                    call.method, url + call.target, headers=call.headers, content=call.body
                ) as answer:
                    yield Answer(answer.status_code, answer.headers, answer.aiter_bytes())
            except (httpx.TransportError, httpx.DecodingError, httpx.InvalidURL) as error:
                raise Unreachable(explain(url, error)) from None

        yield call


def explain(url: str, error: Exception) -> str:
    """Why a server does not answer, and what to do about it, in one line."""
    if isinstance(error, httpx.InvalidURL | httpx.UnsupportedProtocol):
        return f"the URL must be like https://campaigns.example.com, not {url!r}"
    if isinstance(error, httpx.TimeoutException):
        return f"{url} does not answer in time: is the address right, and does a firewall let you through?"
    reasons = list(_reasons(error))
    for one in reasons:
        if isinstance(one, ssl.SSLCertVerificationError):
            return (
                f"the certificate of {url} cannot be trusted ({one.verify_message}): use the name that it is for, or "
                "name its authority's file in SSL_CERT_FILE"
            )
        if isinstance(one, ssl.SSLError):
            return f"{url} does not speak TLS ({one.reason}): is it http:// there, or another port?"
        if isinstance(one, ConnectionRefusedError):
            return f"nobody listens at {url}: does `tallycast serve` run there, and is the port right?"
    said = str(reasons[-1]) or type(error).__name__
    return f"{url} cannot be reached: {said}"


def _reasons(error: BaseException | None) -> list[BaseException]:
    """An error and what led to it, the last cause at the end."""
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        if isinstance(error, OSError) and error.args and isinstance(error.args[-1], BaseException):
            error = error.args[-1]
        else:
            error = error.__cause__ or error.__context__
    return found
