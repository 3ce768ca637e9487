-- name: add_import
-- A file that waits to be read, or for a person's word on its columns, from now on: storing it may have taken a while.
insert into imports (
  app_id, import_id, campaign_id, state, file_name, media_type, keeps_valid, mapping, bytes, header, asked_as, created_at
)
values (
  %(app_id)s, %(import_id)s, %(campaign_id)s, %(state)s, %(file_name)s, %(media_type)s, %(keeps_valid)s,
  %(mapping)s::jsonb, %(bytes)s, %(header)s::text[], %(asked_as)s, clock_timestamp()
)

-- name: release_import
-- Let a worker read a file that was held.
update imports
set state = 'waiting', mapping = %(mapping)s::jsonb, keeps_valid = %(keeps_valid)s, created_at = clock_timestamp()
where app_id = %(app_id)s and import_id = %(import_id)s and state = 'uploading'

-- name: drop_held
-- Forget the files of a campaign that wait for a person's word on their columns.
with gone as materialized (
  delete from imports where app_id = %(app_id)s and campaign_id = %(campaign_id)s and state = 'uploading'
  returning import_id
)
delete from import_chunks where app_id = %(app_id)s and import_id = any(array(select import_id from gone))

-- name: drop_old_held
-- The same for all campaigns of an app, where nobody has said a word for long.
with gone as materialized (
  delete from imports
  where app_id = %(app_id)s and state = 'uploading' and created_at < now() - %(seconds)s * interval '1 second'
  returning import_id
)
delete from import_chunks where app_id = %(app_id)s and import_id = any(array(select import_id from gone))

-- name: add_chunk
-- A piece of the file.
insert into import_chunks (app_id, import_id, n, data) values (%(app_id)s, %(import_id)s, %(n)s, %(data)s)

-- name: find_chunk
-- A piece of the file.
select data from import_chunks where app_id = %(app_id)s and import_id = %(import_id)s and n = %(n)s

-- name: delete_chunks
-- The file is not needed any more.
delete from import_chunks where app_id = %(app_id)s and import_id = %(import_id)s

-- name: find_import
-- How an import goes.
select import_id::text, campaign_id, state, file_name, media_type, keeps_valid, mapping::text, bytes, bytes_read,
  first_seq, rows, accepted, duplicate, opted_out, invalid, landline, header, reason, asked_as, created_at, ended_at
from imports
where app_id = %(app_id)s and import_id = %(import_id)s

-- name: list_imports
-- A page of a campaign's imports, the latest first.
select import_id::text, campaign_id, state, file_name, media_type, keeps_valid, mapping::text, bytes, bytes_read,
  first_seq, rows, accepted, duplicate, opted_out, invalid, landline, header, reason, asked_as, created_at, ended_at
from imports
where app_id = %(app_id)s and campaign_id = %(campaign_id)s
order by created_at desc, import_id
limit %(limit)s offset %(offset)s

-- name: list_waiting
-- The imports that a worker has to do or to finish, the oldest first.
select import_id::text
from imports
where app_id = %(app_id)s and state in ('waiting', 'running')
order by created_at

-- name: is_importing
-- Whether a campaign's audience is about to change.
select 1
from imports
where app_id = %(app_id)s and campaign_id = %(campaign_id)s and state in ('waiting', 'running')
limit 1

-- name: hold_import
-- Let one batch follow the other; the rows say how far the import has come.
select rows
from imports
where app_id = %(app_id)s and import_id = %(import_id)s and state in ('waiting', 'running')
for update

-- name: start_import
-- Start, or start over.
update imports
set state = 'running', bytes_read = 0, rows = 0, accepted = 0, duplicate = 0, opted_out = 0, invalid = 0,
  landline = 0, header = '{}', reason = '',
  first_seq = (select total from counts where app_id = %(app_id)s and campaign_id = %(campaign_id)s)
where app_id = %(app_id)s and import_id = %(import_id)s

-- name: note_header
-- The first row of the file.
update imports
set header = %(header)s::text[]
where app_id = %(app_id)s and import_id = %(import_id)s and state = 'running'

-- name: note_progress
-- Count the rows of a batch.
update imports
set rows = rows + %(rows)s, accepted = accepted + %(accepted)s, duplicate = duplicate + %(duplicate)s,
  opted_out = opted_out + %(opted_out)s, invalid = invalid + %(invalid)s, landline = landline + %(landline)s,
  bytes_read = greatest(bytes_read, %(bytes_read)s)
where app_id = %(app_id)s and import_id = %(import_id)s

-- name: end_import
-- The last word on an import.
update imports
set state = %(state)s, reason = %(reason)s, ended_at = now(),
  bytes_read = case when %(state)s = 'done' then bytes else bytes_read end
where app_id = %(app_id)s and import_id = %(import_id)s

-- name: find_known
-- Which recipients the campaign has already. Lateral with a limit: a look-up each, whatever the campaign's size.
select m.recipient, m.seq
from unnest(%(recipients)s::text[]) as r (recipient)
cross join lateral (
  select k.recipient, k.seq
  from messages k
  where k.app_id = %(app_id)s and k.campaign_id = %(campaign_id)s and k.recipient = r.recipient
  limit 1
) m

-- name: add_recipients
-- Add a batch to the audience; the campaign is a draft and the import is held, so nobody else does.
insert into messages (
  app_id, campaign_id, seq, channel_number, parts, recipient, country, content, variables
)
select %(app_id)s, %(campaign_id)s, seq, %(channel_number)s, parts, recipient, country, content, variables
from json_to_recordset(%(messages)s::json) as t (
  seq int, parts int, recipient text, country text, content text, variables text[]
)

-- name: move_counts
-- Count a batch, if all that was there before was counted.
update counts
set total = total + %(accepted)s, queued = queued + %(accepted)s, changed_at = now()
where app_id = %(app_id)s and campaign_id = %(campaign_id)s and total = %(total)s

-- name: add_errors
-- Keep the rows that were not taken.
insert into import_errors (app_id, import_id, n, line, cells, error)
select %(app_id)s, %(import_id)s, n, line, cells, error
from json_to_recordset(%(errors)s::json) as t (n int, line int, cells text[], error text)

-- name: list_errors
-- A page of the rows that were not taken, in the file's order.
select n, line, cells, error
from import_errors
where app_id = %(app_id)s and import_id = %(import_id)s and n >= %(from_n)s
order by n
limit %(limit)s

-- name: delete_errors
-- The error log of an import that starts over.
delete from import_errors where app_id = %(app_id)s and import_id = %(import_id)s

-- name: take_back
-- Remove what an import, or everything that came from any, has added to a draft, and its counts. Who was erased
-- meanwhile has failed; all others are queued.
with gone as materialized (
  delete from messages
  where app_id = %(app_id)s and campaign_id = %(campaign_id)s and seq >= %(from_seq)s
  returning message_state(accepted_at, delivered_at, read_at, failed_at) as state
)
update counts
set total = total - (select count(*) from gone),
  queued = queued - (select count(*) from gone where state = 'queued'),
  failed = failed - (select count(*) from gone where state = 'failed'), changed_at = now()
where app_id = %(app_id)s and campaign_id = %(campaign_id)s

-- name: change_columns
-- The variables that the messages of a campaign have.
update sendings
set columns = %(columns)s::text[]
where app_id = %(app_id)s and campaign_id = %(campaign_id)s
