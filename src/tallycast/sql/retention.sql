-- name: find_rule
-- scope: directory
select retention_days, retention_mode, retained_at from apps where app_id = %(app_id)s

-- name: note_look
-- scope: directory
update apps set retained_at = now() where app_id = %(app_id)s

-- name: list_open
-- Campaigns that are on their way.
select campaign_id, mode, frozen_at is not null as is_frozen
from retentions
where app_id = %(app_id)s and ended_at is null
order by campaign_id

-- name: list_due
-- Campaigns that were over before a moment, and are not handled yet: those that are sent from here ended, of others the
-- last message was handed over, and they are known for a day at least: one of long ago may still be recorded. Who was
-- made anonymous may be deleted later. Look-ups are lateral with a limit, of few campaigns.
with candidates as materialized (
  select c.campaign_id, s.campaign_id is null as is_recorded
  from campaigns c
  left join sendings s on s.app_id = %(app_id)s and s.campaign_id = c.campaign_id
  left join retentions r on r.app_id = %(app_id)s and r.campaign_id = c.campaign_id
  where c.app_id = %(app_id)s
    and (r.campaign_id is null or r.ended_at is not null and r.mode = 'anonymise' and %(mode)s::text = 'delete')
    and case when s.campaign_id is not null
      then s.stage in ('sent', 'cancelled') and s.ended_at < %(before)s::timestamptz
      else coalesce(c.sent_at, c.created_at) < %(before)s::timestamptz and c.created_at < now() - interval '1 day'
    end
)
select k.campaign_id
from candidates k
where not k.is_recorded or (
  select true from messages m
  where m.app_id = %(app_id)s and m.campaign_id = k.campaign_id and m.accepted_at >= %(before)s::timestamptz
  limit 1
) is null
order by k.campaign_id
limit %(limit)s

-- name: begin
-- From the commit on nothing changes the campaign's figures. What is frozen stays frozen.
insert into retentions as r (app_id, campaign_id, mode)
values (%(app_id)s, %(campaign_id)s, %(mode)s)
on conflict (app_id, campaign_id) do update
set mode = excluded.mode, next_seq = 0, ended_at = null
where r.mode <> excluded.mode and r.ended_at is not null

-- name: note_frozen
-- All that is computed of the campaign is kept.
update retentions set frozen_at = now()
where app_id = %(app_id)s and campaign_id = %(campaign_id)s and frozen_at is null

-- name: hold
-- Let one batch follow the other.
select next_seq
from retentions
where app_id = %(app_id)s and campaign_id = %(campaign_id)s and ended_at is null
for update

-- name: advance
-- How far it has come.
update retentions
set next_seq = %(next_seq)s
where app_id = %(app_id)s and campaign_id = %(campaign_id)s

-- name: list_batch
-- The next recipients.
select seq, recipient
from messages
where app_id = %(app_id)s and campaign_id = %(campaign_id)s and seq >= %(from_seq)s
order by seq
limit %(limit)s

-- name: anonymise_messages
-- Country, state and times stay. A text of one's own becomes empty, one that is the campaign's stays so. Where somebody
-- was erased and recorded again, the position tells the two rows apart.
update messages m
set recipient = case when i.is_twice then i.digest || '.' || i.seq else i.digest end,
  message_id = anonymous_id(m.message_id),
  content = case when m.content is not null then '' end,
  variables = null,
  error_title = replace(replace(m.error_title, i.recipient, i.digest), ltrim(i.recipient, '+'), i.digest)
from (
  select t.seq, t.recipient, t.digest, (
    select true from messages x
    where x.app_id = %(app_id)s and x.campaign_id = %(campaign_id)s and x.recipient = t.digest
    limit 1
  ) is not null as is_twice
  from unnest(%(seq)s::int[], %(recipient)s::text[], %(digest)s::text[]) as t (seq, recipient, digest)
  order by t.seq
) i
where m.app_id = %(app_id)s and m.campaign_id = %(campaign_id)s and m.seq = i.seq and m.recipient = i.recipient

-- name: anonymise_attempts
-- The same for their parts and earlier attempts.
update attempts a
set message_id = anonymous_id(a.message_id),
  error_title = replace(replace(a.error_title, i.recipient, i.digest), ltrim(i.recipient, '+'), i.digest)
from unnest(%(seq)s::int[], %(recipient)s::text[], %(digest)s::text[]) as i (seq, recipient, digest)
where a.app_id = %(app_id)s and a.campaign_id = %(campaign_id)s and a.seq = i.seq

-- name: anonymise_clicks
-- When a link was followed stays, and why a hit was not counted; by what program does not. '(removed)' is known to the
-- statement that judges hits again.
update clicks
set user_agent = '(removed)', purpose = '',
  set_aside = case when set_aside like 'prefetch:%%' then 'prefetch' else set_aside end
where app_id = %(app_id)s and campaign_id = %(campaign_id)s and seq = any(%(seq)s::int[])

-- name: anonymise_replies
-- A button may be called like the number.
update replies r
set button = replace(r.button, ltrim(i.recipient, '+'), i.digest)
from unnest(%(seq)s::int[], %(recipient)s::text[], %(digest)s::text[]) as i (seq, recipient, digest)
where r.app_id = %(app_id)s and r.campaign_id = %(campaign_id)s and r.seq = i.seq
  and position(ltrim(i.recipient, '+') in r.button) > 0

-- name: anonymise_handovers
-- Why a message waits, or nobody knows of it, may be in a provider's words.
update handovers h
set reason = replace(replace(h.reason, i.recipient, i.digest), ltrim(i.recipient, '+'), i.digest)
from unnest(%(seq)s::int[], %(recipient)s::text[], %(digest)s::text[]) as i (seq, recipient, digest)
where h.app_id = %(app_id)s and h.campaign_id = %(campaign_id)s and h.seq = i.seq

-- name: delete_batch
-- Delete the messages before a position with all that hangs on them, and note what they were.
with gone as materialized (
  delete from messages
  where app_id = %(app_id)s and campaign_id = %(campaign_id)s and seq < %(next_seq)s
  returning seq, message_state(accepted_at, delivered_at, read_at, failed_at) as state,
    message_id is null and coalesce(delivered_at, read_at, failed_at) is null as is_open
),
gone_replies as (
  delete from replies
  where app_id = %(app_id)s and campaign_id = %(campaign_id)s and seq < %(next_seq)s
  returning 1
),
gone_clicks as (
  delete from clicks
  where app_id = %(app_id)s and campaign_id = %(campaign_id)s and seq < %(next_seq)s
  returning set_aside
),
gone_handovers as (
  delete from handovers
  where app_id = %(app_id)s and campaign_id = %(campaign_id)s and seq < %(next_seq)s
  returning seq, status
),
gone_attempts as (
  delete from attempts where app_id = %(app_id)s and campaign_id = %(campaign_id)s and seq < %(next_seq)s
),
figures as (
  select count(*)::int as total, count(*) filter (where state = 'queued')::int as queued,
    count(*) filter (where state = 'pending')::int as pending,
    count(*) filter (where state in ('delivered', 'read'))::int as delivered,
    count(*) filter (where state = 'read')::int as read, count(*) filter (where state = 'failed')::int as failed
  from gone
)
update retentions r
set next_seq = %(next_seq)s, total = r.total + f.total, queued = r.queued + f.queued, pending = r.pending + f.pending,
  delivered = r.delivered + f.delivered, read = r.read + f.read, failed = r.failed + f.failed,
  unknown = r.unknown + (
    select count(*) from gone_handovers where status = 'unknown' and seq in (select seq from gone where is_open)
  ),
  button_replies = r.button_replies + (select count(*) from gone_replies),
  clicks = r.clicks + (select count(*) from gone_clicks where set_aside is null)
from figures f
where r.app_id = %(app_id)s and r.campaign_id = %(campaign_id)s

-- name: end
-- The campaign is done. What was left are hits and ids of test messages, which belong to no recipient.
with hits as (
  update clicks
  set user_agent = '(removed)', purpose = ''
  where app_id = %(app_id)s and campaign_id = %(campaign_id)s and seq = 2147483647
),
ids as (
  update attempts
  set message_id = anonymous_id(message_id)
  where app_id = %(app_id)s and campaign_id = %(campaign_id)s and seq = 2147483647
)
update retentions
set ended_at = now()
where app_id = %(app_id)s and campaign_id = %(campaign_id)s and ended_at is null

-- name: forget_texts
-- A portion of what recipients wrote before a moment.
delete from texts t
using (
  select channel_number, inbound_id from texts
  where app_id = %(app_id)s and received_at < %(before)s::timestamptz
  limit %(limit)s
) o
where t.app_id = %(app_id)s and t.channel_number = o.channel_number and t.inbound_id = o.inbound_id

-- name: forget_trials
-- A portion of the test messages of before a moment.
delete from trials
where app_id = %(app_id)s and trial_id = any(array(
  select trial_id from trials where app_id = %(app_id)s and asked_at < %(before)s::timestamptz limit %(limit)s
))

-- name: forget_unreadable
-- A portion of the bodies that were not understood, and came last before a moment.
delete from unreadable u
using (
  select channel_number, digest from unreadable
  where app_id = %(app_id)s and last_at < %(before)s::timestamptz
  limit %(limit)s
) o
where u.app_id = %(app_id)s and u.channel_number = o.channel_number and u.digest = o.digest

-- name: forget_import
-- The cells of imports that ended before a moment, a few of them: rows that were set aside, and what the file was like.
with old as materialized (
  select import_id from imports
  where app_id = %(app_id)s and ended_at < %(before)s::timestamptz
    and (header <> '{}' or mapping <> '{}' or file_name <> '' or reason <> '')
  limit least(%(limit)s::int, 10)
),
errors as (
  delete from import_errors where app_id = %(app_id)s and import_id = any(array(select import_id from old))
)
update imports
set header = '{}', mapping = '{}', file_name = '', reason = ''
where app_id = %(app_id)s and import_id = any(array(select import_id from old))

-- name: forget_parked
-- A portion of the receipts that have waited for a message since before a moment.
delete from parked p
using (
  select channel_number, message_id, button from parked
  where app_id = %(app_id)s and parked_at < %(before)s::timestamptz
  limit %(limit)s
) o
where p.app_id = %(app_id)s and p.channel_number = o.channel_number and p.message_id = o.message_id
  and p.button = o.button
