-- name: list_channels
-- The channels that have secrets.
select channel_id, secrets from channels where app_id = %(app_id)s and secrets is not null

-- name: list_endpoints
-- The webhook endpoints.
select endpoint_id, secret from webhook_endpoints where app_id = %(app_id)s

-- name: list_old_secrets
-- The webhook endpoints whose secret was changed.
select endpoint_id, old_secret from webhook_endpoints where app_id = %(app_id)s and old_secret is not null

-- name: list_digest_keys
-- The keys of digests.
select version::text, secret from digest_keys where app_id = %(app_id)s

-- name: reseal_channel
-- The same secrets under another key, unless somebody changed them meanwhile.
update channels
set secrets = %(resealed)s
where app_id = %(app_id)s and channel_id = %(name)s and secrets = %(sealed)s

-- name: reseal_endpoint
-- The same secret under another key.
update webhook_endpoints
set secret = %(resealed)s
where app_id = %(app_id)s and endpoint_id = %(name)s and secret = %(sealed)s

-- name: reseal_old_secret
-- The same for the secret before it.
update webhook_endpoints
set old_secret = %(resealed)s
where app_id = %(app_id)s and endpoint_id = %(name)s and old_secret = %(sealed)s

-- name: reseal_digest_key
-- The same digests, from the same secret under another key.
update digest_keys
set secret = %(resealed)s
where app_id = %(app_id)s and version = %(name)s::int and secret = %(sealed)s
