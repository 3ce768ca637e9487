-- name: tell
-- A process has these keys now.
-- scope: directory
insert into keyholders (process, key_ids)
values (%(process)s, %(key_ids)s::text[])
on conflict (process) do update set key_ids = excluded.key_ids, seen_at = now()

-- name: leave
-- A process has ended.
-- scope: directory
delete from keyholders where process = %(process)s

-- name: list_live
-- The processes that were seen a short while ago.
-- scope: directory
select process, key_ids from keyholders where seen_at > now() - %(seconds)s * interval '1 second' order by process

-- name: forget_dead
-- Those that were killed left their row.
-- scope: directory
delete from keyholders where seen_at < now() - interval '1 day'
