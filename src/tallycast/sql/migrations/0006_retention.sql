-- For how long people are known: retention per app, and the erasure of one person.

-- Recipients of campaigns that ended more than retention_days ago are anonymised or deleted; null = they are kept.
-- retained_at: when that was looked at last.
alter table apps
  add column retention_days int check (retention_days between 1 and 36500),
  add column retention_mode text check (retention_mode in ('anonymise', 'delete')),
  add column retained_at timestamptz,
  add constraint apps_retention_is_whole check ((retention_days is null) = (retention_mode is null));

-- A provider's message id may hold the recipient's number (WhatsApp's does): what stands for it when the number is gone.
-- An id has more random bits than can be guessed, so that no key is needed, and a late receipt still finds its message.
create function anonymous_id(id text) returns text language sql stable parallel safe return
  case when starts_with(id, 'anon-') then id
    else 'anon-' || left(encode(sha256(convert_to(id, 'UTF8')), 'hex'), 32) end;

-- The keys, sealed, that numbers are digested with, the newest last: an old one still recognises its digests.
create table digest_keys (
  app_id     text collate "C" not null,
  version    int not null,
  secret     bytea not null,
  created_at timestamptz not null default now(),
  primary key (app_id, version)
);

-- Campaigns whose recipients are not known any more, or soon will not be. From began_at on nothing changes their figures;
-- since frozen_at all that is computed of them is kept; next_seq is how far it has come. The figures are those of the
-- messages that were deleted: with those of the messages that are left they are the campaign's counts, at any moment.
create table retentions (
  app_id         text collate "C" not null,
  campaign_id    bigint not null,
  mode           text not null check (mode in ('anonymise', 'delete')),
  began_at       timestamptz not null default now(),
  frozen_at      timestamptz,
  next_seq       bigint not null default 0,
  ended_at       timestamptz,
  total          int not null default 0,
  queued         int not null default 0,
  pending        int not null default 0,
  delivered      int not null default 0,
  read           int not null default 0,
  failed         int not null default 0,
  unknown        int not null default 0,
  button_replies bigint not null default 0,
  clicks         bigint not null default 0,
  primary key (app_id, campaign_id)
);
create index retentions_open on retentions (app_id, campaign_id) where ended_at is null;
alter table retentions alter app_id set (n_distinct = 1);

-- Who was erased, as a digest, by whom, when, and how many rows of which kind that took.
create table erasures (
  app_id     text collate "C" not null,
  erasure_id uuid not null,
  digest     text collate "C" not null,
  asked_as   text not null default '',
  erased_at  timestamptz not null default now(),
  touched    jsonb not null,
  primary key (app_id, erasure_id)
);
create index erasures_by_date on erasures (app_id, erased_at desc, erasure_id);

create index texts_by_age on texts (app_id, received_at);
