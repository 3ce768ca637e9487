-- name: claim_key
-- Claim an Idempotency-Key; a claim that another transaction holds is waited for.
insert into idempotency_keys (app_id, key, fingerprint)
values (%(app_id)s, %(key)s, %(fingerprint)s)
on conflict (app_id, key) do nothing

-- name: find_key
-- What was answered for a key.
select fingerprint, status, answer from idempotency_keys where app_id = %(app_id)s and key = %(key)s

-- name: keep_answer
-- Keep the answer for a key, in the transaction that did the work.
update idempotency_keys set status = %(status)s, answer = %(answer)s where app_id = %(app_id)s and key = %(key)s

-- name: forget_keys
-- Keys older than a week are forgotten.
delete from idempotency_keys where app_id = %(app_id)s and created_at < now() - interval '7 days'
