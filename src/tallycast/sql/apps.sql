-- name: add_app
-- scope: directory
insert into apps (app_id, app_key, name)
values (%(app_id)s, %(app_key)s, %(name)s)
on conflict do nothing
returning created_at

-- name: list_apps
-- scope: directory
select app_id, app_key, name, created_at from apps order by created_at, app_id

-- name: find_app
-- scope: directory
select app_id, app_key, name, created_at from apps where app_id = %(app_id)s

-- name: find_app_by_key
-- scope: directory
select app_id, app_key, name, created_at from apps where app_key = %(app_key)s

-- name: wake
-- scope: directory
update apps set woken_at = clock_timestamp() where app_id = %(app_id)s

-- name: add_token
-- Store a token by its hash; the token itself is shown once and kept nowhere.
insert into tokens (app_id, token_id, hash, name, scopes, expires_at)
values (%(app_id)s, %(token_id)s, %(hash)s, %(name)s, %(scopes)s::text[], %(expires_at)s)
returning token_id, name, scopes, created_at, expires_at, last_used_at, revoked_at

-- name: list_tokens
-- All tokens of an app, without anything that could be used as one.
select token_id, name, scopes, created_at, expires_at, last_used_at, revoked_at
from tokens
where app_id = %(app_id)s
order by created_at, token_id

-- name: revoke_token
-- Revoke once; a second time changes nothing.
update tokens
set revoked_at = coalesce(revoked_at, now())
where app_id = %(app_id)s and token_id = %(token_id)s
returning token_id, name, scopes, created_at, expires_at, last_used_at, revoked_at

-- name: find_token
-- The token with this hash, for the check of a request.
select token_id, name, scopes, expires_at, revoked_at
from tokens
where app_id = %(app_id)s and hash = %(hash)s

-- name: mark_used
-- Note the last use of tokens, written now and then and not per request.
update tokens t
set last_used_at = greatest(t.last_used_at, u.used_at)
from unnest(%(token_id)s::text[], %(used_at)s::timestamptz[]) as u (token_id, used_at)
where t.app_id = %(app_id)s and t.token_id = u.token_id
