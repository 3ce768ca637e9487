-- name: look
-- What keeps a campaign that is being sent, or is due, over its own channel and over its fallback's. is_stuck: of the
-- messages that were taken up last none has gone out, and most are put off.
select ch.channel_id, ch.channel_number = s.channel_number as is_own,
  case when ch.paused_at is not null then coalesce(ch.paused_reason, '') end as paused,
  coalesce(
    case s.stage when 'sending' then s.active_at else s.scheduled_at end > now() - %(seconds)s * interval '1 second',
    false
  )
  or exists (
    select from leases l
    where l.app_id = %(app_id)s and l.until > now()
      and l.name in ('channel:' || ch.channel_number, 'start:' || s.campaign_id)
  ) as has_worker,
  ch.channel_number = s.channel_number and s.next_seq < n.total as has_more,
  exists (
    select from handovers h
    where h.app_id = %(app_id)s and h.campaign_id = %(campaign_id)s and h.channel_number = ch.channel_number
      and h.status = 'claimed'
  )
  or exists (
    select from handovers h
    where h.app_id = %(app_id)s and h.campaign_id = %(campaign_id)s and h.channel_number = ch.channel_number
      and h.status = 'due' and h.due_at <= now()
  ) as has_open,
  recent.is_stuck, later.due_at, later.reason
from sendings s
join counts n on n.app_id = %(app_id)s and n.campaign_id = s.campaign_id
join channels ch on ch.app_id = %(app_id)s and ch.channel_number in (s.channel_number, s.fallback_channel)
cross join lateral (
  select count(*) = least(%(recent)s, s.next_seq) and 2 * count(*) filter (where h.status = 'due') >= count(*) as is_stuck
  from handovers h
  where h.app_id = %(app_id)s and h.campaign_id = %(campaign_id)s and h.seq >= s.next_seq - %(recent)s
    and h.seq < s.next_seq and h.channel_number = ch.channel_number and h.status in ('claimed', 'due')
) recent
left join lateral (
  select h.due_at, h.reason
  from handovers h
  where h.app_id = %(app_id)s and h.campaign_id = %(campaign_id)s and h.channel_number = ch.channel_number
    and h.status = 'due' and h.due_at > now()
  order by h.due_at
  limit 1
) later on true
where s.app_id = %(app_id)s and s.campaign_id = %(campaign_id)s
  and (s.stage = 'sending' or s.stage = 'scheduled' and s.scheduled_at <= now())
order by is_own desc

-- name: list_untaken
-- The imports of a campaign that no worker does, although there was time to take them.
select i.import_id::text
from imports i
where i.app_id = %(app_id)s and i.campaign_id = %(campaign_id)s and i.state in ('waiting', 'running')
  and i.created_at <= now() - %(seconds)s * interval '1 second'
  and not exists (
    select from leases l
    where l.app_id = %(app_id)s and l.name = 'import:' || i.import_id and l.until > now()
  )
