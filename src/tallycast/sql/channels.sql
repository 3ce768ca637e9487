-- name: add_channel
-- Add a channel under the next number of its app.
insert into channels (
  app_id, channel_number, channel_id, type, provider, phone, channel_name, source_name, secrets, rate
)
select %(app_id)s, coalesce(max(channel_number), 0) + 1, %(channel_id)s, %(type)s, %(provider)s, %(phone)s,
  %(channel_name)s, %(source_name)s, %(secrets)s, %(rate)s::float8
from channels
where app_id = %(app_id)s

-- name: list_channels
-- The channels of an app, the deleted ones left out.
select app_id, channel_number, channel_id, type, provider, phone, channel_name, source_name, secrets, created_at,
  rate::text::float8 as rate, paused_at, paused_reason, heard_at, heard, refused_at
from channels
where app_id = %(app_id)s and deleted_at is null
order by channel_number

-- name: find_channel
-- One channel of an app.
select app_id, channel_number, channel_id, type, provider, phone, channel_name, source_name, secrets, created_at,
  rate::text::float8 as rate, paused_at, paused_reason, heard_at, heard, refused_at
from channels
where app_id = %(app_id)s and channel_id = %(channel_id)s and deleted_at is null

-- name: hold_channel
-- Let one change of a channel follow the other.
select 1 from channels where app_id = %(app_id)s and channel_id = %(channel_id)s for update

-- name: change_channel
-- Change what may change; type and provider stay.
update channels
set phone = %(phone)s, channel_name = %(channel_name)s, source_name = %(source_name)s, secrets = %(secrets)s,
  rate = %(rate)s::float8
where app_id = %(app_id)s and channel_id = %(channel_id)s and deleted_at is null

-- name: delete_channel
-- Forget a channel and its secrets; its row stays for the campaigns that it sent.
update channels
set deleted_at = now(), secrets = null
where app_id = %(app_id)s and channel_id = %(channel_id)s and deleted_at is null

-- name: pause_channel
-- Send nothing over a channel any more, and say why.
update channels
set paused_at = now(), paused_reason = %(reason)s
where app_id = %(app_id)s and channel_number = %(channel_number)s and deleted_at is null and paused_at is null
returning channel_id, phone

-- name: resume_channel
-- Let a channel send again.
update channels
set paused_at = null, paused_reason = null
where app_id = %(app_id)s and channel_id = %(channel_id)s and deleted_at is null

-- name: note_heard
-- Note when channels were heard last, or a request that said to be theirs was refused; written now and then.
update channels c
set heard_at = greatest(c.heard_at, u.heard_at),
  heard = case when u.heard_at >= coalesce(c.heard_at, '-infinity') then u.heard else c.heard end,
  refused_at = greatest(c.refused_at, u.refused_at)
from unnest(
  %(channel_number)s::int[], %(heard_at)s::timestamptz[], %(heard)s::text[], %(refused_at)s::timestamptz[]
) as u (channel_number, heard_at, heard, refused_at)
where c.app_id = %(app_id)s and c.channel_number = u.channel_number
