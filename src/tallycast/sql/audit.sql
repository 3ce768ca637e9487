-- name: list_totals
-- The campaigns of an app with their size, to audit them in portions.
select campaign_id, total from counts where app_id = %(app_id)s order by campaign_id

-- name: recount
-- Recount campaigns from their rows, and from what was noted of those that were deleted, and give both sides. One statement reads one snapshot, and facts move their
-- counts in one commit, so receipts that stream in meanwhile cannot show as drift. The sides are stacked and summed:
-- a join of ten thousand campaigns with their recount would be planned for a few.
with by_state as materialized (
  select campaign_id, message_state(accepted_at, delivered_at, read_at, failed_at) as state, count(*) as n
  from messages
  where app_id = %(app_id)s and campaign_id = any(%(campaign_ids)s::bigint[])
  group by 1, 2
),
sides as (
  select campaign_id, true as is_count, total, queued, pending, delivered, read, failed, button_replies, clicks,
    0 as noted
  from counts
  where app_id = %(app_id)s and campaign_id = any(%(campaign_ids)s::bigint[])
  union all
  select campaign_id, false, n, (state = 'queued')::int * n, (state = 'pending')::int * n,
    (state in ('delivered', 'read'))::int * n, (state = 'read')::int * n, (state = 'failed')::int * n, 0, 0, 0
  from by_state
  union all
  select campaign_id, false, total, queued, pending, delivered, read, failed, button_replies, clicks, total
  from retentions
  where app_id = %(app_id)s and campaign_id = any(%(campaign_ids)s::bigint[])
  union all
  select campaign_id, false, 0, 0, 0, 0, 0, 0, 1, 0, 0
  from replies
  where app_id = %(app_id)s and campaign_id = any(%(campaign_ids)s::bigint[])
  union all
  select campaign_id, false, 0, 0, 0, 0, 0, 0, 0, 1, 0
  from clicks
  where app_id = %(app_id)s and campaign_id = any(%(campaign_ids)s::bigint[]) and set_aside is null
),
summed as (
  select campaign_id, is_count,
    array[
      sum(total), sum(queued), sum(pending), sum(delivered), sum(read), sum(failed), sum(button_replies), sum(clicks)
    ]::bigint[] as figures,
    sum(noted)::bigint as noted
  from sides
  group by campaign_id, is_count
)
select campaign_id,
  coalesce(min(figures) filter (where is_count), array_fill(0::bigint, array[8])) as counted,
  coalesce(min(figures) filter (where not is_count), array_fill(0::bigint, array[8])) as recounted,
  coalesce(min(noted) filter (where not is_count), 0) as noted
from summed
group by campaign_id
order by campaign_id
