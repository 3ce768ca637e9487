-- What people look for when they set a channel up, and when they take an opt-out back.

-- heard_at, heard: when the provider said something last, and what kind of thing; refused_at: when a webhook did not prove
-- that it knows the channel's secret. Written now and then.
alter table channels
  add column heard_at timestamptz,
  add column heard text not null default '',
  add column refused_at timestamptz;

-- Who took an opt-out back, and why.
alter table opt_outs add column taken_back text not null default '';

-- Files of recipients that wait for a person's word on their columns.
create index imports_held on imports (app_id, created_at) where state = 'uploading';
