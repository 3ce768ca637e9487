-- Who changed what of an app, and which processes hold which encryption keys.

-- What people did to an app beside its campaigns: who, from where, and what it was. Written in the transaction of the
-- change. app_id '': what concerns no single app. Nothing here is a secret or a recipient's number.
create table administrations (
  app_id   text collate "C" not null,
  entry_id uuid not null,
  at       timestamptz not null default now(),
  actor    text not null,
  action   text collate "C" not null,
  subject  text not null default '',
  details  jsonb not null default '{}',
  address  text not null default '',
  primary key (app_id, entry_id)
);
create index administrations_by_date on administrations (app_id, at desc, entry_id);

-- The encryption keys, by their ids, that each running process opens with, the one that it seals with first.
create table keyholders (
  process text collate "C" primary key,
  key_ids text[] not null,
  seen_at timestamptz not null default now()
);
