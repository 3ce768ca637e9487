-- name: list_unknown
-- Campaigns with messages of which nobody knows whether they went out: how many, since when.
select h.campaign_id, count(*)::int as messages, min(m.accepted_at) as oldest_at
from handovers h
cross join lateral (
  select * from messages m
  where m.app_id = %(app_id)s and m.campaign_id = h.campaign_id and m.seq = h.seq
  limit 1
) m
where h.app_id = %(app_id)s and h.status = 'unknown'
  and m.message_id is null and coalesce(m.delivered_at, m.read_at, m.failed_at) is null
group by h.campaign_id
order by oldest_at, h.campaign_id

-- name: count_unreadable
-- Bodies that were not understood: how many, and when the last one came.
select count(*)::int as bodies, max(last_at) as latest_at from unreadable where app_id = %(app_id)s

-- name: list_paused_channels
-- Channels over which nothing is sent at the moment, and why.
select channel_id, phone, channel_name, paused_at, coalesce(paused_reason, '') as reason
from channels
where app_id = %(app_id)s and deleted_at is null and paused_at is not null
order by paused_at, channel_number

-- name: list_paused_campaigns
-- Campaigns that wait for a person, and why; those that were paused last come first.
select s.campaign_id, c.name, t.at as paused_at, coalesce(s.paused_reason, '') as reason
from sendings s
join campaigns c on c.app_id = %(app_id)s and c.campaign_id = s.campaign_id
left join lateral (
  select at from transitions t
  where t.app_id = %(app_id)s and t.campaign_id = s.campaign_id and t.to_stage = 'paused'
  order by t.n desc
  limit 1
) t on true
where s.app_id = %(app_id)s and s.stage = 'paused'
order by t.at desc nulls last, s.campaign_id
limit %(limit)s
