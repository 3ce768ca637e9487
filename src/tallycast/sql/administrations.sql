-- name: add_entry
-- Written beside the change that it tells of.
insert into administrations (app_id, entry_id, actor, action, subject, details, address)
values (%(app_id)s, %(entry_id)s, %(actor)s, %(action)s, %(subject)s, %(details)s::jsonb, %(address)s)

-- name: add_entry_once
-- The same, unless it was written a short while ago: what others can repeat must not fill the table.
insert into administrations (app_id, entry_id, actor, action, subject, details, address)
select %(app_id)s, %(entry_id)s, %(actor)s, %(action)s, %(subject)s, %(details)s::jsonb, %(address)s
where not exists (
  select from administrations a
  where a.app_id = %(app_id)s and a.at > now() - %(seconds)s * interval '1 second'
    and a.action = %(action)s and a.subject = %(subject)s
)

-- name: list_entries
-- The entries of a period, the latest first.
select entry_id::text, at, actor, action, subject, details::text, address
from administrations
where app_id = %(app_id)s
  and at >= coalesce(%(start_at)s::timestamptz, '-infinity') and at < coalesce(%(end_at)s::timestamptz, 'infinity')
  and (%(action)s::text is null or action = %(action)s::text)
order by at desc, entry_id
limit %(limit)s offset %(offset)s
