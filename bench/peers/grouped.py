"""Counting at read time: each message has its state, and the report groups the messages of its page.

Where a state is only ever replaced by a higher one, this is exact whatever the order and however often. An index that
holds the state lets the report read nothing else, and has to be written with each change.
"""

from functools import partial

from host import serve
from receiver import Design, Receiver

DESIGN = Design(
    schema="create index on messages (campaign_id, rank)",
    apply="""
update messages m set rank = n.rank
from (select id, max(rank) as rank from unnest(%(ids)s::text[], %(ranks)s::smallint[]) x (id, rank) group by id) n
where m.message_id = n.id and m.rank < n.rank
""",
    counts="""
cross join lateral (
  select count(*) filter (where m.rank >= 3) as delivered, count(*) filter (where m.rank = 4) as read,
    count(*) filter (where m.rank = 1) as pending, count(*) filter (where m.rank = 2) as failed
  from messages m where m.campaign_id = page.campaign_id
) counted
""",
)

if __name__ == "__main__":
    serve(partial(Receiver, DESIGN))
