-- name: find_campaign
-- The campaign whose recipients are exported, and how many of them are left in each state; `until` counts those whom
-- retention has deleted, too. One that is sent from here keeps with each message what was sent: its own content is the
-- text with variables, which nobody gets.
select c.name, c.type,
  case when exists (
    select from sendings s
    where s.app_id = %(app_id)s and s.campaign_id = %(campaign_id)s and s.kind = 'smsDynamic'
  ) then '' else c.content end as content,
  n.total - coalesce(r.total, 0) as total, n.queued - coalesce(r.queued, 0) as queued,
  n.pending - coalesce(r.pending, 0) as pending,
  n.delivered - n.read - coalesce(r.delivered - r.read, 0) as delivered, n.read - coalesce(r.read, 0) as read,
  n.failed - coalesce(r.failed, 0) as failed, n.total as until
from campaigns c
join counts n on n.app_id = %(app_id)s and n.campaign_id = c.campaign_id
left join retentions r on r.app_id = %(app_id)s and r.campaign_id = c.campaign_id
where c.app_id = %(app_id)s and c.campaign_id = %(campaign_id)s

-- name: list_codes
-- The error codes of a campaign's messages, each with the provider that it came from.
select f.channel_number, f.error_code, c.provider
from (
  select distinct channel_number, error_code
  from messages
  where app_id = %(app_id)s and campaign_id = %(campaign_id)s and error_code is not null
  limit %(limit)s
) f
join channels c on c.app_id = %(app_id)s and c.channel_number = f.channel_number

-- name: list_recipients
-- A stretch of a campaign's recipients: the columns of the export. Made for merge joins, which the export allows itself:
-- all three tables are read once, in the order of seq.
select m.seq as position,
  %(campaign)s::text as "campaignID",
  %(name)s::text as "campaignName",
  %(channel)s::text as channel,
  m.recipient,
  m.country,
  'tc:' || %(campaign)s::text || '.' || m.seq as "referenceID",
  m.message_id as "messageID",
  m.state,
  %(statuses)s::jsonb ->> m.state as status,
  m.parts,
  m.accepted_at as "acceptedAt",
  m.delivered_at as "deliveredAt",
  m.read_at as "readAt",
  m.failed_at as "failedAt",
  case when m.state = 'failed' then nullif(m.error_code, '') end as "errorCode",
  case when m.state = 'failed' then
    coalesce(%(words)s::jsonb ->> (m.channel_number || ':' || m.error_code), nullif(m.error_title, ''))
  end as "failureReason",
  r.buttons,
  coalesce(k.clicks, 0) as clicks,
  nullif(coalesce(m.content, %(content)s), '') as content
from (
  select *, message_state(accepted_at, delivered_at, read_at, failed_at) as state
  from messages
  where app_id = %(app_id)s and campaign_id = %(campaign_id)s and seq >= %(from_seq)s and seq < %(to_seq)s
) m
left join (
  select seq, string_agg(button, '; ' order by button) as buttons
  from replies
  where app_id = %(app_id)s and campaign_id = %(campaign_id)s and seq >= %(from_seq)s and seq < %(to_seq)s
  group by seq
) r on r.seq = m.seq
left join (
  select seq, count(*)::int as clicks
  from clicks
  where app_id = %(app_id)s and campaign_id = %(campaign_id)s and seq >= %(from_seq)s and seq < %(to_seq)s
    and set_aside is null
  group by seq
) k on k.seq = m.seq
where %(state)s::text is null or m.state = %(state)s

-- name: list_campaigns
-- A page of the summary as the columns of the export. The counts stand beside it, as the summary leaves some out for SMS.
select s.ordinality as position,
  s.id as "campaignID",
  s.date,
  s."campaignName",
  s.channel,
  nullif(s."createdBy", '') as "createdBy",
  nullif(s.sender ->> 'phone', '') as "senderPhone",
  nullif(s.sender ->> 'channelName', '') as "senderChannelName",
  nullif(s.sender ->> 'sourceName', '') as "senderSourceName",
  nullif(s.sender ->> 'senderEID', '') as "senderEID",
  nullif(s.subject, '') as subject,
  s."totalRecipients",
  n.queued,
  s.delivered,
  s.read,
  n.button_replies + n.clicks as replied,
  n.pending,
  n.failed
from rows from (
  jsonb_to_recordset(%(page)s::jsonb) as (
    id text, date timestamptz, "campaignName" text, channel text, "createdBy" text, sender jsonb, subject text,
    "totalRecipients" int, delivered int, read int
  )
) with ordinality as s
join counts n on n.app_id = %(app_id)s and n.campaign_id = s.id::bigint
