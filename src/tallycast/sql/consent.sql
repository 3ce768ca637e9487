-- name: keep_texts
-- Keep what recipients wrote; which were not known yet. A repeated delivery of the same text changes nothing.
insert into texts as t (app_id, channel_number, inbound_id, sender, message_id, body, received_at)
select %(app_id)s, channel_number, inbound_id, sender, message_id, body,
  'epoch'::timestamptz + received_ms * interval '1 millisecond'
from unnest(
  %(channel_number)s::int[], %(inbound_id)s::text[], %(sender)s::text[], %(message_id)s::text[], %(body)s::text[],
  %(received_ms)s::bigint[]
) as i (channel_number, inbound_id, sender, message_id, body, received_ms)
order by channel_number, inbound_id collate "C"
on conflict (app_id, channel_number, inbound_id) do nothing
returning t.channel_number, t.inbound_id

-- name: find_kinds
-- What kind of messages these channels send.
select channel_number, type
from channels
where app_id = %(app_id)s and channel_number = any(%(channel_number)s::int[])

-- name: find_recipients
-- Whose messages these are, by the provider's id, that of an attempt or a part, or tallycast's own address; and since
-- when they have failed. Look-ups are lateral with a limit: few are asked for, of however many.
with input as materialized (
  select *
  from unnest(
    %(channel_number)s::int[], %(message_id)s::text[], %(campaign_id)s::bigint[], %(seq)s::int[]
  ) with ordinality as t (channel_number, message_id, campaign_id, seq, n)
)
select i.n::int, m.recipient, (extract(epoch from m.failed_at) * 1000)::bigint as failed_ms
from input i
cross join lateral (
  select m.recipient, m.failed_at from messages m
  where m.app_id = %(app_id)s and m.channel_number = i.channel_number and m.message_id = i.message_id
  limit 1
) m
union all
select i.n::int, m.recipient, (extract(epoch from m.failed_at) * 1000)::bigint as failed_ms
from input i
cross join lateral (
  select m.recipient, m.failed_at from messages m
  where m.app_id = %(app_id)s and m.campaign_id = i.campaign_id and m.seq = i.seq
    and m.channel_number = i.channel_number
  limit 1
) m
union all
select i.n::int, m.recipient, (extract(epoch from a.failed_at) * 1000)::bigint as failed_ms
from input i
cross join lateral (
  select a.campaign_id, a.seq, a.failed_at from attempts a
  where a.app_id = %(app_id)s and a.channel_number = i.channel_number and a.message_id = i.message_id
  limit 1
) a
cross join lateral (
  select m.recipient from messages m
  where m.app_id = %(app_id)s and m.campaign_id = a.campaign_id and m.seq = a.seq
  limit 1
) m
