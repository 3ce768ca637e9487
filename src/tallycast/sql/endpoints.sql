-- name: hold_app
-- Let one new endpoint follow the other: together they must not be too many.
-- scope: directory
select 1 from apps where app_id = %(app_id)s for no key update

-- name: add_endpoint
-- Add an endpoint.
insert into webhook_endpoints (app_id, endpoint_id, url, description, events, secret)
values (%(app_id)s, %(endpoint_id)s, %(url)s, %(description)s, %(events)s::text[], %(secret)s)

-- name: list_endpoints
-- The endpoints of an app, the oldest first.
select app_id, endpoint_id, url, description, events, secret, case when old_until > now() then old_secret end as old_secret,
  created_at, failing_since, disabled_at, disabled_reason
from webhook_endpoints
where app_id = %(app_id)s
order by created_at, endpoint_id

-- name: find_endpoint
-- One endpoint.
select app_id, endpoint_id, url, description, events, secret, case when old_until > now() then old_secret end as old_secret,
  created_at, failing_since, disabled_at, disabled_reason
from webhook_endpoints
where app_id = %(app_id)s and endpoint_id = %(endpoint_id)s

-- name: hold_endpoint
-- Let one change of an endpoint follow the other.
select 1 from webhook_endpoints where app_id = %(app_id)s and endpoint_id = %(endpoint_id)s for update

-- name: change_endpoint
-- Change what may change. One that is enabled again has all its patience back.
update webhook_endpoints
set url = %(url)s, description = %(description)s, events = %(events)s::text[],
  disabled_at = case when %(is_disabled)s then coalesce(disabled_at, now()) end,
  disabled_reason = case when %(is_disabled)s then coalesce(disabled_reason, %(reason)s) end,
  failing_since = case when %(is_disabled)s then failing_since
    when disabled_at is null and url = %(url)s then failing_since end
where app_id = %(app_id)s and endpoint_id = %(endpoint_id)s

-- name: rotate_secret
-- A new secret; the one before it signs too for a while.
update webhook_endpoints
set old_secret = secret, old_until = now() + %(seconds)s * interval '1 second', secret = %(secret)s
where app_id = %(app_id)s and endpoint_id = %(endpoint_id)s

-- name: delete_endpoint
-- Forget an endpoint.
delete from webhook_endpoints where app_id = %(app_id)s and endpoint_id = %(endpoint_id)s

-- name: delete_notices
-- Forget what an endpoint was told.
delete from notices where app_id = %(app_id)s and endpoint_id = %(endpoint_id)s

-- name: note_success
-- An endpoint takes what it is told.
update webhook_endpoints
set failing_since = null
where app_id = %(app_id)s and endpoint_id = %(endpoint_id)s and failing_since is not null

-- name: note_failure
-- An endpoint does not take what it is told; whether that has gone on for too long.
update webhook_endpoints
set failing_since = coalesce(failing_since, now())
where app_id = %(app_id)s and endpoint_id = %(endpoint_id)s and disabled_at is null
returning failing_since < now() - %(patience)s * interval '1 second'

-- name: disable_endpoint
-- Tell an endpoint nothing any more.
update webhook_endpoints
set disabled_at = now(), disabled_reason = %(reason)s
where app_id = %(app_id)s and endpoint_id = %(endpoint_id)s and disabled_at is null

-- name: fail_waiting
-- What waits for an endpoint that is told nothing any more.
update notices
set state = 'failed', due_at = null, answer = case when attempts = 0 then %(reason)s else answer end
where app_id = %(app_id)s and endpoint_id = %(endpoint_id)s and state = 'waiting'
