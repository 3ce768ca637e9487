-- name: take_lease
-- Take a lease that is free, ended or one's own; no row when somebody else holds it.
insert into leases as l (app_id, name, worker, until)
values (%(app_id)s, %(name)s, %(worker)s, now() + %(seconds)s * interval '1 second')
on conflict (app_id, name) do update
set worker = excluded.worker, until = excluded.until
where l.worker = excluded.worker or l.until < now()
returning 1

-- name: find_holder
-- Who holds a lease.
select worker from leases where app_id = %(app_id)s and name = %(name)s

-- name: renew_leases
-- Renew what a worker holds; the names that it still holds.
update leases
set until = now() + %(seconds)s * interval '1 second'
where app_id = %(app_id)s and name = any(%(names)s::text[]) and worker = %(worker)s
returning name

-- name: give_back_lease
-- Give back a lease, so that the next one need not wait for its end.
delete from leases where app_id = %(app_id)s and name = %(name)s and worker = %(worker)s

-- name: list_workers
-- Who works for an app at the moment.
select distinct worker from leases where app_id = %(app_id)s and until > now()
