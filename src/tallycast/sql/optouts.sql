-- name: merge_words
-- Merge what was said about who wants messages: of each sense the latest moment stays. A row per kind and recipient.
insert into opt_outs as o (app_id, kind, recipient, source, evidence, opted_out_at, opted_in_at)
select %(app_id)s, kind, recipient, source, evidence,
  'epoch'::timestamptz + opted_out_ms * interval '1 millisecond',
  'epoch'::timestamptz + opted_in_ms * interval '1 millisecond'
from unnest(
  %(kind)s::text[], %(recipient)s::text[], %(source)s::text[], %(evidence)s::text[], %(opted_out_ms)s::bigint[],
  %(opted_in_ms)s::bigint[]
) as t (kind, recipient, source, evidence, opted_out_ms, opted_in_ms)
order by kind collate "C", recipient collate "C"
on conflict (app_id, kind, recipient) do update
set source = case when excluded.opted_out_at is not null and (
      o.opted_out_at is null or (excluded.opted_out_at, excluded.source collate "C", excluded.evidence collate "C")
        > (o.opted_out_at, o.source collate "C", o.evidence collate "C")
    ) then excluded.source else o.source end,
  evidence = case when excluded.opted_out_at is not null and (
      o.opted_out_at is null or (excluded.opted_out_at, excluded.source collate "C", excluded.evidence collate "C")
        > (o.opted_out_at, o.source collate "C", o.evidence collate "C")
    ) then excluded.evidence else o.evidence end,
  opted_out_at = greatest(o.opted_out_at, excluded.opted_out_at),
  opted_in_at = greatest(o.opted_in_at, excluded.opted_in_at)

-- name: add
-- Opt out by order: now, and later than any word that is known. Who is opted out already stays so, with his evidence.
insert into opt_outs as o (app_id, kind, recipient, source, evidence, opted_out_at)
select %(app_id)s, %(kind)s, recipient, %(source)s, %(evidence)s, now()
from unnest(%(recipients)s::text[]) as t (recipient)
order by recipient collate "C"
on conflict (app_id, kind, recipient) do update
set source = excluded.source, evidence = excluded.evidence,
  opted_out_at = greatest(excluded.opted_out_at, o.opted_in_at + interval '1 microsecond')
where (o.opted_out_at >= coalesce(o.opted_in_at, '-infinity')) is not true

-- name: remove
-- Take opt-outs back by order: now, and later than any word that is known. How many were opted out.
update opt_outs
set opted_in_at = greatest(now(), opted_out_at + interval '1 microsecond'), taken_back = %(taken_back)s
where app_id = %(app_id)s and kind = %(kind)s and recipient = any(%(recipients)s::text[])
  and opted_out_at >= coalesce(opted_in_at, '-infinity')

-- name: list_opt_outs
-- Who is opted out, by kind and recipient; both kinds lie between the two that are asked for.
select kind, recipient, source, evidence, opted_out_at
from opt_outs
where app_id = %(app_id)s and kind >= %(first_kind)s and kind <= %(last_kind)s
  and opted_out_at >= coalesce(opted_in_at, '-infinity')
order by kind, recipient
limit %(limit)s offset %(offset)s

-- name: find_opt_outs
-- Whether one recipient is opted out, of which kinds, under whatever is known of him.
select kind, recipient, source, evidence, opted_out_at
from opt_outs
where app_id = %(app_id)s and kind >= %(first_kind)s and kind <= %(last_kind)s
  and recipient = any(%(recipients)s::text[])
  and opted_out_at >= coalesce(opted_in_at, '-infinity')
order by kind
limit %(limit)s offset %(offset)s

-- name: find_taken_back
-- Whose opt-out, of this recipient under whatever is known of him, was taken back, by whom and why.
select kind, recipient, taken_back, opted_in_at
from opt_outs
where app_id = %(app_id)s and kind = any(%(kinds)s::text[]) and recipient = any(%(recipients)s::text[])
  and taken_back <> '' and opted_in_at > opted_out_at
order by kind

-- name: find_blocked
-- Who of these is opted out: under the number or a digest, whatever was said last counts. Lateral with a limit: a
-- look-up each, however many are opted out.
select r.recipient
from unnest(%(recipients)s::text[], %(addresses)s::text[]) as r (recipient, address)
cross join lateral (
  select o.opted_out_at, o.opted_in_at from opt_outs o
  where o.app_id = %(app_id)s and o.kind = %(kind)s and o.recipient = r.address
  limit 1
) o
group by r.recipient
having max(o.opted_out_at) >= coalesce(max(o.opted_in_at), '-infinity')

-- name: rename
-- Keep what one person has said, under several addresses, under a digest; its own row, if there is one, is none of them.
with taken as materialized (
  delete from opt_outs
  where app_id = %(app_id)s and kind = any(%(kinds)s::text[]) and recipient = any(%(addresses)s::text[])
    and recipient <> %(digest)s
  returning kind, source, opted_out_at, opted_in_at
)
insert into opt_outs as o (app_id, kind, recipient, source, evidence, opted_out_at, opted_in_at)
select %(app_id)s, kind, %(digest)s, (array_agg(source order by opted_out_at desc nulls last))[1], '',
  max(opted_out_at), max(opted_in_at)
from taken
group by kind
on conflict (app_id, kind, recipient) do update
set source = case when (excluded.opted_out_at > o.opted_out_at) is false then o.source else excluded.source end,
  opted_out_at = greatest(o.opted_out_at, excluded.opted_out_at),
  opted_in_at = greatest(o.opted_in_at, excluded.opted_in_at)

-- name: learn_identities
-- Write whose number a user id is; only those that are new, or belong to another number now, come back.
insert into identities as i (app_id, user_id, recipient)
select %(app_id)s, user_id, recipient
from unnest(%(user_id)s::text[], %(recipient)s::text[]) as t (user_id, recipient)
order by user_id collate "C"
on conflict (app_id, user_id) do update set recipient = excluded.recipient, learned_at = now()
where i.recipient <> excluded.recipient
returning i.user_id, i.recipient

-- name: name_identities
-- The numbers of user ids, '' where they are not known. The row is written all the same, and locked until the commit:
-- who learns the number meanwhile waits, and then finds what was kept under the id.
insert into identities as i (app_id, user_id, recipient)
select %(app_id)s, user_id, ''
from unnest(%(user_id)s::text[]) as t (user_id)
order by user_id collate "C"
on conflict (app_id, user_id) do update set recipient = i.recipient
returning i.user_id, i.recipient

-- name: take_nameless
-- Take out what was kept under user ids whose number is known now.
delete from opt_outs o
where o.app_id = %(app_id)s and o.kind = %(kind)s and o.recipient = any(%(user_id)s::text[])
returning o.recipient, o.source, o.evidence, (extract(epoch from o.opted_out_at) * 1000)::bigint as opted_out_ms,
  (extract(epoch from o.opted_in_at) * 1000)::bigint as opted_in_ms
