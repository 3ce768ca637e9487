-- name: list_changes
-- Campaigns whose counts changed from a position on, in the order of their change. All counts of the app are read for
-- it: an index on changed_at would have to be written with every batch of receipts, and 100,000 rows are read in a
-- few hundredths of a second. Those that were not sent yet come without a date, and only say where to go on.
select n.campaign_id, c.sent_at, c.name, c.type, c.created_by, c.phone, c.channel_name, c.source_name, c.sender_eid,
  c.subject, n.total, n.delivered, n.read, n.button_replies + n.clicks, n.pending, n.failed, n.queued, s.stage,
  n.changed_at
from (
  select campaign_id, total, queued, pending, delivered, read, failed, button_replies, clicks, changed_at
  from counts
  where app_id = %(app_id)s and (changed_at, campaign_id) > (%(at)s::timestamptz, %(after)s::bigint)
    and changed_at <= %(until)s::timestamptz
  order by changed_at, campaign_id
  limit %(limit)s
) n
left join campaigns c on c.app_id = %(app_id)s and c.campaign_id = n.campaign_id and c.sent_at is not null
left join sendings s on s.app_id = %(app_id)s and s.campaign_id = n.campaign_id
order by n.changed_at, n.campaign_id
