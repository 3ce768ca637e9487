-- name: is_heard
-- Whether any endpoint is to be told of an event.
select 1
from webhook_endpoints
where app_id = %(app_id)s and disabled_at is null and (events = '{}' or %(type)s = any(events))
limit 1

-- name: add_notices
-- Tell all endpoints that listen: nothing happens where there is none.
insert into notices (app_id, notice_id, endpoint_id, type, campaign_id, body)
select %(app_id)s, 'msg_' || replace(gen_random_uuid()::text, '-', ''), e.endpoint_id, %(type)s, t.campaign_id, t.body
from unnest(%(campaign_ids)s::bigint[], %(bodies)s::text[]) as t (campaign_id, body)
join webhook_endpoints e on e.app_id = %(app_id)s and e.disabled_at is null
  and (e.events = '{}' or %(type)s = any(e.events))

-- name: add_notice
-- Tell one endpoint, whatever it listens to.
insert into notices (app_id, notice_id, endpoint_id, type, body)
values (%(app_id)s, %(notice_id)s, %(endpoint_id)s, %(type)s, %(body)s)

-- name: find_next
-- When there is something to do for the endpoints of an app; null for never.
select least(
  (
    select min(n.due_at)
    from webhook_endpoints e
    cross join lateral (
      select n.due_at
      from notices n
      where n.app_id = %(app_id)s and n.endpoint_id = e.endpoint_id and n.state = 'waiting'
      order by n.due_at
      limit 1
    ) n
    where e.app_id = %(app_id)s and e.disabled_at is null
  ),
  (
    select w.looked_at + %(seconds)s * interval '1 second' from figure_watches w where w.app_id = %(app_id)s
  )
)

-- name: list_due_endpoints
-- The endpoints for which something is due.
select e.endpoint_id
from webhook_endpoints e
where e.app_id = %(app_id)s and e.disabled_at is null and exists (
  select from notices n
  where n.app_id = %(app_id)s and n.endpoint_id = e.endpoint_id and n.state = 'waiting' and n.due_at <= now()
)

-- name: list_due
-- What is due for an endpoint, the oldest first.
select notice_id, campaign_id, body, attempts
from notices
where app_id = %(app_id)s and endpoint_id = %(endpoint_id)s and state = 'waiting' and due_at <= now()
order by due_at, created_at
limit %(limit)s

-- name: note_attempt
-- What became of an attempt; without a delay it was the last one.
update notices
set state = %(state)s, attempts = attempts + 1, attempted_at = now(), status = %(status)s, answer = %(answer)s,
  due_at = now() + %(delay)s::float8 * interval '1 second'
where app_id = %(app_id)s and notice_id = %(notice_id)s and state = 'waiting'

-- name: list_notices
-- A page of what an endpoint was told, the latest first.
select notice_id, endpoint_id, type, campaign_id, body, state, created_at, due_at, attempts, attempted_at, status, answer
from notices
where app_id = %(app_id)s and endpoint_id = %(endpoint_id)s
order by created_at desc, notice_id
limit %(limit)s offset %(offset)s

-- name: list_notices_of_state
-- The same of one state, by an index of its own.
select notice_id, endpoint_id, type, campaign_id, body, state, created_at, due_at, attempts, attempted_at, status, answer
from notices
where app_id = %(app_id)s and endpoint_id = %(endpoint_id)s and state = %(state)s
order by created_at desc, notice_id
limit %(limit)s offset %(offset)s

-- name: find_notice
-- One of them.
select notice_id, endpoint_id, type, campaign_id, body, state, created_at, due_at, attempts, attempted_at, status, answer
from notices
where app_id = %(app_id)s and endpoint_id = %(endpoint_id)s and notice_id = %(notice_id)s

-- name: send_again
-- Tell it once more, with all the patience of the first time.
update notices
set state = 'waiting', due_at = now(), attempts = 0
where app_id = %(app_id)s and endpoint_id = %(endpoint_id)s and notice_id = %(notice_id)s

-- name: forget_notices
-- Forget what was told long ago, endpoint by endpoint.
delete from notices n
using webhook_endpoints e
where n.app_id = %(app_id)s and e.app_id = %(app_id)s and n.endpoint_id = e.endpoint_id
  and n.created_at < now() - %(seconds)s * interval '1 second'
