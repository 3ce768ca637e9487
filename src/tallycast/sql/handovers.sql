-- name: claim_next
-- Claim the next messages of the campaign of a channel that was served longest ago. What is claimed is never claimed
-- again by this way: next_seq has moved in the same commit. Only the holder of the channel's lease claims: what another
-- one claims late would wait for ever.
with picked as (
  select s.campaign_id, s.next_seq as first, least(s.next_seq + %(limit)s, n.total) as until
  from sendings s
  join counts n on n.app_id = %(app_id)s and n.campaign_id = s.campaign_id
  where s.app_id = %(app_id)s and s.channel_number = %(channel_number)s and s.stage = 'sending'
    and s.ended_at is null and s.next_seq < n.total
    and exists (
      select from leases l
      where l.app_id = %(app_id)s and l.name = 'channel:' || %(channel_number)s::int
        and l.worker = split_part(%(worker)s, '#', 1) and l.until > now()
    )
  order by s.active_at, s.campaign_id
  limit 1
  for update of s skip locked
),
moved as (
  update sendings s
  set next_seq = p.until, active_at = clock_timestamp()
  from picked p
  where s.app_id = %(app_id)s and s.campaign_id = p.campaign_id
  returning p.campaign_id, p.first, p.until
)
insert into handovers (app_id, campaign_id, seq, channel_number, status, worker, claimed_at)
select %(app_id)s, m.campaign_id, seq, %(channel_number)s, 'claimed', %(worker)s, clock_timestamp()
from moved m, generate_series(m.first, m.until - 1) seq
on conflict (app_id, campaign_id, seq) do nothing
returning campaign_id, seq, attempts, claimed_at

-- name: claim_due
-- Claim messages of a campaign that were put off until now.
with picked as (
  select h.seq
  from handovers h
  where h.app_id = %(app_id)s and h.campaign_id = %(campaign_id)s and h.channel_number = %(channel_number)s
    and h.status = 'due' and h.due_at <= now()
    and exists (
      select from sendings s
      where s.app_id = %(app_id)s and s.campaign_id = %(campaign_id)s and s.stage = 'sending'
    )
    and exists (
      select from leases l
      where l.app_id = %(app_id)s and l.name = 'channel:' || %(channel_number)s::int
        and l.worker = split_part(%(worker)s, '#', 1) and l.until > now()
    )
  order by h.due_at
  limit %(limit)s
  for update skip locked
)
update handovers h
set status = 'claimed', worker = %(worker)s, claimed_at = clock_timestamp()
from picked p
where h.app_id = %(app_id)s and h.campaign_id = %(campaign_id)s and h.seq = p.seq
returning h.campaign_id, h.seq, h.attempts, h.claimed_at

-- name: list_sending
-- The campaigns that are being sent over a channel, or fall back to it, and whether some are put off until now.
select s.campaign_id, s.channel_number = %(channel_number)s as is_own,
  exists (
    select from handovers h
    where h.app_id = %(app_id)s and h.campaign_id = s.campaign_id and h.channel_number = %(channel_number)s
      and h.status = 'due' and h.due_at <= now()
  ) as has_due
from sendings s
where s.app_id = %(app_id)s and s.stage = 'sending' and s.ended_at is null
  and (s.channel_number = %(channel_number)s or s.fallback_channel = %(channel_number)s)
order by s.active_at, s.campaign_id

-- name: read_claimed
-- What is needed to send messages of one campaign.
select i.seq, m.recipient, m.country, m.content, m.variables,
  message_state(m.accepted_at, m.delivered_at, m.read_at, m.failed_at) = 'queued' as is_queued
from unnest(%(seq)s::int[]) i (seq)
cross join lateral (
  select * from messages m
  where m.app_id = %(app_id)s and m.campaign_id = %(campaign_id)s and m.seq = i.seq
  limit 1
) m

-- name: forget_handovers
-- These messages are settled, by their facts. A record that is repeated must not touch a later claim.
delete from handovers h
using unnest(%(campaign_id)s::bigint[], %(seq)s::int[], %(claimed_at)s::timestamptz[])
  as i (campaign_id, seq, claimed_at)
where h.app_id = %(app_id)s and h.campaign_id = i.campaign_id and h.seq = i.seq
  and (i.claimed_at is null or h.claimed_at = i.claimed_at)

-- name: put_off
-- These messages were certainly not sent: again later. One that somebody else has taken for unknown stays so.
update handovers h
set status = 'due', due_at = greatest(now(), now() + i.seconds * interval '1 second'), attempts = i.attempts,
  reason = i.reason, worker = ''
from unnest(
  %(campaign_id)s::bigint[], %(seq)s::int[], %(claimed_at)s::timestamptz[], %(seconds)s::float8[],
  %(attempts)s::int[], %(reason)s::text[]
) as i (campaign_id, seq, claimed_at, seconds, attempts, reason)
where h.app_id = %(app_id)s and h.campaign_id = i.campaign_id and h.seq = i.seq
  and h.status = 'claimed' and h.worker = %(worker)s and h.claimed_at = i.claimed_at

-- name: mark_unknown
-- Nobody knows whether these messages were taken.
update handovers h
set status = 'unknown', reason = i.reason, worker = ''
from unnest(%(campaign_id)s::bigint[], %(seq)s::int[], %(claimed_at)s::timestamptz[], %(reason)s::text[])
  as i (campaign_id, seq, claimed_at, reason)
where h.app_id = %(app_id)s and h.campaign_id = i.campaign_id and h.seq = i.seq
  and h.status = 'claimed' and h.claimed_at = i.claimed_at

-- name: take_over
-- What other workers had claimed over a channel whose lease is ours now: they ended, and what they knew with them.
update handovers h
set status = 'unknown', reason = %(reason)s, worker = ''
where h.app_id = %(app_id)s and h.channel_number = %(channel_number)s and h.status = 'claimed'
  and h.worker <> %(worker)s
returning h.campaign_id, h.seq

-- name: take_over_deleted
-- Claims of a campaign over a channel that was deleted: nobody will come to it again.
update handovers h
set status = 'unknown', reason = %(reason)s, worker = ''
where h.app_id = %(app_id)s and h.campaign_id = %(campaign_id)s and h.status = 'claimed'
  and exists (
    select from channels c
    where c.app_id = %(app_id)s and c.channel_number = h.channel_number and c.deleted_at is not null
  )
returning h.campaign_id, h.seq, h.channel_number

-- name: release_own
-- Claims whose commit was not seen by the worker that made them.
update handovers
set status = 'due', due_at = now(), worker = ''
where app_id = %(app_id)s and channel_number = %(channel_number)s and status = 'claimed' and worker = %(worker)s

-- name: keep_sent_texts
-- What was sent, as it was sent: text and parts.
update messages m
set content = i.content, parts = i.parts
from unnest(%(campaign_id)s::bigint[], %(seq)s::int[], %(content)s::text[], %(parts)s::int[])
  as i (campaign_id, seq, content, parts)
where m.app_id = %(app_id)s and m.campaign_id = i.campaign_id and m.seq = i.seq

-- name: touch_sendings
-- A worker looks after these campaigns, also while nothing of them is due.
update sendings
set active_at = clock_timestamp()
where app_id = %(app_id)s and stage = 'sending' and ended_at is null
  and (channel_number = %(channel_number)s or fallback_channel = %(channel_number)s)

-- name: list_finished
-- Campaigns of a channel of which nothing is left to do.
select s.campaign_id
from sendings s
join counts n on n.app_id = %(app_id)s and n.campaign_id = s.campaign_id
where s.app_id = %(app_id)s and s.channel_number = %(channel_number)s and s.stage = 'sending'
  and s.ended_at is null and s.next_seq >= n.total
  and (s.fallback_channel is null or s.fallback_seq >= n.total)
  and not exists (
    select from handovers h
    where h.app_id = %(app_id)s and h.campaign_id = s.campaign_id and h.status in ('claimed', 'due')
  )

-- name: list_rest
-- A portion of a cancelled campaign that was not handed over: what is put off, then what was not begun.
(
  select h.seq, h.channel_number
  from handovers h
  where h.app_id = %(app_id)s and h.campaign_id = %(campaign_id)s and h.status = 'due'
  limit %(limit)s
)
union all
(
  select m.seq, m.channel_number
  from messages m
  where m.app_id = %(app_id)s and m.campaign_id = %(campaign_id)s
    and m.seq >= (
      select s.next_seq from sendings s where s.app_id = %(app_id)s and s.campaign_id = %(campaign_id)s
    )
  order by m.seq
  limit %(limit)s
)

-- name: has_claimed
-- Whether messages of a campaign are on their way at this moment.
select exists (
  select from handovers
  where app_id = %(app_id)s and campaign_id = %(campaign_id)s and status = 'claimed'
)

-- name: pass_over
-- The campaign is over for messages before this one.
update sendings
set next_seq = greatest(next_seq, %(next_seq)s)
where app_id = %(app_id)s and campaign_id = %(campaign_id)s

-- name: count_unknown
-- How many messages of a campaign have an outcome that nobody knows yet.
select count(*)::int
from handovers h
cross join lateral (
  select * from messages m
  where m.app_id = %(app_id)s and m.campaign_id = h.campaign_id and m.seq = h.seq
  limit 1
) m
where h.app_id = %(app_id)s and h.campaign_id = %(campaign_id)s and h.status = 'unknown'
  and m.message_id is null and coalesce(m.delivered_at, m.read_at, m.failed_at) is null

-- name: list_unknown
-- These messages, in the order of sending.
select h.seq, m.recipient, m.accepted_at as since, h.attempts, h.reason
from handovers h
cross join lateral (
  select * from messages m
  where m.app_id = %(app_id)s and m.campaign_id = h.campaign_id and m.seq = h.seq
  limit 1
) m
where h.app_id = %(app_id)s and h.campaign_id = %(campaign_id)s and h.status = 'unknown'
  and m.message_id is null and coalesce(m.delivered_at, m.read_at, m.failed_at) is null
order by h.seq
limit %(limit)s offset %(offset)s
