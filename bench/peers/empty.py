"""What a webhook costs before any work is done: empty POST handlers below tallycast's own edge."""

import argparse
from typing import Any

from host import serve
from litestar import Litestar, Request, Response, post
from litestar.types import Receive, Scope, Send

from tallycast.telemetry import set_up_logging
from tallycast.web.edge import Edge


@post("/read", status_code=200)
async def read(request: Request[Any, Any, Any]) -> Response[bytes]:
    body = await request.body()
    return Response(b'{"code":200,"result":{"bytes":%d}}' % len(body), media_type="application/json")


@post("/skip", status_code=200)
async def skip() -> Response[bytes]:
    return Response(b'{"code":200,"result":{}}', media_type="application/json")


async def plain(_scope: Scope, receive: Receive, send: Send) -> None:
    """The same as `read` without a framework: what tallycast's webhooks do without, too."""
    size, more = 0, True
    while more:
        message: Any = await receive()
        size, more = size + len(message["body"]), message.get("more_body", False)
    body = b'{"code":200,"result":{"bytes":%d}}' % size
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})


def make_app(_options: argparse.Namespace) -> Edge:
    set_up_logging("console", "info")
    litestar = Litestar([read, skip], openapi_config=None, request_max_body_size=None, logging_config=None)

    async def send_on(scope: Any, receive: Receive, send: Send) -> None:
        await (plain if scope.get("path") == "/plain" else litestar)(scope, receive, send)

    return Edge(send_on, ())


if __name__ == "__main__":
    serve(make_app)
