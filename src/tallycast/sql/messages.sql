-- name: hold_campaign
-- Lock a campaign against other writers of its messages and facts; its total is the next seq.
select n.total, c.channel_number, c.type, c.content, c.dated
from counts n
join campaigns c on c.app_id = %(app_id)s and c.campaign_id = n.campaign_id
where n.app_id = %(app_id)s and n.campaign_id = %(campaign_id)s
for update of n

-- name: add_messages
-- Add new recipients, complete known ones with their message id; answer which rows were refused and why.
-- The campaign is held, and this is a statement of its own, so it sees all that others have committed.
-- Each look-up is lateral with a limit: a plan from when the campaign was small must not read all of a large one.
with input as materialized (
  select *
  from unnest(
    %(recipient)s::text[], %(country)s::text[], %(message_id)s::text[], %(content)s::text[], %(parts)s::int[]
  ) with ordinality as t (recipient, country, message_id, content, parts, n)
),
looked_up as materialized (
  select i.*, known.seq as known_seq, known.message_id as known_id,
    message_state(known.accepted_at, known.delivered_at, known.read_at, known.failed_at) as state,
    case
      when owner.seq is not null and (owner.campaign_id, owner.seq) is distinct from (%(campaign_id)s, known.seq)
        then 'messageID belongs to another message'
      when known.message_id <> i.message_id then 'recipient has another messageID'
    end as error
  from input i
  left join lateral (
    select * from messages m
    where m.app_id = %(app_id)s and m.campaign_id = %(campaign_id)s and m.recipient = i.recipient
    limit 1
  ) known on true
  left join lateral (
    select * from messages m
    where m.app_id = %(app_id)s and m.channel_number = %(channel_number)s and m.message_id = i.message_id
    limit 1
  ) owner on true
),
added as (
  insert into messages (
    app_id, campaign_id, seq, channel_number, parts, recipient, country, message_id, content, accepted_at
  )
  select %(app_id)s, %(campaign_id)s, %(total)s + (row_number() over (order by n) - 1)::int, %(channel_number)s,
    parts, recipient, country, message_id, content,
    case when message_id is not null then coalesce(%(dated)s::timestamptz, now()) end
  from looked_up
  where known_seq is null and error is null
),
completed as (
  update messages m
  set message_id = l.message_id, accepted_at = least(m.accepted_at, coalesce(%(dated)s::timestamptz, now()))
  from looked_up l
  where m.app_id = %(app_id)s and m.campaign_id = %(campaign_id)s and m.seq = l.known_seq
    and l.message_id is not null and l.error is null
    and (l.known_id is null or (m.accepted_at <= coalesce(%(dated)s::timestamptz, now())) is not true)
),
moved as materialized (
  select
    count(*) filter (where known_seq is null) as total,
    count(*) filter (where known_seq is null and message_id is null) as queued,
    count(*) filter (where known_seq is null and message_id is not null) as pending,
    count(*) filter (where known_id is null and message_id is not null and state = 'queued' and known_seq is not null)
      as handed_over
  from looked_up
  where error is null
),
counted as (
  update counts c
  set total = c.total + d.total, queued = c.queued + d.queued - d.handed_over,
    pending = c.pending + d.pending + d.handed_over, changed_at = now()
  from moved d
  where c.app_id = %(app_id)s and c.campaign_id = %(campaign_id)s
),
opened as (
  update campaigns c
  set sent_at = date_trunc('milliseconds', coalesce(c.dated, now()))
  from moved d
  where c.app_id = %(app_id)s and c.campaign_id = %(campaign_id)s and c.sent_at is null
    and d.pending + d.handed_over > 0
)
select n::int, error from looked_up where error is not null order by n

-- name: list_messages
-- A page of a campaign's messages in the order of recording, for export of references.
select seq, recipient, country, message_id
from messages
where app_id = %(app_id)s and campaign_id = %(campaign_id)s and seq >= %(from_seq)s
order by seq
limit %(limit)s
