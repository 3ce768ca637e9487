-- name: find_undelivered
-- Messages of a campaign that fall back now: not delivered in time, or failed for good.
select m.seq
from messages m
join sendings s on s.app_id = %(app_id)s and s.campaign_id = %(campaign_id)s
where m.app_id = %(app_id)s and m.campaign_id = %(campaign_id)s and m.seq >= s.fallback_seq and m.seq < s.next_seq
  and s.stage = 'sending' and m.channel_number = s.channel_number and m.delivered_at is null and m.read_at is null
  and (
    m.failed_at is not null and coalesce(m.error_code, '') <> all(%(final_codes)s::text[])
    or m.failed_at is null and m.accepted_at <= now() - s.fallback_seconds * interval '1 second'
  )
order by m.seq
limit %(limit)s

-- name: advance
-- Move on to the first message that may still fall back; none is behind it.
update sendings s
set fallback_seq = coalesce((
  select m.seq
  from messages m
  where m.app_id = %(app_id)s and m.campaign_id = %(campaign_id)s and m.seq >= s.fallback_seq and m.seq < s.next_seq
    and m.channel_number = s.channel_number and m.delivered_at is null and m.read_at is null
    and not (m.failed_at is not null and coalesce(m.error_code, '') = any(%(final_codes)s::text[]))
  order by m.seq
  limit 1
), s.next_seq)
where s.app_id = %(app_id)s and s.campaign_id = %(campaign_id)s and s.stage = 'sending'
returning s.fallback_channel, s.fallback_seq

-- name: split
-- Of the messages that fell back: how they stand, and how many the first channel delivered all the same.
select count(*)::int as total,
  count(*) filter (where m.state in ('delivered', 'read') and a.delivered_at is null and a.read_at is null)::int
    as delivered,
  count(*) filter (where a.delivered_at is not null or a.read_at is not null)::int as delivered_late,
  count(*) filter (where m.state = 'failed')::int as failed,
  count(*) filter (where m.state = 'pending')::int as pending,
  count(*) filter (where m.state = 'queued')::int as queued
from sendings s
join attempts a on a.app_id = %(app_id)s and a.campaign_id = s.campaign_id and a.part = 0
  and a.channel_number = s.channel_number
cross join lateral (
  select message_state(m.accepted_at, m.delivered_at, m.read_at, m.failed_at) as state
  from messages m
  where m.app_id = %(app_id)s and m.campaign_id = s.campaign_id and m.seq = a.seq
    and m.channel_number = s.fallback_channel
  limit 1
) m
where s.app_id = %(app_id)s and s.campaign_id = %(campaign_id)s
