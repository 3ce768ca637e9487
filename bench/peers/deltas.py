"""Deltas: each change of a message's state adds rows of +n and -n, which a task sums up every five seconds.

No row is written by two at once, so writers never wait for each other. As states are only ever replaced by higher ones,
and what a change took away is known from the same statement, the sums are exact.
"""

from functools import partial

from host import serve
from receiver import Design, Receiver

DESIGN = Design(
    schema="""
create table deltas (campaign_id bigint not null, rank smallint not null, delta int not null,
  is_squashed bool not null default false);
create index on deltas (campaign_id, rank) include (delta);
create index on deltas (campaign_id, rank) where not is_squashed
""",
    loaded="insert into deltas select campaign_id, 1, total, true from campaigns",
    apply="""
with changed as (
  update messages m set rank = n.rank
  from (select id, max(rank) as rank from unnest(%(ids)s::text[], %(ranks)s::smallint[]) x (id, rank) group by id) n
  where m.message_id = n.id and m.rank < n.rank
  returning m.campaign_id, old.rank as was, new.rank as now
)
insert into deltas (campaign_id, rank, delta)
select campaign_id, rank, sum(n) from (
  select campaign_id, was as rank, -1 as n from changed union all select campaign_id, now, 1 from changed
) moved
group by 1, 2 having sum(n) <> 0
""",
    counts="""
cross join lateral (
  select sum(d.delta) filter (where d.rank >= 3) as delivered, sum(d.delta) filter (where d.rank = 4) as read,
    sum(d.delta) filter (where d.rank = 1) as pending, sum(d.delta) filter (where d.rank = 2) as failed
  from deltas d where d.campaign_id = page.campaign_id
) counted
""",
    squash="""
with due as (select distinct campaign_id, rank from deltas where not is_squashed limit 5000),
gone as (
  delete from deltas d using due where d.campaign_id = due.campaign_id and d.rank = due.rank
  returning d.campaign_id, d.rank, d.delta
)
insert into deltas select campaign_id, rank, sum(delta), true from gone group by 1, 2
""",
)

if __name__ == "__main__":
    serve(partial(Receiver, DESIGN))
