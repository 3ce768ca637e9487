-- name: list_user_ids
-- The provider's own ids of a person.
select user_id from identities where app_id = %(app_id)s and recipient = %(recipient)s order by user_id

-- name: find_places
-- The messages of a person, by number or digest, campaign by campaign: a look-up in each.
select c.campaign_id, m.seq, m.channel_number, m.recipient, c.name, m.variables,
  exists (select from sendings s where s.app_id = %(app_id)s and s.campaign_id = c.campaign_id)
    and m.state = 'queued' as waits
from campaigns c
cross join lateral (
  select seq, channel_number, recipient, variables,
    message_state(accepted_at, delivered_at, read_at, failed_at) as state
  from messages m
  where m.app_id = %(app_id)s and m.campaign_id = c.campaign_id and m.recipient = any(%(addresses)s::text[])
) m
where c.app_id = %(app_id)s
order by c.campaign_id, m.seq

-- name: list_texts
-- What a person wrote.
select c.channel_id, t.body, t.message_id, t.received_at
from texts t
cross join lateral (
  select channel_id from channels c
  where c.app_id = %(app_id)s and c.channel_number = t.channel_number
  limit 1
) c
where t.app_id = %(app_id)s and t.sender = any(%(senders)s::text[])
order by t.received_at, t.inbound_id

-- name: list_words
-- Whether a person wants messages, under whatever he is known.
select kind, recipient, source, evidence, opted_out_at, opted_in_at
from opt_outs
where app_id = %(app_id)s and kind = any(%(kinds)s::text[]) and recipient = any(%(addresses)s::text[])
order by kind, recipient

-- name: list_trials
-- The test messages to a number.
select campaign_id, content, variables, asked_as, asked_at, outcome
from trials
where app_id = %(app_id)s and recipient = %(recipient)s
order by asked_at

-- name: list_import_errors
-- The rows of files with a number that were not taken.
select i.campaign_id, e.line, e.cells, e.error
from import_errors e
cross join lateral (
  select campaign_id from imports i where i.app_id = %(app_id)s and i.import_id = e.import_id limit 1
) i
where e.app_id = %(app_id)s and array_to_string(e.cells, ' | ') ~ %(pattern)s::text
order by i.campaign_id, e.line

-- name: list_unreadable
-- The bodies with a number that were not understood.
select raw from unreadable
where app_id = %(app_id)s and position(convert_to(%(digits)s::text, 'UTF8') in raw) > 0
order by first_at

-- name: list_erasures_of
-- When a person was erased.
select erasure_id::text, digest, asked_as, erased_at, touched::text
from erasures
where app_id = %(app_id)s and digest = any(%(digests)s::text[])
order by erased_at

-- name: is_importing
-- Whether any audience of the app is about to change.
select 1 from imports where app_id = %(app_id)s and state in ('uploading', 'waiting', 'running') limit 1

-- name: hold_sending
-- Nothing of the campaign is claimed meanwhile.
select 1 from sendings where app_id = %(app_id)s and campaign_id = %(campaign_id)s for update

-- name: hold_handover
-- Where the message waits, if it does.
select status from handovers
where app_id = %(app_id)s and campaign_id = %(campaign_id)s and seq = %(seq)s
for update

-- name: hold_message
-- Whether the message is still not handed over.
select message_state(accepted_at, delivered_at, read_at, failed_at) = 'queued'
from messages
where app_id = %(app_id)s and campaign_id = %(campaign_id)s and seq = %(seq)s
for update

-- name: erase_texts
-- What the person wrote.
delete from texts where app_id = %(app_id)s and sender = any(%(senders)s::text[])

-- name: erase_trials
-- Test messages to the person; that their ids belong to no recipient stays known.
with gone as materialized (
  delete from trials where app_id = %(app_id)s and recipient = %(recipient)s
  returning channel_number, message_id
),
ids as (
  update attempts a
  set message_id = anonymous_id(a.message_id)
  from gone g
  where a.app_id = %(app_id)s and a.channel_number = g.channel_number and a.message_id = g.message_id
)
select from gone

-- name: erase_import_errors
-- Rows of files with the number.
delete from import_errors where app_id = %(app_id)s and array_to_string(cells, ' | ') ~ %(pattern)s::text

-- name: mask_imports
-- What is kept of files: their first row, which may be no header.
update imports
set header = '{}', mapping = '{}', file_name = '', reason = ''
where app_id = %(app_id)s
  and concat_ws(' | ', array_to_string(header, ' | '), mapping::text, file_name, reason) ~ %(pattern)s::text

-- name: erase_unreadable
-- Bodies with the number that were not understood.
delete from unreadable where app_id = %(app_id)s and position(convert_to(%(digits)s::text, 'UTF8') in raw) > 0

-- name: erase_parked
-- Receipts whose message nobody has, by an id that holds the number.
delete from parked
where app_id = %(app_id)s and (message_id ~ %(pattern)s::text or message_id like any(%(encodings)s::text[]))

-- name: erase_identities
-- The provider's own ids of the person.
delete from identities
where app_id = %(app_id)s and (recipient = %(recipient)s or user_id = any(%(senders)s::text[]))

-- name: mask_notices
-- What other systems were told.
update notices
set body = regexp_replace(body, %(pattern)s::text, %(digest)s::text, 'g'),
  answer = regexp_replace(answer, %(pattern)s::text, %(digest)s::text, 'g')
where app_id = %(app_id)s and (body ~ %(pattern)s::text or answer ~ %(pattern)s::text)

-- name: mask_transitions
-- What people have noted.
update transitions
set note = regexp_replace(note, %(pattern)s::text, %(digest)s::text, 'g')
where app_id = %(app_id)s and note ~ %(pattern)s::text

-- name: mask_sendings
-- Why a campaign is paused may be in a provider's words.
update sendings
set paused_reason = regexp_replace(paused_reason, %(pattern)s::text, %(digest)s::text, 'g')
where app_id = %(app_id)s and paused_reason ~ %(pattern)s::text

-- name: mask_administrations
-- What people have typed as names and reasons.
update administrations
set actor = regexp_replace(actor, %(pattern)s::text, %(digest)s::text, 'g'),
  subject = regexp_replace(subject, %(pattern)s::text, %(digest)s::text, 'g'),
  details = regexp_replace(details::text, %(pattern)s::text, %(digest)s::text, 'g')::jsonb
where app_id = %(app_id)s and concat_ws(' | ', actor, subject, details::text) ~ %(pattern)s::text

-- name: mask_channels
-- The same for channels.
update channels
set paused_reason = regexp_replace(paused_reason, %(pattern)s::text, %(digest)s::text, 'g')
where app_id = %(app_id)s and paused_reason ~ %(pattern)s::text

-- name: mask_answers
-- What is answered when a request is repeated.
update idempotency_keys
set answer = convert_to(
  regexp_replace(convert_from(answer, 'UTF8'), %(pattern)s::text, %(digest)s::text, 'g'), 'UTF8'
)
where app_id = %(app_id)s and position(convert_to(%(digits)s::text, 'UTF8') in answer) > 0

-- name: mask_insights
-- Failures by title, as they were computed.
update insights
set body = regexp_replace(body::text, %(pattern)s::text, %(digest)s::text, 'g')::jsonb
where app_id = %(app_id)s and body::text ~ %(pattern)s::text

-- name: add_erasure
-- Write down that a person was erased.
insert into erasures (app_id, erasure_id, digest, asked_as, touched)
values (%(app_id)s, %(erasure_id)s::uuid, %(digest)s, %(asked_as)s, %(touched)s::jsonb)
returning erasure_id::text, digest, asked_as, erased_at, touched::text

-- name: list_erasures
-- A page of who was erased, the latest first.
select erasure_id::text, digest, asked_as, erased_at, touched::text
from erasures
where app_id = %(app_id)s
order by erased_at desc, erasure_id
limit %(limit)s offset %(offset)s
