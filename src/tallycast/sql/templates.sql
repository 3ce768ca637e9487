-- name: forget_templates
-- Make room for a new list of a channel's templates.
delete from templates where app_id = %(app_id)s and channel_number = %(channel_number)s

-- name: keep_templates
-- Keep a channel's templates as the provider lists them; of two lists at once the later one stays.
insert into templates (app_id, channel_number, name, language, status, category, components)
select %(app_id)s, %(channel_number)s, t.name, t.language, t.status, t.category, t.components::jsonb
from unnest(
  %(names)s::text[], %(languages)s::text[], %(statuses)s::text[], %(categories)s::text[], %(components)s::text[]
) as t (name, language, status, category, components)
on conflict (app_id, channel_number, name, language) do update
set status = excluded.status, category = excluded.category, components = excluded.components, listed_at = now()

-- name: list_templates
-- A channel's templates, as the provider listed them last.
select name, language, status, category, components
from templates
where app_id = %(app_id)s and channel_number = %(channel_number)s
order by name, language

-- name: find_age
-- When a channel's templates were listed last, and how many seconds ago that was.
select listed_at, extract(epoch from now() - listed_at)::float8
from templates
where app_id = %(app_id)s and channel_number = %(channel_number)s
limit 1
