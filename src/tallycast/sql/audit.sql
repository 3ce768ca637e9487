-- name: list_totals
-- The campaigns of an app with their size, to audit them in portions.
select campaign_id, total from counts where app_id = %(app_id)s order by campaign_id

-- name: recount
-- Recount campaigns from their rows and give both sides. One statement reads one snapshot, and facts move their
-- counts in one commit, so receipts that stream in meanwhile cannot show as drift.
with picked as materialized (
  select * from counts where app_id = %(app_id)s and campaign_id = any(%(campaign_ids)s::bigint[])
),
by_state as materialized (
  select campaign_id, message_state(accepted_at, delivered_at, read_at, failed_at) as state, count(*) as n
  from messages
  where app_id = %(app_id)s and campaign_id = any(%(campaign_ids)s::bigint[])
  group by 1, 2
),
recounted as (
  select campaign_id, sum(n) as total,
    sum(n) filter (where state = 'queued') as queued,
    sum(n) filter (where state = 'pending') as pending,
    sum(n) filter (where state in ('delivered', 'read')) as delivered,
    sum(n) filter (where state = 'read') as read,
    sum(n) filter (where state = 'failed') as failed
  from by_state
  group by 1
),
buttons as (
  select campaign_id, count(*) as n from replies
  where app_id = %(app_id)s and campaign_id = any(%(campaign_ids)s::bigint[])
  group by 1
),
hits as (
  select campaign_id, count(*) as n from clicks
  where app_id = %(app_id)s and campaign_id = any(%(campaign_ids)s::bigint[]) and set_aside is null
  group by 1
)
select p.campaign_id,
  array[p.total, p.queued, p.pending, p.delivered, p.read, p.failed, p.button_replies, p.clicks]::bigint[] as counted,
  array[
    coalesce(r.total, 0), coalesce(r.queued, 0), coalesce(r.pending, 0), coalesce(r.delivered, 0),
    coalesce(r.read, 0), coalesce(r.failed, 0), coalesce(b.n, 0), coalesce(h.n, 0)
  ]::bigint[] as recounted
from picked p
left join recounted r on r.campaign_id = p.campaign_id
left join buttons b on b.campaign_id = p.campaign_id
left join hits h on h.campaign_id = p.campaign_id
order by p.campaign_id
