-- name: pick_unknown
-- Lock messages of unknown outcome that a person settles: all of a campaign, or of these recipients.
select m.seq, m.channel_number
from messages m
where m.app_id = %(app_id)s and m.campaign_id = %(campaign_id)s
  and m.seq = any(array(
    select h.seq from handovers h
    where h.app_id = %(app_id)s and h.campaign_id = %(campaign_id)s and h.status = 'unknown'
  ))
  and m.message_id is null and coalesce(m.delivered_at, m.read_at, m.failed_at) is null
  and (%(recipients)s::text[] is null or m.recipient = any(%(recipients)s::text[]))
order by m.seq
for update of m

-- name: forget_unknown
-- A person has settled these messages.
delete from handovers
where app_id = %(app_id)s and campaign_id = %(campaign_id)s and seq = any(%(seq)s::int[]) and status = 'unknown'

-- name: list_failed
-- Messages of a campaign that failed and that nobody has, not even a part of them, with code and channel.
select m.seq, m.channel_number, m.error_code
from messages m
where m.app_id = %(app_id)s and m.campaign_id = %(campaign_id)s and m.seq >= %(from_seq)s
  and message_state(m.accepted_at, m.delivered_at, m.read_at, m.failed_at) = 'failed'
  and not exists (
    select from attempts a
    where a.app_id = %(app_id)s and a.campaign_id = m.campaign_id and a.seq = m.seq and a.part > 0
      and a.delivered_at is not null
  )
order by m.seq
limit %(limit)s

-- name: list_providers
-- The provider of each channel, the deleted ones too.
select channel_number, provider from channels where app_id = %(app_id)s

-- name: queue_again
-- Make messages ready to be sent (again): their provider ids become earlier attempts, whose deliveries still count, and
-- the counts follow. One that was delivered meanwhile, or is on its way again, is left alone. One that changes its
-- channel leaves an attempt there even where its id is not known, so that the two ways can be told apart.
with held as materialized (
  select m.seq, m.channel_number, m.message_id, m.accepted_at, m.failed_at, m.error_code, m.error_title,
    message_state(m.accepted_at, m.delivered_at, m.read_at, m.failed_at) as state
  from messages m
  where m.app_id = %(app_id)s and m.campaign_id = %(campaign_id)s and m.seq = any(%(seq)s::int[])
    and m.delivered_at is null and m.read_at is null
    and message_state(m.accepted_at, m.delivered_at, m.read_at, m.failed_at) <> 'queued'
    and not exists (
      select from handovers h
      where h.app_id = %(app_id)s and h.campaign_id = %(campaign_id)s and h.seq = m.seq and h.status = 'claimed'
    )
  order by m.seq
  for update of m
),
parts as (
  update attempts a
  set part = -1
  where a.app_id = %(app_id)s and a.campaign_id = %(campaign_id)s and a.seq in (select seq from held) and a.part > 0
),
earlier as (
  insert into attempts (
    app_id, channel_number, message_id, campaign_id, seq, accepted_at, failed_at, error_code, error_title
  )
  select %(app_id)s, channel_number, coalesce(message_id, 'none:' || %(campaign_id)s::bigint || '.' || seq),
    %(campaign_id)s, seq, accepted_at, failed_at, error_code, error_title
  from held
  where message_id is not null or channel_number <> %(channel_number)s
  on conflict (app_id, channel_number, message_id) do nothing
),
cleared as (
  update messages m
  set message_id = null, accepted_at = null, failed_at = null, error_code = null, error_title = null,
    channel_number = %(channel_number)s
  where m.app_id = %(app_id)s and m.campaign_id = %(campaign_id)s and m.seq = any(array(select seq from held))
),
again as (
  insert into handovers as h (app_id, campaign_id, seq, channel_number, status, reason)
  select %(app_id)s, %(campaign_id)s, seq, %(channel_number)s, 'due', %(reason)s from held
  on conflict (app_id, campaign_id, seq) do update
  set status = 'due', channel_number = excluded.channel_number, due_at = now(), attempts = 0, worker = '',
    claimed_at = null, reason = excluded.reason
)
update counts c
set queued = c.queued + d.moved, pending = c.pending - d.pending, failed = c.failed - d.failed, changed_at = now()
from (
  select count(*) as moved, count(*) filter (where state = 'pending') as pending,
    count(*) filter (where state = 'failed') as failed
  from held
) d
where c.app_id = %(app_id)s and c.campaign_id = %(campaign_id)s
returning d.moved::int
