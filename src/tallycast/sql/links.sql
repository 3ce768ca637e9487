-- name: add_link
-- Make a tracked link of a campaign; the same target again gives the link that exists.
insert into links (app_id, link_key, campaign_id, url, secret)
values (%(app_id)s, %(link_key)s, %(campaign_id)s, %(url)s, %(secret)s)
on conflict do nothing

-- name: find_link_by_url
-- The tracked link of a campaign's target.
select app_id, link_key, campaign_id, url, secret
from links
where app_id = %(app_id)s and campaign_id = %(campaign_id)s and md5(url) = md5(%(url)s)

-- name: find_link
-- The tracked link behind a code.
select app_id, link_key, campaign_id, url, secret
from links
where app_id = %(app_id)s and link_key = %(link_key)s

-- name: list_links
-- The tracked links of a campaign.
select app_id, link_key, campaign_id, url, secret
from links
where app_id = %(app_id)s and campaign_id = %(campaign_id)s

-- name: list_recent_links
-- The latest links of an app, to redirect from memory.
select app_id, link_key, campaign_id, url, secret
from links
where app_id = %(app_id)s
order by created_at desc
limit %(limit)s

-- name: fold_clicks
-- Keep every hit, count the new ones that a person made. The click id makes repeating it harmless. Campaigns whose
-- figures are frozen keep none any more.
with input as materialized (
  select *
  from unnest(
    %(click_id)s::uuid[], %(link_key)s::text[], %(campaign_id)s::bigint[], %(seq)s::int[], %(clicked_ms)s::bigint[],
    %(method)s::text[], %(user_agent)s::text[], %(purpose)s::text[], %(set_aside)s::text[]
  ) as t (click_id, link_key, campaign_id, seq, clicked_ms, method, user_agent, purpose, set_aside)
),
added as (
  insert into clicks (
    app_id, click_id, link_key, campaign_id, seq, clicked_at, method, user_agent, purpose, set_aside
  )
  select %(app_id)s, i.click_id, i.link_key, i.campaign_id, i.seq,
    'epoch'::timestamptz + i.clicked_ms * interval '1 millisecond', i.method, i.user_agent, i.purpose, i.set_aside
  from input i
  where (
    select true from retentions r where r.app_id = %(app_id)s and r.campaign_id = i.campaign_id limit 1
  ) is null
  on conflict (app_id, click_id) do nothing
  returning campaign_id, set_aside
)
update counts c
set clicks = c.clicks + d.fresh, changed_at = now()
from (
  select campaign_id, count(*) as fresh from added where set_aside is null group by campaign_id order by campaign_id
) d
where c.app_id = %(app_id)s and c.campaign_id = d.campaign_id

-- name: hold_counts
-- Lock one campaign's counts.
select 1 from counts where app_id = %(app_id)s and campaign_id = %(campaign_id)s for update

-- name: list_click_campaigns
-- The campaigns of an app that have tracked links.
select distinct campaign_id from links where app_id = %(app_id)s order by campaign_id

-- name: list_agents
-- What the hits of a campaign said about themselves, each combination once; those of test messages are left out, and
-- those of whom that is not known any more.
select distinct method, user_agent, purpose, set_aside
from clicks
where app_id = %(app_id)s and campaign_id = %(campaign_id)s and seq < 2147483647 and user_agent <> '(removed)'

-- name: reclassify
-- Set the reason of all hits of a campaign that look the same, and move the count with them.
with changed as (
  update clicks
  set set_aside = %(set_aside)s
  where app_id = %(app_id)s and campaign_id = %(campaign_id)s
    and method = %(method)s and user_agent = %(user_agent)s and purpose = %(purpose)s
    and set_aside is not distinct from %(was)s
  returning 1
)
update counts c
set clicks = c.clicks + %(direction)s * (select count(*) from changed), changed_at = now()
where c.app_id = %(app_id)s and c.campaign_id = %(campaign_id)s
returning (select count(*) from changed)::int
