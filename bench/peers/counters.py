"""Counters: each receipt adds one to its campaign's row, whatever was said of the message before.

Nothing is written to the message, which is the quickest that this design can be. Counters have a table of their own with
room in its pages, so that their rows are updated in place.
"""

from functools import partial

from host import serve
from receiver import Design, Receiver

DESIGN = Design(
    schema="""
create table counters (campaign_id bigint primary key, delivered int not null default 0, read int not null default 0,
  failed int not null default 0) with (fillfactor = 20)
""",
    loaded="insert into counters (campaign_id) select campaign_id from campaigns",
    apply="""
update counters c set delivered = c.delivered + e.delivered, read = c.read + e.read, failed = c.failed + e.failed
from (
  select m.campaign_id, count(*) filter (where x.rank = 3) as delivered, count(*) filter (where x.rank = 4) as read,
    count(*) filter (where x.rank = 2) as failed
  from unnest(%(ids)s::text[], %(ranks)s::smallint[]) x (id, rank) join messages m on m.message_id = x.id
  where x.rank > 1 group by 1
) e
where c.campaign_id = e.campaign_id
""",
    counts="""
cross join lateral (
  select c.delivered, c.read, page.total - c.delivered - c.failed as pending, c.failed
  from counters c where c.campaign_id = page.campaign_id
) counted
""",
)

if __name__ == "__main__":
    serve(partial(Receiver, DESIGN))
