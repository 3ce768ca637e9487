-- name: find_by_message
-- Recipients from a position on, in order, whose message is such a one: by state, failure, country and number. What is
-- null does not matter.
select m.seq
from messages m
where m.app_id = %(app_id)s and m.campaign_id = %(campaign_id)s and m.seq >= %(from_seq)s
  and (
    %(states)s::text[] is null
    or message_state(m.accepted_at, m.delivered_at, m.read_at, m.failed_at) = any(%(states)s::text[])
  )
  and (%(country)s::text is null or coalesce(m.country, '') = %(country)s::text)
  and (%(error_code)s::text is null or coalesce(m.error_code, '') = %(error_code)s::text)
  and (%(error_title)s::text is null or coalesce(m.error_title, '') = %(error_title)s::text)
  and (
    %(provider)s::text is null
    or m.channel_number = any(array(
      select c.channel_number from channels c where c.app_id = %(app_id)s and c.provider = %(provider)s::text
    ))
  )
  and (%(number)s::text is null or starts_with(m.recipient, %(number)s::text))
order by m.seq
limit %(limit)s

-- name: find_by_button
-- The same: those who have chosen a button.
select seq
from replies
where app_id = %(app_id)s and campaign_id = %(campaign_id)s and seq >= %(from_seq)s and button = %(button)s
order by seq
limit %(limit)s

-- name: find_by_link
-- The same: those who have followed a link, any where it is null.
select distinct seq
from clicks
where app_id = %(app_id)s and campaign_id = %(campaign_id)s and seq >= %(from_seq)s and set_aside is null
  and (
    %(link)s::text is null
    or link_key = (
      select k.link_key from links k
      where k.app_id = %(app_id)s and k.campaign_id = %(campaign_id)s and md5(k.url) = md5(%(link)s::text)
    )
  )
order by seq
limit %(limit)s

-- name: find_replied
-- The same: those who have chosen a button or followed a link.
select seq
from (
  (
    select distinct seq
    from replies
    where app_id = %(app_id)s and campaign_id = %(campaign_id)s and seq >= %(from_seq)s
    order by seq
    limit %(limit)s
  )
  union
  (
    select distinct seq
    from clicks
    where app_id = %(app_id)s and campaign_id = %(campaign_id)s and seq >= %(from_seq)s and set_aside is null
    order by seq
    limit %(limit)s
  )
) signs
order by seq
limit %(limit)s

-- name: find_unknown
-- The same: those of whom nobody knows whether their message went out.
select h.seq
from handovers h
cross join lateral (
  select * from messages m
  where m.app_id = %(app_id)s and m.campaign_id = h.campaign_id and m.seq = h.seq
  limit 1
) m
where h.app_id = %(app_id)s and h.campaign_id = %(campaign_id)s and h.seq >= %(from_seq)s and h.status = 'unknown'
  and m.message_id is null and coalesce(m.delivered_at, m.read_at, m.failed_at) is null
order by h.seq
limit %(limit)s

-- name: read_recipients
-- What is known of these recipients, in order.
select m.seq, m.recipient, m.country, c.channel_id, c.type, c.provider, m.message_id,
  message_state(m.accepted_at, m.delivered_at, m.read_at, m.failed_at) as state, m.parts, m.content, m.accepted_at,
  m.delivered_at, m.read_at, m.failed_at, m.error_code, m.error_title
from unnest(%(seqs)s::int[]) i (seq)
cross join lateral (
  select * from messages m
  where m.app_id = %(app_id)s and m.campaign_id = %(campaign_id)s and m.seq = i.seq
  limit 1
) m
cross join lateral (
  select channel_id, type, provider from channels c
  where c.app_id = %(app_id)s and c.channel_number = m.channel_number
  limit 1
) c
order by m.seq

-- name: list_attempts
-- The parts and the earlier attempts of a message, with their channels.
select a.part, c.channel_id, c.type, c.provider, a.message_id, a.accepted_at, a.delivered_at, a.read_at, a.failed_at,
  a.error_code, a.error_title
from attempts a
cross join lateral (
  select channel_id, type, provider from channels c
  where c.app_id = %(app_id)s and c.channel_number = a.channel_number
  limit 1
) c
where a.app_id = %(app_id)s and a.campaign_id = %(campaign_id)s and a.seq = %(seq)s
order by a.part, a.accepted_at, a.message_id

-- name: find_handover
-- What a message waits for.
select status, due_at, claimed_at, attempts, reason
from handovers
where app_id = %(app_id)s and campaign_id = %(campaign_id)s and seq = %(seq)s

-- name: list_buttons
-- The buttons that a recipient has chosen.
select button, replied_at
from replies
where app_id = %(app_id)s and campaign_id = %(campaign_id)s and seq = %(seq)s
order by replied_at

-- name: list_hits
-- The hits of a recipient's links, the first ones.
select l.url, c.clicked_at, c.set_aside, c.user_agent
from clicks c
cross join lateral (
  select url from links l where l.app_id = %(app_id)s and l.link_key = c.link_key limit 1
) l
where c.app_id = %(app_id)s and c.campaign_id = %(campaign_id)s and c.seq = %(seq)s
order by c.clicked_at
limit %(limit)s

-- name: list_texts
-- What a recipient wrote in a while over these channels, but for what quotes other messages.
select t.body, t.received_at, t.message_id is not null as is_quoting
from texts t
where t.app_id = %(app_id)s
  and t.sender = any(%(senders)s::text[] || array(
    select i.user_id from identities i where i.app_id = %(app_id)s and i.recipient = %(recipient)s
  ))
  and t.received_at >= %(first_at)s::timestamptz and t.received_at < %(last_at)s::timestamptz
  and (t.message_id is null or t.message_id = any(%(message_ids)s::text[]))
  and t.channel_number = any(array(
    select c.channel_number from channels c
    where c.app_id = %(app_id)s and c.channel_id = any(%(channel_ids)s::text[])
  ))
order by t.received_at
limit %(limit)s
