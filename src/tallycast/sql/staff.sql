-- name: add_staff
-- Nothing when the email is taken.
-- scope: directory
insert into staff (staff_id, email, name, eid, is_owner)
values (%(staff_id)s, %(email)s, %(name)s, %(eid)s, %(is_owner)s)
on conflict do nothing

-- name: find_eid
-- Whoever has this EID, in any case of its letters.
-- scope: directory
select staff_id from staff where lower(eid) = lower(%(eid)s)

-- name: has_staff
-- scope: directory
select exists (select from staff)

-- name: lock_staff
-- Two people with two links must not both become the first owner, nor two at once have one EID.
-- scope: directory
select pg_advisory_xact_lock(7310594)

-- name: list_staff
-- scope: directory
select s.staff_id, s.email, s.name, s.eid, s.is_owner, s.language, s.theme, s.created_at, s.disabled_at,
  s.password_hash is not null as has_password,
  (
    select coalesce(jsonb_object_agg(r.app_id, r.role), '{}') from staff_roles r where r.staff_id = s.staff_id
  ) as roles
from staff s
order by lower(s.name), s.staff_id

-- name: list_staff_of_app
-- Who has a role in an app, and the owners.
-- scope: directory
select s.staff_id, s.email, s.name, s.eid, s.is_owner, s.language, s.theme, s.created_at, s.disabled_at,
  s.password_hash is not null as has_password, jsonb_build_object(r.app_id, r.role) as roles
from staff_roles r
join staff s on s.staff_id = r.staff_id
where r.app_id = %(app_id)s and not s.is_owner
union all
select s.staff_id, s.email, s.name, s.eid, s.is_owner, s.language, s.theme, s.created_at, s.disabled_at,
  s.password_hash is not null, '{}'::jsonb
from staff s
where s.is_owner
order by name, staff_id

-- name: find_staff
-- By id or by email.
-- scope: directory
select s.staff_id, s.email, s.name, s.eid, s.is_owner, s.language, s.theme, s.created_at, s.disabled_at,
  s.password_hash is not null as has_password,
  (
    select coalesce(jsonb_object_agg(r.app_id, r.role), '{}') from staff_roles r where r.staff_id = s.staff_id
  ) as roles
from staff s
where s.staff_id = %(key)s or s.email = %(key)s

-- name: change_staff
-- What is null stays.
-- scope: directory
update staff
set name = coalesce(%(name)s, name), language = coalesce(%(language)s, language), theme = coalesce(%(theme)s, theme)
where staff_id = %(staff_id)s

-- name: set_owner
-- scope: directory
update staff set is_owner = %(is_owner)s where staff_id = %(staff_id)s

-- name: disable_staff
-- scope: directory
update staff set disabled_at = coalesce(disabled_at, now()) where staff_id = %(staff_id)s

-- name: enable_staff
-- scope: directory
update staff set disabled_at = null where staff_id = %(staff_id)s

-- name: lock_owners
-- The owners who can sign in, locked, so that two requests cannot take away the last two.
-- scope: directory
select staff_id from staff where is_owner and disabled_at is null order by staff_id for update

-- name: set_role
-- scope: directory
insert into staff_roles (app_id, staff_id, role)
values (%(app_id)s, %(staff_id)s, %(role)s)
on conflict (app_id, staff_id) do update set role = excluded.role

-- name: drop_role
-- scope: directory
delete from staff_roles where app_id = %(app_id)s and staff_id = %(staff_id)s

-- name: find_password
-- Of whoever may sign in.
-- scope: directory
select staff_id, password_hash from staff where email = %(email)s and disabled_at is null

-- name: set_password
-- scope: directory
update staff set password_hash = %(password_hash)s where staff_id = %(staff_id)s

-- name: end_links
-- A link with which somebody chooses a password outlives neither another choice nor the account.
-- scope: directory
delete from staff_links where staff_id = %(staff_id)s

-- name: list_open_apps
-- The apps that a person may open, by name.
-- scope: directory
select a.app_id, a.name, a.time_zone, case when %(is_owner)s::boolean then 'admin' else r.role end as role
from apps a
left join staff_roles r on r.app_id = a.app_id and r.staff_id = %(staff_id)s
where (%(is_owner)s::boolean or r.role is not null)
  and (%(search)s::text = '' or a.app_id = %(search)s::text or strpos(lower(a.name), lower(%(search)s::text)) > 0)
order by lower(a.name), a.app_id
limit %(limit)s
