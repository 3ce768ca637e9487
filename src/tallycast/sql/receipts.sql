-- name: fold_receipts
-- Merge one batch of folded facts of one app, move the counts, park what is not known: one statement, one commit.
-- The input has one row per message; its facts are the earliest of the batch. The update reads the row as others
-- committed it meanwhile, and notes the state that it found in state_before: old and new state together move the
-- counts exactly. Messages, then counts are locked in one order, so that batches seldom deadlock; who does tries again.
-- A receipt for an earlier attempt of a message is parked here, and taken out again by the attempts' own statements.
-- A message that is anonymous learns no id, which may hold the number, but what stands for it. Campaigns whose figures
-- are frozen stay as they are; what comes for them is not parked.
-- opens: whether a message that leaves the queue was handed to a provider; one that was given up was not.
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
found as materialized (
  select i.n, i.message_id, i.accepted_at, i.delivered_at, i.read_at, i.failed_at, i.error_code, i.error_title,
    m.campaign_id, m.seq, null as learned_id
  from input i
  join messages m on m.app_id = %(app_id)s and m.channel_number = i.channel_number and m.message_id = i.message_id
  where i.campaign_id is null
  union all
  select i.n, i.message_id, i.accepted_at, i.delivered_at, i.read_at, i.failed_at, i.error_code, i.error_title,
    m.campaign_id, m.seq,
    case when m.message_id is null and not exists (
      select from messages x
      where x.app_id = %(app_id)s and x.channel_number = i.channel_number and x.message_id = i.message_id
    ) then i.message_id end
  from input i
  join messages m on m.app_id = %(app_id)s and m.campaign_id = i.campaign_id and m.seq = i.seq
    and m.channel_number = i.channel_number
  where i.campaign_id is not null and not exists (
    select from attempts a
    where a.app_id = %(app_id)s and a.channel_number = i.channel_number and a.message_id = i.message_id
  )
),
changed as materialized (
  update messages m
  set accepted_at = least(m.accepted_at, f.accepted_at),
    delivered_at = least(m.delivered_at, f.delivered_at),
    read_at = least(m.read_at, f.read_at),
    failed_at = least(m.failed_at, f.failed_at),
    error_code = case
      when fails_before(f.failed_at, f.error_code, f.error_title, m.failed_at, m.error_code, m.error_title)
      then f.error_code else m.error_code end,
    error_title = case
      when fails_before(f.failed_at, f.error_code, f.error_title, m.failed_at, m.error_code, m.error_title)
      then f.error_title else m.error_title end,
    message_id = coalesce(
      m.message_id,
      case when starts_with(m.recipient, 'anon') then anonymous_id(f.learned_id) else f.learned_id end
    ),
    state_before = message_state(m.accepted_at, m.delivered_at, m.read_at, m.failed_at)
  from (select * from found order by campaign_id, seq) f
  where m.app_id = %(app_id)s and m.campaign_id = f.campaign_id and m.seq = f.seq
    and (
      (f.accepted_at < m.accepted_at) is not false and f.accepted_at is not null
      or (f.delivered_at < m.delivered_at) is not false and f.delivered_at is not null
      or (f.read_at < m.read_at) is not false and f.read_at is not null
      or fails_before(f.failed_at, f.error_code, f.error_title, m.failed_at, m.error_code, m.error_title)
      or f.learned_id is not null
    )
    and (
      select true from retentions r where r.app_id = %(app_id)s and r.campaign_id = f.campaign_id limit 1
    ) is null
  returning m.campaign_id, m.state_before,
    message_state(m.accepted_at, m.delivered_at, m.read_at, m.failed_at) as state,
    least(m.accepted_at, m.delivered_at, m.read_at, m.failed_at) as first_at
),
moved as materialized (
  select campaign_id,
    sum((state = 'queued')::int - (state_before = 'queued')::int) as queued,
    sum((state = 'pending')::int - (state_before = 'pending')::int) as pending,
    sum((state in ('delivered', 'read'))::int - (state_before in ('delivered', 'read'))::int) as delivered,
    sum((state = 'read')::int - (state_before = 'read')::int) as read,
    sum((state = 'failed')::int - (state_before = 'failed')::int) as failed,
    min(first_at) filter (where state_before = 'queued') as handed_at
  from changed
  where state <> state_before
  group by campaign_id
  order by campaign_id
),
counted as (
  update counts c
  set queued = c.queued + d.queued, pending = c.pending + d.pending, delivered = c.delivered + d.delivered,
    read = c.read + d.read, failed = c.failed + d.failed, changed_at = now()
  from moved d
  where c.app_id = %(app_id)s and c.campaign_id = d.campaign_id
),
opened as (
  update campaigns c
  set sent_at = date_trunc('milliseconds', coalesce(c.dated, least(d.handed_at, now())))
  from moved d
  where c.app_id = %(app_id)s and c.campaign_id = d.campaign_id and d.handed_at is not null and c.sent_at is null
    and %(opens)s
),
parking as (
  insert into parked as p (
    app_id, channel_number, message_id, accepted_at, delivered_at, read_at, failed_at, error_code, error_title
  )
  select %(app_id)s, i.channel_number, i.message_id, i.accepted_at, i.delivered_at, i.read_at, i.failed_at,
    i.error_code, i.error_title
  from input i
  where i.message_id is not null and i.n not in (select n from found)
    and (
      select true from retentions r where r.app_id = %(app_id)s and r.campaign_id = i.campaign_id limit 1
    ) is null
  order by i.channel_number, i.message_id
  on conflict (app_id, channel_number, message_id, button) do update
  set accepted_at = least(p.accepted_at, excluded.accepted_at),
    delivered_at = least(p.delivered_at, excluded.delivered_at),
    read_at = least(p.read_at, excluded.read_at),
    failed_at = least(p.failed_at, excluded.failed_at),
    error_code = case
      when fails_before(excluded.failed_at, excluded.error_code, excluded.error_title,
        p.failed_at, p.error_code, p.error_title)
      then excluded.error_code else p.error_code end,
    error_title = case
      when fails_before(excluded.failed_at, excluded.error_code, excluded.error_title,
        p.failed_at, p.error_code, p.error_title)
      then excluded.error_title else p.error_title end
  returning 1
)
select
  (select count(*) from found)::int as matched,
  (select count(*) from parking)::int as parked,
  (select count(*) from found where learned_id is not null)::int as learned

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
  from found f
  where (
    select true from retentions r where r.app_id = %(app_id)s and r.campaign_id = f.campaign_id limit 1
  ) is null
  group by campaign_id, seq, button
  order by campaign_id, seq, button
  on conflict (app_id, campaign_id, seq, button) do update
  set replied_at = least(r.replied_at, excluded.replied_at)
  returning campaign_id, xmax = 0 as is_new
),
moved as materialized (
  select campaign_id, count(*) as fresh from added where is_new group by campaign_id order by campaign_id
),
counted as (
  update counts c
  set button_replies = c.button_replies + d.fresh, changed_at = now()
  from moved d
  where c.app_id = %(app_id)s and c.campaign_id = d.campaign_id
),
parking as (
  insert into parked as p (app_id, channel_number, message_id, button, replied_at)
  select %(app_id)s, i.channel_number, i.message_id, i.button, min(i.replied_at)
  from input i
  where i.message_id is not null and i.n not in (select n from found)
    and (
      select true from retentions r where r.app_id = %(app_id)s and r.campaign_id = i.campaign_id limit 1
    ) is null
  group by i.channel_number, i.message_id, i.button
  order by 2, 3, 4
  on conflict (app_id, channel_number, message_id, button) do update
  set replied_at = least(p.replied_at, excluded.replied_at)
  returning 1
)
select
  (select count(*) from found)::int as matched,
  (select count(*) from parking)::int as parked,
  array(
    select i.n from input i
    where i.message_id is null and i.n not in (select n from found)
      and (
        select true from retentions r where r.app_id = %(app_id)s and r.campaign_id = i.campaign_id limit 1
      ) is null
  )::int[] as lost

-- name: take_parked
-- Take out the parked receipts and clicks whose message has appeared by now, among the given message ids; the id comes
-- back as the message has it, which may have been made anonymous.
delete from parked p
using messages m
where p.app_id = %(app_id)s and p.channel_number = %(channel_number)s and p.message_id = any(%(message_ids)s::text[])
  and m.app_id = %(app_id)s and m.channel_number = p.channel_number
  and m.message_id = any(array[p.message_id, anonymous_id(p.message_id)])
returning p.channel_number, m.message_id, p.button,
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
-- Parked ids whose message exists: left by a process that died between parking and looking again, so among the latest.
select p.channel_number, p.message_id
from (
  select channel_number, message_id from parked where app_id = %(app_id)s order by parked_at desc limit 20000
) p
cross join lateral (
  select from messages m
  where m.app_id = %(app_id)s and m.channel_number = p.channel_number
    and m.message_id = any(array[p.message_id, anonymous_id(p.message_id)])
  union all
  select from attempts a
  where a.app_id = %(app_id)s and a.channel_number = p.channel_number
    and a.message_id = any(array[p.message_id, anonymous_id(p.message_id)])
  limit 1
) m
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
