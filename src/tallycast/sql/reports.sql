-- name: summary_page
-- A page of the sent campaigns of a period, the newest first. Reads running totals: no message is counted here.
select c.campaign_id, c.sent_at, c.name, c.type, c.created_by, c.phone, c.channel_name, c.source_name, c.sender_eid,
  c.subject, n.total, n.delivered, n.read, n.button_replies + n.clicks, n.pending, n.failed
from campaigns c
join counts n on n.app_id = %(app_id)s and n.campaign_id = c.campaign_id
where c.app_id = %(app_id)s
  and c.sent_at >= coalesce(%(start_at)s::timestamptz, '-infinity')
  and c.sent_at < coalesce(%(end_at)s::timestamptz, 'infinity')
order by c.sent_at desc, c.campaign_id desc
limit %(limit)s offset %(offset)s

-- name: summary_page_of_type
-- The same for one channel type, by an index of its own.
select c.campaign_id, c.sent_at, c.name, c.type, c.created_by, c.phone, c.channel_name, c.source_name, c.sender_eid,
  c.subject, n.total, n.delivered, n.read, n.button_replies + n.clicks, n.pending, n.failed
from campaigns c
join counts n on n.app_id = %(app_id)s and n.campaign_id = c.campaign_id
where c.app_id = %(app_id)s
  and c.type = %(type)s
  and c.sent_at >= coalesce(%(start_at)s::timestamptz, '-infinity')
  and c.sent_at < coalesce(%(end_at)s::timestamptz, 'infinity')
order by c.sent_at desc, c.campaign_id desc
limit %(limit)s offset %(offset)s

-- name: find_campaign
-- The campaign whose recipients are asked for. One that is sent from here keeps with each message what was sent:
-- its own content is the text with variables, which nobody gets.
select campaign_id, type, sent_at, phone, channel_name, source_name, sender_eid, subject,
  case when exists (
    select from sendings s
    where s.app_id = %(app_id)s and s.campaign_id = %(campaign_id)s and s.kind = 'smsDynamic'
  ) then '' else content end as content
from campaigns
where app_id = %(app_id)s and campaign_id = %(campaign_id)s

-- name: detail_page
-- A page of a campaign's messages from a position on: as fast at the millionth as at the first.
select seq, recipient, country, content, parts,
  message_state(accepted_at, delivered_at, read_at, failed_at) as state,
  accepted_at, delivered_at, read_at, failed_at, error_code, error_title
from messages
where app_id = %(app_id)s and campaign_id = %(campaign_id)s and seq >= %(from_seq)s
order by seq
limit %(limit)s

-- name: detail_page_of_state
-- The same for one state; the rows between are read and left out.
select seq, recipient, country, content, parts,
  message_state(accepted_at, delivered_at, read_at, failed_at) as state,
  accepted_at, delivered_at, read_at, failed_at, error_code, error_title
from messages
where app_id = %(app_id)s and campaign_id = %(campaign_id)s and seq >= %(from_seq)s
  and message_state(accepted_at, delivered_at, read_at, failed_at) = any(%(states)s::text[])
order by seq
limit %(limit)s offset %(offset)s
