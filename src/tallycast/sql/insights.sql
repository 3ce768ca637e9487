-- name: find_figures
-- A campaign's running totals, and how many messages of unknown outcome were deleted.
select n.total, n.queued, n.pending, n.delivered, n.read, n.failed, n.button_replies + n.clicks as replied,
  coalesce(r.unknown, 0) as unknown
from counts n
left join retentions r on r.app_id = %(app_id)s and r.campaign_id = n.campaign_id
where n.app_id = %(app_id)s and n.campaign_id = %(campaign_id)s

-- name: recall
-- What was computed of a campaign before, if it was, and whether the counts are still those that it was made at. What is
-- frozen holds for ever.
select n.changed_at, n.queued < n.total as is_sent, clock_timestamp() as asked_at, i.body::text as body, i.computed_at,
  coalesce(i.seconds, 0)::float8 as seconds, coalesce(i.as_of = n.changed_at, false) as is_current, r.frozen_at is not null as is_frozen
from counts n
left join retentions r on r.app_id = %(app_id)s and r.campaign_id = n.campaign_id
left join insights i on i.app_id = %(app_id)s and i.campaign_id = n.campaign_id and i.name = %(name)s
where n.app_id = %(app_id)s and n.campaign_id = %(campaign_id)s

-- name: hold
-- One at a time computes: the others wait for it, until the end of its transaction.
select pg_advisory_xact_lock(
  hashtextextended(%(app_id)s::text || ' ' || %(campaign_id)s::bigint || ' ' || %(name)s::text, 0)
)

-- name: keep
-- Keep what was computed.
insert into insights (app_id, campaign_id, name, body, computed_at, as_of, seconds)
values (
  %(app_id)s, %(campaign_id)s, %(name)s, %(body)s::jsonb, %(computed_at)s::timestamptz, %(as_of)s::timestamptz,
  %(seconds)s
)
on conflict (app_id, campaign_id, name) do update
set body = excluded.body, computed_at = excluded.computed_at, as_of = excluded.as_of, seconds = excluded.seconds

-- name: count_people
-- How many recipients have chosen a button or followed a link, and how many have followed one.
select count(*)::int as replied, count(*) filter (where has_clicked)::int as clicked
from (
  select seq, bool_or(is_click) as has_clicked
  from (
    select seq, false as is_click from replies where app_id = %(app_id)s and campaign_id = %(campaign_id)s
    union all
    select seq, true
    from clicks
    where app_id = %(app_id)s and campaign_id = %(campaign_id)s and set_aside is null
  ) signs
  group by seq
) people

-- name: find_span
-- From when until when something happened to a campaign's messages.
select min(first_at), max(last_at)
from (
  select min(least(accepted_at, delivered_at, read_at, failed_at)) as first_at,
    max(greatest(accepted_at, delivered_at, read_at, failed_at)) as last_at
  from messages
  where app_id = %(app_id)s and campaign_id = %(campaign_id)s
  union all
  select min(clicked_at), max(clicked_at)
  from clicks
  where app_id = %(app_id)s and campaign_id = %(campaign_id)s and set_aside is null
) spans

-- name: count_moments
-- How many messages were handed over, delivered, read and failed in each span of time, and how many links were followed.
-- A message that was read was delivered then at the latest; one that was delivered has not failed. `offset 0` hides how
-- many moments there are: they are few once rounded, so they are counted by hash and not sorted.
select case grouping(accepted, delivered, read, failed)
    when 7 then 'accepted' when 11 then 'delivered' when 13 then 'read' else 'failed' end as kind,
  coalesce(accepted, delivered, read, failed) as at, count(*)::int as n
from (
  select date_bin(i.width, least(accepted_at, delivered_at, read_at, failed_at), 'epoch') as accepted,
    date_bin(i.width, least(delivered_at, read_at), 'epoch') as delivered, date_bin(i.width, read_at, 'epoch') as read,
    case when delivered_at is null and read_at is null then date_bin(i.width, failed_at, 'epoch') end as failed
  from messages, (select make_interval(secs => %(seconds)s::float8) as width) i
  where app_id = %(app_id)s and campaign_id = %(campaign_id)s
  offset 0
) rounded
group by grouping sets ((accepted), (delivered), (read), (failed))
having coalesce(accepted, delivered, read, failed) is not null
union all
select 'clicks', at, count(*)::int
from (
  select date_bin(make_interval(secs => %(seconds)s::float8), clicked_at, 'epoch') as at
  from clicks
  where app_id = %(app_id)s and campaign_id = %(campaign_id)s and set_aside is null
  offset 0
) followed
group by at

-- name: count_countries
-- How a campaign's messages stand, by the recipients' country.
select country, count(*)::int as total, count(*) filter (where state in ('delivered', 'read'))::int as delivered,
  count(*) filter (where state = 'read')::int as read, count(*) filter (where state = 'failed')::int as failed
from (
  select coalesce(country, '') as country, message_state(accepted_at, delivered_at, read_at, failed_at) as state
  from messages
  where app_id = %(app_id)s and campaign_id = %(campaign_id)s
) states
group by country
order by total desc, country

-- name: count_hits
-- The hits of a campaign's links, those that people made and the others by reason; the most followed first. Links that
-- nobody has followed are stacked on them with nothing. Purposes are what a client says: all prefetches are one reason.
select l.url, h.hits, h.clicks, h.people, h.set_aside::text
from (
  select link_key, sum(hits)::int as hits, coalesce(sum(hits) filter (where reason = ''), 0)::int as clicks,
    coalesce(sum(people) filter (where reason = ''), 0)::int as people,
    coalesce(jsonb_object_agg(reason, hits) filter (where reason <> ''), '{}') as set_aside
  from (
    select link_key, reason, sum(hits)::int as hits, count(*)::int as people
    from (
      select link_key, seq, count(*) as hits,
        case when set_aside like 'prefetch:%%' then 'prefetch' else coalesce(set_aside, '') end as reason
      from clicks
      where app_id = %(app_id)s and campaign_id = %(campaign_id)s
      group by link_key, seq, reason
    ) by_message
    group by link_key, reason
    union all
    select link_key, '', 0, 0
    from links
    where app_id = %(app_id)s and campaign_id = %(campaign_id)s
  ) by_reason
  group by link_key
  order by clicks desc, hits desc, link_key
  limit %(limit)s
) h
cross join lateral (
  select url from links k where k.app_id = %(app_id)s and k.link_key = h.link_key limit 1
) l
order by h.clicks desc, h.hits desc, l.url

-- name: count_buttons
-- How many recipients have chosen each button.
select button, count(*)::int as people
from replies
where app_id = %(app_id)s and campaign_id = %(campaign_id)s
group by button
order by people desc, button
limit %(limit)s
