"""Health, metrics, and the API's own description."""

import msgspec
from litestar import Response, get

from tallycast import db
from tallycast.telemetry import render_metrics
from tallycast.web.answers import Asked
from tallycast.web.openapi import Doc
from tallycast.web.services import of


async def _ask(pool: db.Pool) -> None:
    async with pool.connection(timeout=1.0) as connection:
        await connection.execute(b"select 1")


class Health(msgspec.Struct):
    status: str


@get(
    "/health/live",
    doc=Doc(operation_id="getLiveness", summary="Whether the process answers", tag="Operation"),
)
async def get_liveness() -> Health:
    return Health("alive")


@get(
    "/health/ready",
    doc=Doc(operation_id="getReadiness", summary="Whether the process can work", tag="Operation"),
)
async def get_readiness(request: Asked) -> Response[Health]:
    """503 while the server starts or stops, or its database is away (receipts are taken all the same: spooled)."""
    services = of(request)
    try:
        await db.within(2.0, _ask(services.pool))
    except db.AWAY:
        return Response(Health("the database is away"), status_code=503)
    is_ready = services.is_ready and not services.intake.is_away
    return Response(Health("ready" if is_ready else "not ready"), status_code=200 if is_ready else 503)


@get(
    "/metrics",
    doc=Doc(
        operation_id="getMetrics", summary="Prometheus metrics", tag="Operation", content_type="text/plain"
    ),
)
async def get_metrics() -> Response[bytes]:
    return Response(render_metrics(), media_type="text/plain; version=0.0.4")
