-- name: claim_trials
-- Claim test messages of a channel: they go before everything else.
with picked as (
  select trial_id from trials
  where app_id = %(app_id)s and channel_number = %(channel_number)s and outcome is null and claimed_by is null
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

-- name: note_trial_id
-- Receipts for a test message belong to no message of the campaign: its id is known, and counts nowhere.
insert into attempts (app_id, channel_number, message_id, campaign_id, seq, part)
values (%(app_id)s, %(channel_number)s, %(message_id)s, %(campaign_id)s, %(seq)s, -1)
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
-- What became of a campaign's test message.
select trial_id::text as trial_id, recipient, coalesce(outcome, 'waiting') as outcome, message_id,
  nullif(reason, '') as reason
from trials
where app_id = %(app_id)s and campaign_id = %(campaign_id)s and trial_id = %(trial_id)s
