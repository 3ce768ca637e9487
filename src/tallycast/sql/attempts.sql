-- name: add_attempts
-- The provider's ids of a message's parts.
insert into attempts (app_id, channel_number, message_id, campaign_id, seq, part, accepted_at)
select %(app_id)s, %(channel_number)s, message_id, campaign_id, seq, part, now()
from unnest(%(message_id)s::text[], %(campaign_id)s::bigint[], %(seq)s::int[], %(part)s::int[])
  as t (message_id, campaign_id, seq, part)
on conflict (app_id, channel_number, message_id) do nothing

-- name: take_parked
-- Take out the parked receipts that speak of a part or an earlier attempt of a message, among the given ids.
delete from parked p
using attempts a
where p.app_id = %(app_id)s and p.channel_number = %(channel_number)s and p.message_id = any(%(message_ids)s::text[])
  and p.button = ''
  and a.app_id = %(app_id)s and a.channel_number = p.channel_number
  and a.message_id = any(array[p.message_id, anonymous_id(p.message_id)])
returning a.campaign_id, a.seq, a.message_id, p.accepted_at, p.delivered_at, p.read_at, p.failed_at, p.error_code,
  p.error_title

-- name: take_parked_clicks
-- The same for button clicks: which message they belong to.
delete from parked p
using attempts a
where p.app_id = %(app_id)s and p.channel_number = %(channel_number)s and p.message_id = any(%(message_ids)s::text[])
  and p.button <> ''
  and a.app_id = %(app_id)s and a.channel_number = p.channel_number
  and a.message_id = any(array[p.message_id, anonymous_id(p.message_id)])
returning a.campaign_id, a.seq, p.button, (extract(epoch from p.replied_at) * 1000)::bigint as replied_ms

-- name: hold_messages
-- Lock the messages whose parts or attempts change: two parts that arrive at once must see each other.
select m.campaign_id, m.seq, m.channel_number
from unnest(%(campaign_id)s::bigint[], %(seq)s::int[]) as i (campaign_id, seq)
cross join lateral (
  select * from messages m
  where m.app_id = %(app_id)s and m.campaign_id = i.campaign_id and m.seq = i.seq
  limit 1
  for update of m
) m

-- name: merge_attempts
-- Merge facts into parts and attempts, as into messages: the earliest of each kind stays.
update attempts a
set accepted_at = least(a.accepted_at, f.accepted_at), delivered_at = least(a.delivered_at, f.delivered_at),
  read_at = least(a.read_at, f.read_at), failed_at = least(a.failed_at, f.failed_at),
  error_code = case
    when fails_before(f.failed_at, f.error_code, f.error_title, a.failed_at, a.error_code, a.error_title)
    then f.error_code else a.error_code end,
  error_title = case
    when fails_before(f.failed_at, f.error_code, f.error_title, a.failed_at, a.error_code, a.error_title)
    then f.error_title else a.error_title end
from unnest(
  %(message_id)s::text[], %(accepted_at)s::timestamptz[], %(delivered_at)s::timestamptz[], %(read_at)s::timestamptz[],
  %(failed_at)s::timestamptz[], %(error_code)s::text[], %(error_title)s::text[]
) as f (message_id, accepted_at, delivered_at, read_at, failed_at, error_code, error_title)
where a.app_id = %(app_id)s and a.channel_number = %(channel_number)s and a.message_id = f.message_id

-- name: conclude
-- What parts and earlier attempts say of their message. All parts delivered: delivered, when the last one was; any part
-- failed: failed. An earlier attempt that was delivered was delivered; that it failed does not count any more.
select a.campaign_id, a.seq,
  (extract(epoch from least(
    min(a.delivered_at) filter (where a.part = 0),
    case when count(*) filter (where a.part > 0 and a.delivered_at is null) = 0
      then max(a.delivered_at) filter (where a.part > 0) end
  )) * 1000)::bigint as delivered_ms,
  (extract(epoch from min(a.read_at) filter (where a.part = 0)) * 1000)::bigint as read_ms,
  (extract(epoch from min(a.failed_at) filter (where a.part > 0)) * 1000)::bigint as failed_ms,
  (array_agg(a.error_code order by a.failed_at, a.error_code) filter (where a.part > 0 and a.failed_at is not null))[1]
    as error_code,
  (array_agg(a.error_title order by a.failed_at, a.error_code) filter (where a.part > 0 and a.failed_at is not null))[1]
    as error_title
from unnest(%(campaign_id)s::bigint[], %(seq)s::int[]) as i (campaign_id, seq)
join attempts a on a.app_id = %(app_id)s and a.campaign_id = i.campaign_id and a.seq = i.seq
group by a.campaign_id, a.seq
