-- name: add_sending
-- How a campaign is to be sent; it begins as a draft.
insert into sendings (
  app_id, campaign_id, channel_number, kind, template, track_links, fallback_channel, fallback_text, fallback_seconds,
  scheduled_at, created_as
)
values (
  %(app_id)s, %(campaign_id)s, %(channel_number)s, %(kind)s, %(template)s::jsonb, %(track_links)s,
  %(fallback_channel)s, %(fallback_text)s, %(fallback_seconds)s, %(scheduled_at)s, %(created_as)s
)

-- name: find_sending
-- A campaign that we send, with its channels as they are now and its counts.
select s.app_id, s.campaign_id, s.channel_number, s.kind, s.stage, s.template::text as template, s.columns,
  s.track_links, s.fallback_channel, s.fallback_text, s.fallback_seconds, s.scheduled_at, s.next_seq, s.home,
  s.paused_reason, s.created_as, s.submitted_as, s.approved_as, s.created_at, s.started_at, s.ended_at,
  c.name, c.created_by, c.sender_eid, c.content, c.subject, c.type,
  ch.channel_id, ch.provider, ch.deleted_at is not null as is_channel_deleted,
  case when ch.paused_at is not null then coalesce(ch.paused_reason, '') end as channel_paused,
  f.channel_id as fallback_channel_id, coalesce(f.deleted_at is not null, false) as is_fallback_deleted,
  n.total, n.queued, n.pending, n.delivered, n.read, n.failed, n.button_replies + n.clicks as replied
from sendings s
join campaigns c on c.app_id = %(app_id)s and c.campaign_id = s.campaign_id
join counts n on n.app_id = %(app_id)s and n.campaign_id = s.campaign_id
join channels ch on ch.app_id = %(app_id)s and ch.channel_number = s.channel_number
left join channels f on f.app_id = %(app_id)s and f.channel_number = s.fallback_channel
where s.app_id = %(app_id)s and s.campaign_id = %(campaign_id)s

-- name: list_sendings
-- A page of the campaigns that we send, the newest first.
select s.app_id, s.campaign_id, s.channel_number, s.kind, s.stage, s.template::text as template, s.columns,
  s.track_links, s.fallback_channel, s.fallback_text, s.fallback_seconds, s.scheduled_at, s.next_seq, s.home,
  s.paused_reason, s.created_as, s.submitted_as, s.approved_as, s.created_at, s.started_at, s.ended_at,
  c.name, c.created_by, c.sender_eid, c.content, c.subject, c.type,
  ch.channel_id, ch.provider, ch.deleted_at is not null as is_channel_deleted,
  case when ch.paused_at is not null then coalesce(ch.paused_reason, '') end as channel_paused,
  f.channel_id as fallback_channel_id, coalesce(f.deleted_at is not null, false) as is_fallback_deleted,
  n.total, n.queued, n.pending, n.delivered, n.read, n.failed, n.button_replies + n.clicks as replied
from sendings s
join campaigns c on c.app_id = %(app_id)s and c.campaign_id = s.campaign_id
join counts n on n.app_id = %(app_id)s and n.campaign_id = s.campaign_id
join channels ch on ch.app_id = %(app_id)s and ch.channel_number = s.channel_number
left join channels f on f.app_id = %(app_id)s and f.channel_number = s.fallback_channel
where s.app_id = %(app_id)s and (%(stage)s::text is null or s.stage = %(stage)s)
order by s.campaign_id desc
limit %(limit)s offset %(offset)s

-- name: has_sending
-- Whether a campaign is sent from here.
select 1 from sendings where app_id = %(app_id)s and campaign_id = %(campaign_id)s

-- name: hold_sending
-- Let one change of a campaign follow the other.
select stage from sendings where app_id = %(app_id)s and campaign_id = %(campaign_id)s for update

-- name: change_sending
-- Change how a draft is to be sent.
update sendings
set template = %(template)s::jsonb, track_links = %(track_links)s, fallback_channel = %(fallback_channel)s,
  fallback_text = %(fallback_text)s, fallback_seconds = %(fallback_seconds)s, scheduled_at = %(scheduled_at)s
where app_id = %(app_id)s and campaign_id = %(campaign_id)s

-- name: change_campaign
-- Change what a draft says; the change feed shows its name.
with touched as (
  update counts set changed_at = now() where app_id = %(app_id)s and campaign_id = %(campaign_id)s
)
update campaigns
set name = %(name)s, created_by = %(created_by)s, sender_eid = %(sender_eid)s, subject = %(subject)s,
  content = %(content)s
where app_id = %(app_id)s and campaign_id = %(campaign_id)s

-- name: list_texts
-- A portion of a campaign's messages, with what they are made from. For who is anonymous none is made any more.
select seq, recipient, content, variables
from messages
where app_id = %(app_id)s and campaign_id = %(campaign_id)s and seq >= %(from_seq)s
  and not starts_with(recipient, 'anon')
order by seq
limit %(limit)s

-- name: move_sending
-- Bring a campaign to its next stage. What it was sent from before stays unless a home is given. The change feed shows
-- its stage.
with touched as (
  update counts set changed_at = now() where app_id = %(app_id)s and campaign_id = %(campaign_id)s
)
update sendings
set stage = %(stage)s, scheduled_at = %(scheduled_at)s, paused_reason = %(paused_reason)s,
  submitted_as = %(submitted_as)s, approved_as = %(approved_as)s, started_at = %(started_at)s,
  ended_at = %(ended_at)s, home = coalesce(%(home)s, home),
  active_at = case %(stage)s when 'sending' then clock_timestamp() else active_at end
where app_id = %(app_id)s and campaign_id = %(campaign_id)s

-- name: add_transition
-- Write down who did what; the campaign is held.
insert into transitions (app_id, campaign_id, n, action, from_stage, to_stage, actor, note)
select %(app_id)s, %(campaign_id)s, coalesce(max(n), 0) + 1, %(action)s, %(from_stage)s, %(to_stage)s, %(actor)s,
  %(note)s
from transitions
where app_id = %(app_id)s and campaign_id = %(campaign_id)s

-- name: list_transitions
-- What happened to a campaign, in order.
select action, from_stage, to_stage, actor, note, at
from transitions
where app_id = %(app_id)s and campaign_id = %(campaign_id)s
order by n

-- name: delete_import_chunks
-- The files of a campaign's imports.
delete from import_chunks
where app_id = %(app_id)s
  and import_id in (select import_id from imports where app_id = %(app_id)s and campaign_id = %(campaign_id)s)

-- name: delete_import_errors
-- The error logs of a campaign's imports.
delete from import_errors
where app_id = %(app_id)s
  and import_id in (select import_id from imports where app_id = %(app_id)s and campaign_id = %(campaign_id)s)

-- name: delete_imports
-- A campaign's imports.
delete from imports where app_id = %(app_id)s and campaign_id = %(campaign_id)s

-- name: delete_trials
-- The test messages of a draft.
delete from trials where app_id = %(app_id)s and campaign_id = %(campaign_id)s

-- name: delete_transitions
-- The history of a draft.
delete from transitions where app_id = %(app_id)s and campaign_id = %(campaign_id)s

-- name: delete_sending
-- A draft itself.
delete from sendings where app_id = %(app_id)s and campaign_id = %(campaign_id)s

-- name: delete_counts
-- A draft's counts.
delete from counts where app_id = %(app_id)s and campaign_id = %(campaign_id)s

-- name: delete_campaign
-- A draft's campaign.
delete from campaigns where app_id = %(app_id)s and campaign_id = %(campaign_id)s
