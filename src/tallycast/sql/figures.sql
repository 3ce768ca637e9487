-- name: start_watch
-- Tell figures from a position of the change feed on, unless they are told already.
insert into figure_watches (app_id, cursor)
values (%(app_id)s, %(cursor)s)
on conflict (app_id) do nothing

-- name: hold_watch
-- How far the figures have been told, where it is time to go on.
select cursor
from figure_watches
where app_id = %(app_id)s and looked_at <= now() - %(seconds)s * interval '1 second'
for update

-- name: move_watch
-- The figures have been told up to here.
update figure_watches set cursor = %(cursor)s, looked_at = now() where app_id = %(app_id)s

-- name: end_watch
-- Nobody listens any more.
delete from figure_watches where app_id = %(app_id)s

-- name: note_told
-- Remember the figures that are told now; only those come back that are not the last ones told.
insert into told_figures as t (app_id, campaign_id, digest)
select %(app_id)s, campaign_id, digest
from unnest(%(campaign_ids)s::bigint[], %(digests)s::bytea[]) as n (campaign_id, digest)
order by campaign_id
on conflict (app_id, campaign_id) do update
set digest = excluded.digest, told_at = now()
where t.digest <> excluded.digest
returning campaign_id

-- name: forget_told
-- What is not in the change feed any more needs no memory.
delete from told_figures where app_id = %(app_id)s and told_at < now() - %(seconds)s * interval '1 second'
