-- What other people's tools are told: the change feed and outgoing webhooks.

-- When the transaction began that changed a campaign's figures, its name or its stage last. No index has it, so that a
-- count is moved within its page.
alter table counts add column changed_at timestamptz not null default now();

-- Addresses of other systems that are told what happens in an app; no events = all of them. The secret signs what goes
-- there, and the one before it too until old_until. failing_since: no answer has been a success since then.
create table webhook_endpoints (
  app_id          text collate "C" not null,
  endpoint_id     text collate "C" not null,
  url             text not null,
  description     text not null default '',
  events          text[] not null default '{}',
  secret          bytea not null,
  old_secret      bytea,
  old_until       timestamptz,
  created_at      timestamptz not null default now(),
  failing_since   timestamptz,
  disabled_at     timestamptz,
  disabled_reason text,
  primary key (app_id, endpoint_id)
);

-- What endpoints are told: a row for each event and endpoint, its log too. body is signed as it stands here.
-- status and answer are those of the last attempt; no status = no answer came.
create table notices (
  app_id       text collate "C" not null,
  notice_id    text collate "C" not null,
  endpoint_id  text collate "C" not null,
  type         text not null,
  campaign_id  bigint,
  body         text not null,
  state        text collate "C" not null default 'waiting' check (state in ('waiting', 'delivered', 'failed')),
  created_at   timestamptz not null default now(),
  due_at       timestamptz default now(),
  attempts     smallint not null default 0,
  attempted_at timestamptz,
  status       int,
  answer       text not null default '',
  primary key (app_id, notice_id)
);
create index notices_waiting on notices (app_id, endpoint_id, due_at) where state = 'waiting';
create index notices_by_date on notices (app_id, endpoint_id, created_at desc, notice_id);
create index notices_by_state on notices (app_id, endpoint_id, state, created_at desc, notice_id);

-- How far the campaigns' figures have been told to endpoints: a cursor of the change feed, and when it was read.
create table figure_watches (
  app_id    text collate "C" not null,
  cursor    text not null,
  looked_at timestamptz not null default now(),
  primary key (app_id)
);

-- The figures that were told last, as a digest: what has not changed is not told again.
create table told_figures (
  app_id      text collate "C" not null,
  campaign_id bigint not null,
  digest      bytea not null,
  told_at     timestamptz not null default now(),
  primary key (app_id, campaign_id)
);
create index told_figures_by_age on told_figures (app_id, told_at);

alter table notices alter app_id set (n_distinct = 1), alter endpoint_id set (n_distinct = 10);
alter table told_figures alter app_id set (n_distinct = 1);
