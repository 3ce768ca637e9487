-- name: fold_receipts
-- Merge one batch of folded facts of one app, move the counts, park what is not known: one statement, one commit.
-- The input has one row per message; its facts are the earliest of the batch. Messages are locked in one order, then
-- counts in one order, so that two batches do not deadlock; `for update` reads what others committed meanwhile.
-- No step joins two steps by n: plans are made for few rows, and such a join would be quadratic.
with input as materialized (
  select n, channel_number, message_id, campaign_id, seq, error_code, error_title,
    'epoch'::timestamptz + accepted_ms * interval '1 millisecond' as accepted_at,
    'epoch'::timestamptz + delivered_ms * interval '1 millisecond' as delivered_at,
    'epoch'::timestamptz + read_ms * interval '1 millisecond' as read_at,
    'epoch'::timestamptz + failed_ms * interval '1 millisecond' as failed_at
  from unnest(
    %(channel_number)s::int[], %(message_id)s::text[], %(campaign_id)s::bigint[], %(seq)s::int[],
    %(accepted_ms)s::bigint[], %(delivered_ms)s::bigint[], %(read_ms)s::bigint[], %(failed_ms)s::bigint[],
    %(error_code)s::text[], %(error_title)s::text[]
  ) with ordinality as t (
    channel_number, message_id, campaign_id, seq,
    accepted_ms, delivered_ms, read_ms, failed_ms, error_code, error_title, n
  )
),
by_id as materialized (
  select i as said, m as known
  from input i
  join messages m on m.app_id = %(app_id)s and m.channel_number = i.channel_number and m.message_id = i.message_id
  where i.campaign_id is null
  order by i.channel_number, i.message_id
  for update of m
),
by_address as materialized (
  select i as said, m as known
  from input i
  join messages m on m.app_id = %(app_id)s and m.campaign_id = i.campaign_id and m.seq = i.seq
    and m.channel_number = i.channel_number
  order by i.campaign_id, i.seq
  for update of m
),
found as materialized (
  select said, known from by_id union all select said, known from by_address
),
before as materialized (
  select (said).n, (known).campaign_id, (known).seq,
    message_state((known).accepted_at, (known).delivered_at, (known).read_at, (known).failed_at) as state,
    message_state(
      coalesce((known).accepted_at, (said).accepted_at), coalesce((known).delivered_at, (said).delivered_at),
      coalesce((known).read_at, (said).read_at), coalesce((known).failed_at, (said).failed_at)
    ) as new_state,
    least((known).accepted_at, (said).accepted_at) as accepted_at,
    least((known).delivered_at, (said).delivered_at) as delivered_at,
    least((known).read_at, (said).read_at) as read_at,
    least((known).failed_at, (said).failed_at) as failed_at,
    (said).failed_at is not null and (
      (known).failed_at is null
      or ((said).failed_at, coalesce((said).error_code, ''), coalesce((said).error_title, ''))
        < ((known).failed_at, coalesce((known).error_code, ''), coalesce((known).error_title, ''))
    ) as fails_first,
    (said).error_code, (said).error_title,
    case when (known).message_id is null and not exists (
      select from messages x
      where x.app_id = %(app_id)s and x.channel_number = (said).channel_number and x.message_id = (said).message_id
    ) then (said).message_id end as learned_id,
    ((known).accepted_at <= (said).accepted_at or (said).accepted_at is null)
      and ((known).delivered_at <= (said).delivered_at or (said).delivered_at is null)
      and ((known).read_at <= (said).read_at or (said).read_at is null) as is_known
  from found
),
changed as (
  update messages m
  set accepted_at = b.accepted_at, delivered_at = b.delivered_at, read_at = b.read_at, failed_at = b.failed_at,
    error_code = case when b.fails_first then b.error_code else m.error_code end,
    error_title = case when b.fails_first then b.error_title else m.error_title end,
    message_id = coalesce(m.message_id, b.learned_id)
  from before b
  where m.app_id = %(app_id)s and m.campaign_id = b.campaign_id and m.seq = b.seq
    and (b.is_known is not true or b.fails_first or b.learned_id is not null)
),
moved as materialized (
  select campaign_id,
    sum((new_state = 'queued')::int - (state = 'queued')::int) as queued,
    sum((new_state = 'pending')::int - (state = 'pending')::int) as pending,
    sum((new_state in ('delivered', 'read'))::int - (state in ('delivered', 'read'))::int) as delivered,
    sum((new_state = 'read')::int - (state = 'read')::int) as read,
    sum((new_state = 'failed')::int - (state = 'failed')::int) as failed,
    min(least(accepted_at, delivered_at, read_at, failed_at)) filter (where state = 'queued') as handed_at
  from before
  where new_state <> state
  group by campaign_id
),
held as materialized (
  select c.campaign_id
  from counts c
  where c.app_id = %(app_id)s and c.campaign_id in (select campaign_id from moved)
  order by c.campaign_id
  for update
),
counted as (
  update counts c
  set queued = c.queued + d.queued, pending = c.pending + d.pending, delivered = c.delivered + d.delivered,
    read = c.read + d.read, failed = c.failed + d.failed
  from moved d
  where c.app_id = %(app_id)s and c.campaign_id = d.campaign_id and (select count(*) from held) > 0
),
opened as (
  update campaigns c
  set sent_at = date_trunc('milliseconds', coalesce(c.dated, least(d.handed_at, now())))
  from moved d
  where c.app_id = %(app_id)s and c.campaign_id = d.campaign_id and d.handed_at is not null and c.sent_at is null
),
parking as (
  insert into parked as p (
    app_id, channel_number, message_id, accepted_at, delivered_at, read_at, failed_at, error_code, error_title
  )
  select %(app_id)s, i.channel_number, i.message_id, i.accepted_at, i.delivered_at, i.read_at, i.failed_at,
    i.error_code, i.error_title
  from input i
  where i.n not in (select n from before)
  order by i.channel_number, i.message_id
  on conflict (app_id, channel_number, message_id, button) do update
  set accepted_at = least(p.accepted_at, excluded.accepted_at),
    delivered_at = least(p.delivered_at, excluded.delivered_at),
    read_at = least(p.read_at, excluded.read_at),
    failed_at = least(p.failed_at, excluded.failed_at),
    error_code = case
      when p.failed_at is null
        or (excluded.failed_at, coalesce(excluded.error_code, ''), coalesce(excluded.error_title, ''))
          < (p.failed_at, coalesce(p.error_code, ''), coalesce(p.error_title, ''))
      then excluded.error_code else p.error_code end,
    error_title = case
      when p.failed_at is null
        or (excluded.failed_at, coalesce(excluded.error_code, ''), coalesce(excluded.error_title, ''))
          < (p.failed_at, coalesce(p.error_code, ''), coalesce(p.error_title, ''))
      then excluded.error_title else p.error_title end
  returning 1
)
select
  (select count(*) from before)::int as matched,
  (select count(*) from parking)::int as parked,
  (select count(*) from before where learned_id is not null)::int as learned

-- name: fold_replies
-- Add button clicks to the set of (message, button), count the new ones, park what is not known.
with input as materialized (
  select n, channel_number, message_id, campaign_id, seq, button,
    'epoch'::timestamptz + replied_ms * interval '1 millisecond' as replied_at
  from unnest(
    %(channel_number)s::int[], %(message_id)s::text[], %(campaign_id)s::bigint[], %(seq)s::int[],
    %(button)s::text[], %(replied_ms)s::bigint[]
  ) with ordinality as t (channel_number, message_id, campaign_id, seq, button, replied_ms, n)
),
found as materialized (
  select i.n, i.button, i.replied_at, m.campaign_id, m.seq
  from input i
  join messages m on m.app_id = %(app_id)s and m.channel_number = i.channel_number and m.message_id = i.message_id
  where i.campaign_id is null
  union all
  select i.n, i.button, i.replied_at, m.campaign_id, m.seq
  from input i
  join messages m on m.app_id = %(app_id)s and m.campaign_id = i.campaign_id and m.seq = i.seq
    and m.channel_number = i.channel_number
),
added as materialized (
  insert into replies as r (app_id, campaign_id, seq, button, replied_at)
  select %(app_id)s, campaign_id, seq, button, min(replied_at)
  from found
  group by campaign_id, seq, button
  order by campaign_id, seq, button
  on conflict (app_id, campaign_id, seq, button) do update
  set replied_at = least(r.replied_at, excluded.replied_at)
  returning campaign_id, xmax = 0 as is_new
),
moved as materialized (
  select campaign_id, count(*) as fresh from added where is_new group by campaign_id
),
held as materialized (
  select c.campaign_id
  from counts c
  where c.app_id = %(app_id)s and c.campaign_id in (select campaign_id from moved)
  order by c.campaign_id
  for update
),
counted as (
  update counts c
  set button_replies = c.button_replies + d.fresh
  from moved d
  where c.app_id = %(app_id)s and c.campaign_id = d.campaign_id and (select count(*) from held) > 0
),
parking as (
  insert into parked as p (app_id, channel_number, message_id, button, replied_at)
  select %(app_id)s, i.channel_number, i.message_id, i.button, min(i.replied_at)
  from input i
  where i.message_id is not null and i.n not in (select n from found)
  group by i.channel_number, i.message_id, i.button
  order by 2, 3, 4
  on conflict (app_id, channel_number, message_id, button) do update
  set replied_at = least(p.replied_at, excluded.replied_at)
  returning 1
)
select
  (select count(*) from found)::int as matched,
  (select count(*) from parking)::int as parked,
  array(select i.n from input i where i.message_id is null and i.n not in (select n from found))::int[] as lost

-- name: take_parked
-- Take out the parked receipts and clicks whose message has appeared by now, among the given message ids.
delete from parked p
using messages m
where p.app_id = %(app_id)s and p.channel_number = %(channel_number)s and p.message_id = any(%(message_ids)s::text[])
  and m.app_id = %(app_id)s and m.channel_number = p.channel_number and m.message_id = p.message_id
returning p.channel_number, p.message_id, p.button,
  (extract(epoch from p.accepted_at) * 1000)::bigint as accepted_ms,
  (extract(epoch from p.delivered_at) * 1000)::bigint as delivered_ms,
  (extract(epoch from p.read_at) * 1000)::bigint as read_ms,
  (extract(epoch from p.failed_at) * 1000)::bigint as failed_ms,
  p.error_code, p.error_title,
  (extract(epoch from p.replied_at) * 1000)::bigint as replied_ms

-- name: has_parked
-- Whether anything is parked for a channel: what every batch of recorded messages asks first.
select exists (select from parked where app_id = %(app_id)s and channel_number = %(channel_number)s)

-- name: find_matchable
-- Parked ids whose message exists: left by a process that died between parking and looking again.
select p.channel_number, p.message_id
from parked p
join messages m on m.app_id = %(app_id)s and m.channel_number = p.channel_number and m.message_id = p.message_id
where p.app_id = %(app_id)s
limit 5000

-- name: list_parked
-- Parked receipts and clicks of an app, the oldest first.
select c.channel_id, p.message_id, p.button, p.accepted_at, p.delivered_at, p.read_at, p.failed_at, p.error_code,
  p.error_title, p.replied_at, p.parked_at, extract(epoch from now() - p.parked_at)::float8 as age_seconds
from parked p
join channels c on c.app_id = %(app_id)s and c.channel_number = p.channel_number
where p.app_id = %(app_id)s
order by p.parked_at, p.channel_number, p.message_id, p.button
limit %(limit)s offset %(offset)s

-- name: count_parked
-- How many receipts and clicks of an app are parked, and since when.
select count(*)::int as parked, min(parked_at) as oldest_at from parked where app_id = %(app_id)s

-- name: keep_text
-- Keep what a recipient wrote; a repeated delivery of the same text changes nothing.
insert into texts (app_id, channel_number, inbound_id, sender, message_id, body, received_at)
select %(app_id)s, channel_number, inbound_id, sender, message_id, body,
  'epoch'::timestamptz + received_ms * interval '1 millisecond'
from unnest(
  %(channel_number)s::int[], %(inbound_id)s::text[], %(sender)s::text[], %(message_id)s::text[], %(body)s::text[],
  %(received_ms)s::bigint[]
) as t (channel_number, inbound_id, sender, message_id, body, received_ms)
on conflict (app_id, channel_number, inbound_id) do nothing

-- name: keep_unreadable
-- Keep a body that could not be understood; a repeated one is counted.
insert into unreadable as u (app_id, channel_number, digest, reason, raw)
select %(app_id)s, channel_number, digest, reason, raw
from unnest(%(channel_number)s::int[], %(digest)s::bytea[], %(reason)s::text[], %(raw)s::bytea[])
  as t (channel_number, digest, reason, raw)
order by channel_number, digest
on conflict (app_id, channel_number, digest) do update set times = u.times + 1, last_at = now()

-- name: list_unreadable
-- Bodies that could not be understood, the latest first.
select c.channel_id, u.reason, u.raw, u.times, u.first_at, u.last_at
from unreadable u
join channels c on c.app_id = %(app_id)s and c.channel_number = u.channel_number
where u.app_id = %(app_id)s
order by u.last_at desc, u.digest
limit %(limit)s offset %(offset)s
