-- name: claim_trials
-- Claim test messages of a channel: they go before everything else. One that was asked for long ago would surprise.
with picked as (
  select trial_id from trials
  where app_id = %(app_id)s and channel_number = %(channel_number)s and outcome is null and claimed_by is null
    and asked_at > now() - %(seconds)s * interval '1 second'
  order by asked_at
  limit 10
  for update skip locked
)
update trials t
set claimed_by = %(worker)s
from picked p
where t.app_id = %(app_id)s and t.trial_id = p.trial_id
returning t.trial_id, t.campaign_id, t.recipient, t.content, t.variables

-- name: answer_trial
-- What became of a test message.
update trials
set outcome = %(outcome)s, message_id = %(message_id)s, reason = %(reason)s, answered_at = now()
where app_id = %(app_id)s and trial_id = %(trial_id)s and outcome is null

-- name: note_trial_ids
-- Receipts for a test message, or one of its parts, belong to no message of the campaign: the ids are known, and count
-- nowhere.
insert into attempts (app_id, channel_number, message_id, campaign_id, seq, part)
select %(app_id)s, %(channel_number)s, message_id, %(campaign_id)s, %(seq)s, -1
from unnest(%(message_ids)s::text[]) as t (message_id)
on conflict (app_id, channel_number, message_id) do nothing

-- name: give_up_trials
-- Test messages that a worker took with it when it ended.
update trials
set outcome = 'unknown', reason = %(reason)s, answered_at = now()
where app_id = %(app_id)s and channel_number = %(channel_number)s and outcome is null
  and claimed_by is not null and claimed_by <> %(worker)s

-- name: ask_trial
-- Have a test message sent.
insert into trials (app_id, trial_id, channel_number, campaign_id, recipient, variables, content, asked_as)
values (
  %(app_id)s, %(trial_id)s::uuid, %(channel_number)s, %(campaign_id)s, %(recipient)s, %(variables)s::text[],
  %(content)s, %(asked_as)s
)

-- name: find_trial
-- What became of a campaign's test message. One that no worker took in time was refused.
select t.trial_id::text as trial_id, t.recipient, t.message_id,
  case when late.is_late then 'refused' else coalesce(t.outcome, 'waiting') end as outcome,
  case when late.is_late then %(late)s::text else nullif(t.reason, '') end as reason
from trials t
cross join lateral (
  select t.outcome is null and t.claimed_by is null and t.asked_at <= now() - %(seconds)s * interval '1 second' as is_late
) late
where t.app_id = %(app_id)s and t.campaign_id = %(campaign_id)s and t.trial_id = %(trial_id)s
