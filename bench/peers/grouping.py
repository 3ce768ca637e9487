"""The usual way: a FastAPI + SQLAlchemy service that groups the messages of a page at read time.

It is written as its users would write it, and helped where that is fair: an index of its own that holds all that the
grouping reads (made by `bench/reading.py`, only while this service is measured), one query per question for the whole page,
prepared statements, the token checked in memory, and the answer serialised by pydantic itself.
"""

import argparse
import hmac
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, NamedTuple

from fastapi import Depends, FastAPI, Header, HTTPException, Path, Query
from host import CONNECTIONS, serve
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel
from sqlalchemy import BigInteger, DateTime, and_, func, not_, or_, select, union_all
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

Moment = DateTime(timezone=True)


class Base(DeclarativeBase):
    pass


class Campaign(Base):
    __tablename__ = "campaigns"
    app_id: Mapped[str] = mapped_column(primary_key=True)
    campaign_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    type: Mapped[str]
    name: Mapped[str]
    created_by: Mapped[str]
    sender_eid: Mapped[str]
    subject: Mapped[str]
    phone: Mapped[str]
    channel_name: Mapped[str]
    source_name: Mapped[str]
    sent_at: Mapped[datetime | None] = mapped_column(Moment)


class Message(Base):
    __tablename__ = "messages"
    app_id: Mapped[str] = mapped_column(primary_key=True)
    campaign_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    seq: Mapped[int] = mapped_column(primary_key=True)
    accepted_at: Mapped[datetime | None] = mapped_column(Moment)
    delivered_at: Mapped[datetime | None] = mapped_column(Moment)
    read_at: Mapped[datetime | None] = mapped_column(Moment)
    failed_at: Mapped[datetime | None] = mapped_column(Moment)


class Reply(Base):
    __tablename__ = "replies"
    app_id: Mapped[str] = mapped_column(primary_key=True)
    campaign_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    seq: Mapped[int] = mapped_column(primary_key=True)
    button: Mapped[str] = mapped_column(primary_key=True)


class Click(Base):
    __tablename__ = "clicks"
    app_id: Mapped[str] = mapped_column(primary_key=True)
    click_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    campaign_id: Mapped[int] = mapped_column(BigInteger)
    set_aside: Mapped[str | None]


class Model(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, validate_by_name=True, validate_by_alias=True)


class Sender(Model):
    phone: str
    channel_name: str | None = None
    source_name: str | None = None
    sender_eid: str | None = Field(default=None, serialization_alias="senderEID")


class Summary(Model):
    id: str
    date: str
    campaign_name: str
    channel: str
    created_by: str
    sender: Sender
    subject: str | None = None
    total_recipients: int
    delivered: int
    read: int | None = None
    replied: int | None = None
    pending: int | None = None
    failed: int | None = None


class Answer(Model):
    code: int = 200
    result: list[Summary]
    cid: str = Field(default_factory=lambda: uuid.uuid4().hex)


class Asked(Model):
    start_at: datetime | None = None
    end_at: datetime | None = None
    channel: Literal["sms", "whatsApp"] | None = None
    limit: int = Field(10, ge=0, le=200)
    offset: int = Field(0, ge=0)


AppID = Annotated[str, Path()]


async def find_campaigns(session: AsyncSession, app_id: str, asked: Asked) -> list[Campaign]:
    query = select(Campaign).where(Campaign.app_id == app_id, Campaign.sent_at.is_not(None))
    if asked.start_at and asked.end_at:
        query = query.where(Campaign.sent_at >= asked.start_at, Campaign.sent_at < asked.end_at)
    if asked.channel:
        query = query.where(Campaign.type == asked.channel)
    newest_first = query.order_by(Campaign.sent_at.desc(), Campaign.campaign_id.desc())
    return list(await session.scalars(newest_first.limit(asked.limit).offset(asked.offset)))


class Totals(NamedTuple):
    total: int = 0
    delivered: int = 0
    read: int = 0
    pending: int = 0
    failed: int = 0


async def count_states(session: AsyncSession, app_id: str, ids: list[int]) -> dict[int, Totals]:
    """All states in one pass: on these tables twice as fast as GROUP BY with the state as a second key."""
    is_read = Message.read_at.is_not(None)
    is_delivered = or_(is_read, Message.delivered_at.is_not(None))
    is_failed = and_(not_(is_delivered), Message.failed_at.is_not(None))
    is_pending = and_(not_(is_delivered), Message.failed_at.is_(None), Message.accepted_at.is_not(None))
    states = [func.count().filter(state) for state in (is_delivered, is_read, is_pending, is_failed)]
    query = (
        select(Message.campaign_id, func.count(), *states)
        .where(Message.app_id == app_id, Message.campaign_id.in_(ids))
        .group_by(Message.campaign_id)
    )
    return {row[0]: Totals._make(row[1:]) for row in await session.execute(query)}


async def count_replied(session: AsyncSession, app_id: str, ids: list[int]) -> dict[int, int]:
    buttons = select(Reply.campaign_id).where(Reply.app_id == app_id, Reply.campaign_id.in_(ids))
    clicks = select(Click.campaign_id).where(
        Click.app_id == app_id, Click.campaign_id.in_(ids), Click.set_aside.is_(None)
    )
    both = union_all(buttons, clicks).subquery()
    rows: Any = await session.execute(select(both.c.campaign_id, func.count()).group_by(both.c.campaign_id))
    return dict(rows.tuples().all())


def summarize(campaign: Campaign, totals: Totals, replied: int) -> Summary:
    assert campaign.sent_at is not None
    date = campaign.sent_at.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"
    common: dict[str, Any] = {
        "id": str(campaign.campaign_id),
        "date": date,
        "campaign_name": campaign.name,
        "created_by": campaign.created_by,
        "total_recipients": totals.total,
        "delivered": totals.delivered,
    }
    if campaign.type == "sms":
        sender = Sender(phone=campaign.phone, sender_eid=campaign.sender_eid)
        return Summary(channel="SMS", sender=sender, **common)
    return Summary(
        channel="WhatsApp",
        sender=Sender(
            phone=campaign.phone, channel_name=campaign.channel_name, source_name=campaign.source_name
        ),
        subject=campaign.subject,
        read=totals.read,
        replied=replied,
        pending=totals.pending,
        failed=totals.failed,
        **common,
    )


def make_app(options: argparse.Namespace) -> FastAPI:
    engine = create_async_engine(
        options.url.replace("postgresql:", "postgresql+asyncpg:"), pool_size=CONNECTIONS, max_overflow=0
    )
    sessions = async_sessionmaker(engine, expire_on_commit=False)
    app = FastAPI()

    async def open_session() -> AsyncIterator[AsyncSession]:
        async with sessions() as session:
            yield session

    async def check_token(app_id: AppID, authorization: Annotated[str, Header()] = "") -> None:
        if not hmac.compare_digest(authorization, f"Bearer {options.token}") or app_id != options.app:
            raise HTTPException(401)

    @app.get(
        "/v1/api/apps/{app_id}/data/sent-campaigns-summary",
        response_model_exclude_none=True,
        dependencies=[Depends(check_token)],
    )
    async def get_summary(
        app_id: AppID,
        asked: Annotated[Asked, Query()],
        session: Annotated[AsyncSession, Depends(open_session)],
    ) -> Answer:
        page = await find_campaigns(session, app_id, asked)
        ids = [campaign.campaign_id for campaign in page]
        states = await count_states(session, app_id, ids)
        replied = await count_replied(session, app_id, ids)
        return Answer(
            result=[
                summarize(one, states.get(one.campaign_id, Totals()), replied.get(one.campaign_id, 0))
                for one in page
            ]
        )

    return app


if __name__ == "__main__":
    serve(make_app)
