-- name: list_keys
-- The keys of an app's digests, sealed, the newest first.
select version, secret from digest_keys where app_id = %(app_id)s order by version desc

-- name: add_key
-- A key of this version; that of who was quicker stays.
insert into digest_keys (app_id, version, secret)
values (%(app_id)s, %(version)s, %(secret)s)
on conflict do nothing
