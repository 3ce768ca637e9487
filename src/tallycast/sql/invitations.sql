-- name: add_link
-- scope: directory
insert into staff_links (hash, staff_id, expires_at)
values (%(hash)s, %(staff_id)s, now() + %(lifetime)s::interval)

-- name: find_link
-- Whose link it is; one for the first owner is over as soon as there is anybody.
-- scope: directory
select l.staff_id, s.email, s.name
from staff_links l
left join staff s on s.staff_id = l.staff_id and s.disabled_at is null
where l.hash = %(hash)s and l.expires_at > now()
  and case when l.staff_id is null then not exists (select from staff) else s.staff_id is not null end

-- name: spend_link
-- scope: directory
delete from staff_links where hash = %(hash)s and expires_at > now() returning staff_id

-- name: drop_links
-- The links of a person.
-- scope: directory
delete from staff_links where staff_id = %(staff_id)s

-- name: forget_links
-- Links that are over.
-- scope: directory
delete from staff_links
where expires_at < now() or (staff_id is null and exists (select from staff))
