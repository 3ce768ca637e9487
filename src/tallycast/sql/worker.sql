-- name: list_woken
-- scope: directory
select app_id, woken_at from apps where woken_at <= now() order by woken_at

-- name: rest
-- scope: directory
update apps set woken_at = %(until)s where app_id = %(app_id)s and woken_at = %(seen)s

-- name: list_smpp_channels
-- Channels over which receipts come only while somebody is bound.
select channel_id
from channels
where app_id = %(app_id)s and deleted_at is null and provider = 'smpp' and secrets is not null

-- name: list_busy_channels
-- Channels that have something to send, to answer, or to take over from a worker that ended. A test message that
-- nobody took in time is nothing to send.
select c.channel_id
from channels c
where c.app_id = %(app_id)s and c.deleted_at is null and (
  exists (
    select from trials t
    where t.app_id = %(app_id)s and t.channel_number = c.channel_number and t.outcome is null
      and (t.claimed_by is not null or t.asked_at > now() - %(trial_seconds)s * interval '1 second')
  )
  or exists (
    select from handovers h
    where h.app_id = %(app_id)s and h.channel_number = c.channel_number and h.status = 'claimed'
  )
  or exists (
    select from sendings s
    where s.app_id = %(app_id)s and s.ended_at is null and s.stage = 'sending' and s.channel_number = c.channel_number
  )
  or exists (
    select from sendings s
    where s.app_id = %(app_id)s and s.ended_at is null and s.stage = 'sending' and s.fallback_channel = c.channel_number
  )
)

-- name: list_at_work
-- Campaigns that have a moment to start at, are being sent, or cancelled and not closed yet.
select s.campaign_id, s.stage, s.scheduled_at, s.active_at, s.home, s.fallback_channel,
  exists (
    select from channels c
    where c.app_id = %(app_id)s and c.channel_number = s.channel_number and c.deleted_at is not null
  )
  or exists (
    select from channels c
    where c.app_id = %(app_id)s and c.channel_number = s.fallback_channel and c.deleted_at is not null
  ) as is_orphan
from sendings s
where s.app_id = %(app_id)s and s.ended_at is null and s.stage in ('scheduled', 'sending', 'cancelled')
  and (s.stage <> 'scheduled' or s.scheduled_at is not null)

-- name: close_sending
-- A cancelled campaign is over: nothing of it is on its way.
update sendings
set ended_at = now()
where app_id = %(app_id)s and campaign_id = %(campaign_id)s and stage = 'cancelled' and ended_at is null
