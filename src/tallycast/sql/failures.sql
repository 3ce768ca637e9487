-- name: list_causes
-- Why a campaign's messages failed, the most frequent first. Channels of one provider count together.
select f.code, f.title, c.provider, sum(f.count)::bigint as count
from (
  select channel_number, coalesce(error_code, '') as code, coalesce(error_title, '') as title, count(*) as count
  from messages
  where app_id = %(app_id)s and campaign_id = %(campaign_id)s
    and message_state(accepted_at, delivered_at, read_at, failed_at) = 'failed'
  group by 1, 2, 3
) f
join channels c on c.app_id = %(app_id)s and c.channel_number = f.channel_number
group by f.code, f.title, c.provider
order by count desc, f.code, f.title
limit %(limit)s
