-- name: find_policy
-- scope: directory
select requires_approval, time_zone, quiet_from, quiet_until, stop_words, start_words, stale_minutes,
  retention_days, retention_mode
from apps
where app_id = %(app_id)s

-- name: change_policy
-- What is null stays; quiet hours and retention, which may become null, say whether they change. A
-- worker looks at a changed retention at once.
-- scope: directory
update apps
set requires_approval = coalesce(%(requires_approval)s::boolean, requires_approval),
  time_zone = coalesce(%(time_zone)s::text, time_zone),
  quiet_from = case when %(changes_quiet)s::boolean then %(quiet_from)s::time else quiet_from end,
  quiet_until = case when %(changes_quiet)s::boolean then %(quiet_until)s::time else quiet_until end,
  stop_words = coalesce(%(stop_words)s::text[], stop_words),
  start_words = coalesce(%(start_words)s::text[], start_words),
  stale_minutes = coalesce(%(stale_minutes)s::int, stale_minutes),
  retention_days = case when %(changes_retention)s::boolean then %(retention_days)s::int else retention_days end,
  retention_mode = case when %(changes_retention)s::boolean then %(retention_mode)s::text else retention_mode end,
  retained_at = case when %(changes_retention)s::boolean then null else retained_at end,
  woken_at = case when %(changes_retention)s::boolean then clock_timestamp() else woken_at end
where app_id = %(app_id)s
returning requires_approval, time_zone, quiet_from, quiet_until, stop_words, start_words, stale_minutes,
  retention_days, retention_mode
