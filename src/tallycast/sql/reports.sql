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

-- name: sent_before
-- Sent campaigns, the newest first: of a period, before a position in the list, of a channel type, and with a text in
-- their name, in any case, or as their id. A search reads on by date until it has found enough.
select c.campaign_id, c.sent_at, c.name, c.type, c.created_by, c.phone, c.channel_name, c.source_name, c.sender_eid,
  c.subject, n.total, n.delivered, n.read, n.button_replies + n.clicks as replied, n.pending, n.failed, n.queued, s.stage
from (
  select *
  from campaigns c
  where c.app_id = %(app_id)s
    and c.sent_at >= coalesce(%(start_at)s::timestamptz, '-infinity')
    and c.sent_at < coalesce(%(end_at)s::timestamptz, 'infinity')
    and (%(type)s::text is null or c.type = %(type)s)
    and (
      %(search)s::text is null or c.campaign_id::text = %(search)s
      or strpos(lower(c.name), lower(%(search)s)) > 0
    )
    and (c.sent_at, c.campaign_id) < (
      coalesce(%(position_at)s::timestamptz, 'infinity'), coalesce(%(position)s::bigint, 0)
    )
  order by c.sent_at desc, c.campaign_id desc
  limit %(limit)s offset %(offset)s
) c
join counts n on n.app_id = %(app_id)s and n.campaign_id = c.campaign_id
left join sendings s on s.app_id = %(app_id)s and s.campaign_id = c.campaign_id
order by c.sent_at desc, c.campaign_id desc

-- name: sent_after
-- The same from the other end: the oldest first, after a position.
select c.campaign_id, c.sent_at, c.name, c.type, c.created_by, c.phone, c.channel_name, c.source_name, c.sender_eid,
  c.subject, n.total, n.delivered, n.read, n.button_replies + n.clicks as replied, n.pending, n.failed, n.queued, s.stage
from (
  select *
  from campaigns c
  where c.app_id = %(app_id)s
    and c.sent_at >= coalesce(%(start_at)s::timestamptz, '-infinity')
    and c.sent_at < coalesce(%(end_at)s::timestamptz, 'infinity')
    and (%(type)s::text is null or c.type = %(type)s)
    and (
      %(search)s::text is null or c.campaign_id::text = %(search)s
      or strpos(lower(c.name), lower(%(search)s)) > 0
    )
    and (c.sent_at, c.campaign_id) > (
      coalesce(%(position_at)s::timestamptz, '-infinity'), coalesce(%(position)s::bigint, 0)
    )
  order by c.sent_at, c.campaign_id
  limit %(limit)s offset %(offset)s
) c
join counts n on n.app_id = %(app_id)s and n.campaign_id = c.campaign_id
left join sendings s on s.app_id = %(app_id)s and s.campaign_id = c.campaign_id
order by c.sent_at, c.campaign_id

-- name: sent_sorted
-- The same in the order of a name, a figure or a rate: every campaign of the period is read for it, whatever the page.
select c.campaign_id, c.sent_at, c.name, c.type, c.created_by, c.phone, c.channel_name, c.source_name, c.sender_eid,
  c.subject, n.total, n.delivered, n.read, n.button_replies + n.clicks as replied, n.pending, n.failed, n.queued, s.stage
from (
  select *
  from (
    select c.campaign_id, c.sent_at, case when %(key)s::text = 'name' then lower(c.name) end as word,
      case when %(is_down)s::bool then -1 else 1 end * case %(key)s::text
        when 'total' then n.total
        when 'delivered' then n.delivered::float8 / nullif(n.total - n.queued, 0)
        when 'read' then case c.type when 'whatsApp' then n.read::float8 / nullif(n.delivered, 0) end
        when 'replied' then n.button_replies + n.clicks
        when 'pending' then n.pending
        when 'queued' then n.queued
        when 'failed' then n.failed::float8 / nullif(n.total - n.queued, 0)
      end as figure
    from campaigns c
    join counts n on n.app_id = %(app_id)s and n.campaign_id = c.campaign_id
    where c.app_id = %(app_id)s
      and c.sent_at >= coalesce(%(start_at)s::timestamptz, '-infinity')
      and c.sent_at < coalesce(%(end_at)s::timestamptz, 'infinity')
      and (%(type)s::text is null or c.type = %(type)s)
      and (
        %(search)s::text is null or c.campaign_id::text = %(search)s
        or strpos(lower(c.name), lower(%(search)s)) > 0
      )
  ) k
  order by case when not %(is_down)s::bool then k.word end, case when %(is_down)s::bool then k.word end desc,
    k.figure nulls last, k.sent_at desc, k.campaign_id desc
  limit %(limit)s offset %(offset)s
) f
join campaigns c on c.app_id = %(app_id)s and c.campaign_id = f.campaign_id
join counts n on n.app_id = %(app_id)s and n.campaign_id = f.campaign_id
left join sendings s on s.app_id = %(app_id)s and s.campaign_id = f.campaign_id
order by case when not %(is_down)s::bool then f.word end, case when %(is_down)s::bool then f.word end desc,
  f.figure nulls last, f.sent_at desc, f.campaign_id desc

-- name: add_up
-- The figures of such campaigns together. `readable`: what was delivered where reading is told.
select count(*)::int as campaigns, coalesce(sum(n.total), 0)::bigint as total,
  coalesce(sum(n.delivered), 0)::bigint as delivered, coalesce(sum(n.read), 0)::bigint as read,
  coalesce(sum(n.button_replies + n.clicks), 0)::bigint as replied, coalesce(sum(n.pending), 0)::bigint as pending,
  coalesce(sum(n.failed), 0)::bigint as failed, coalesce(sum(n.queued), 0)::bigint as queued,
  coalesce(sum(n.delivered) filter (where c.type = 'whatsApp'), 0)::bigint as readable
from campaigns c
join counts n on n.app_id = %(app_id)s and n.campaign_id = c.campaign_id
where c.app_id = %(app_id)s
  and c.sent_at >= coalesce(%(start_at)s::timestamptz, '-infinity')
  and c.sent_at < coalesce(%(end_at)s::timestamptz, 'infinity')
  and (%(type)s::text is null or c.type = %(type)s)
  and (
    %(search)s::text is null or c.campaign_id::text = %(search)s
    or strpos(lower(c.name), lower(%(search)s)) > 0
  )

-- name: find_sent
-- One campaign, sent or not, by its running totals and its stage.
select c.campaign_id, c.sent_at, c.name, c.type, c.created_by, c.phone, c.channel_name, c.source_name, c.sender_eid,
  c.subject, n.total, n.delivered, n.read, n.button_replies + n.clicks as replied, n.pending, n.failed, n.queued, s.stage,
  c.content, n.changed_at, s.kind, s.scheduled_at, s.paused_reason, h.channel_id
from campaigns c
join counts n on n.app_id = %(app_id)s and n.campaign_id = %(campaign_id)s
join channels h on h.app_id = %(app_id)s and h.channel_number = c.channel_number
left join sendings s on s.app_id = %(app_id)s and s.campaign_id = %(campaign_id)s
where c.app_id = %(app_id)s and c.campaign_id = %(campaign_id)s

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
