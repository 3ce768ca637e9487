-- name: add_campaign
-- Record a campaign; the sender is copied from the channel as it is now.
insert into campaigns (
  app_id, campaign_id, channel_number, type, name, created_by, sender_eid, subject, content,
  phone, channel_name, source_name, dated
)
values (
  %(app_id)s, %(campaign_id)s, %(channel_number)s, %(type)s, %(name)s, %(created_by)s, %(sender_eid)s, %(subject)s,
  %(content)s, %(phone)s, %(channel_name)s, %(source_name)s, %(dated)s
)

-- name: add_counts
-- The counts of a campaign, all zero.
insert into counts (app_id, campaign_id) values (%(app_id)s, %(campaign_id)s)

-- name: has_campaign
-- Whether an app has a campaign.
select 1 from campaigns where app_id = %(app_id)s and campaign_id = %(campaign_id)s

-- name: find_retention
-- Whether a campaign's recipients are anonymous or deleted, and since when.
select mode, began_at from retentions where app_id = %(app_id)s and campaign_id = %(campaign_id)s
