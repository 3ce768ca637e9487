-- name: add_session
-- scope: directory
insert into staff_sessions (hash, staff_id, expires_at, user_agent)
values (%(hash)s, %(staff_id)s, now() + %(lifetime)s::interval, %(user_agent)s)

-- name: find_person
-- Who holds a session, and their role in an app; app_id '' asks for none.
-- scope: directory
select s.staff_id, s.email, s.name, s.eid, s.is_owner, s.language, s.theme,
  e.last_seen_at < now() - interval '1 minute' as is_stale,
  a.app_id, a.name as app_name, a.time_zone, case when s.is_owner then 'admin' else r.role end as role
from staff_sessions e
join staff s on s.staff_id = e.staff_id and s.disabled_at is null
left join apps a on a.app_id = %(app_id)s
left join staff_roles r on r.app_id = %(app_id)s and r.staff_id = s.staff_id
where e.hash = %(hash)s and e.expires_at > now() and e.last_seen_at > now() - %(idle)s::interval

-- name: touch_session
-- scope: directory
update staff_sessions set last_seen_at = now() where hash = %(hash)s

-- name: list_sessions
-- scope: directory
select hash, created_at, last_seen_at, user_agent
from staff_sessions
where staff_id = %(staff_id)s and expires_at > now() and last_seen_at > now() - %(idle)s::interval
order by last_seen_at desc, hash

-- name: end_session
-- scope: directory
delete from staff_sessions where staff_id = %(staff_id)s and hash = %(hash)s

-- name: end_sessions
-- All of a person's sessions but one.
-- scope: directory
delete from staff_sessions where staff_id = %(staff_id)s and hash <> %(but)s

-- name: forget_sessions
-- scope: directory
delete from staff_sessions where expires_at < now() or last_seen_at < now() - %(idle)s::interval
