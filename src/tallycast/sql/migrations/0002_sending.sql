-- Campaigns that tallycast sends itself.

-- What holds for all campaigns of an app. woken_at: something may be due for a worker; it is cleared when nothing is.
-- Quiet hours are the recipient's local time; null = none.
alter table apps
  add column requires_approval boolean not null default false,
  add column time_zone         text not null default 'UTC',
  add column quiet_from        time,
  add column quiet_until       time,
  add column stop_words        text[] not null default '{}',
  add column start_words       text[] not null default '{}',
  add column stale_minutes     int not null default 60 check (stale_minutes between 1 and 100000),
  add column woken_at          timestamptz;
create index apps_woken on apps (app_id) where woken_at is not null;

-- rate: messages (SMS: parts) a second; null = the provider's usual one. paused_at: nothing is sent over the channel.
alter table channels
  add column rate          real check (rate > 0),
  add column paused_at     timestamptz,
  add column paused_reason text;

-- What a message's text or template is filled with: one value per column of its sending.
alter table messages add column variables text[];

-- How a campaign is sent: one row for each that tallycast sends itself. Messages before next_seq were handed over, or
-- are in handovers. home is the database (and its timeline) that the campaign is sent from: a restored copy is another.
create table sendings (
  app_id           text collate "C" not null,
  campaign_id      bigint not null,
  channel_number   int not null,
  kind             text not null check (kind in ('smsStandard', 'smsDynamic', 'whatsApp')),
  stage            text not null default 'draft'
    check (stage in ('draft', 'pendingApproval', 'scheduled', 'sending', 'paused', 'sent', 'cancelled')),
  template         jsonb,
  columns          text[] not null default '{}',
  track_links      boolean not null default false,
  fallback_channel int,
  fallback_text    text,
  fallback_seconds int check (fallback_seconds > 0),
  fallback_seq     int not null default 0,
  scheduled_at     timestamptz,
  next_seq         int not null default 0,
  active_at        timestamptz,
  home             text not null default '',
  paused_reason    text,
  created_as       text not null default '',
  submitted_as     text,
  approved_as      text,
  created_at       timestamptz not null default now(),
  started_at       timestamptz,
  ended_at         timestamptz,
  primary key (app_id, campaign_id)
);
create index sendings_at_work on sendings (app_id, channel_number, campaign_id)
  where stage in ('scheduled', 'sending', 'cancelled') and ended_at is null;

-- Every change of a campaign's stage: who, when, and why.
create table transitions (
  app_id      text collate "C" not null,
  campaign_id bigint not null,
  n           int not null,
  action      text not null,
  from_stage  text not null,
  to_stage    text not null,
  actor       text not null,
  note        text not null default '',
  at          timestamptz not null default now(),
  primary key (app_id, campaign_id, n)
);

-- A message on its way to the provider: claimed by a worker, put off until due_at, or of unknown outcome. A message
-- before its sending's next_seq that is not here is settled, by its facts. claimed_at tells one claim from the next.
create table handovers (
  app_id         text collate "C" not null,
  campaign_id    bigint not null,
  seq            int not null,
  channel_number int not null,
  status         text collate "C" not null check (status in ('claimed', 'due', 'unknown')),
  due_at         timestamptz not null default now(),
  attempts       smallint not null default 0,
  worker         text not null default '',
  claimed_at     timestamptz,
  reason         text not null default '',
  primary key (app_id, campaign_id, seq)
);
create index handovers_by_moment on handovers (app_id, campaign_id, channel_number, status, due_at);
create index handovers_claimed on handovers (app_id, channel_number) where status = 'claimed';

-- Provider ids of a message beside its own: the parts of an SMS in several parts (part from 1), and earlier attempts
-- (part 0), whose deliveries still count and whose failures do not.
create table attempts (
  app_id         text collate "C" not null,
  channel_number int not null,
  message_id     text collate "C" not null,
  campaign_id    bigint not null,
  seq            int not null,
  part           smallint not null default 0,
  accepted_at    timestamptz,
  delivered_at   timestamptz,
  read_at        timestamptz,
  failed_at      timestamptz,
  error_code     text,
  error_title    text,
  primary key (app_id, channel_number, message_id)
);
create index attempts_by_message on attempts (app_id, campaign_id, seq, part);

-- Test messages that a person sends to one number: ahead of everything else, and in no count.
create table trials (
  app_id         text collate "C" not null,
  trial_id       uuid not null,
  channel_number int not null,
  campaign_id    bigint not null,
  recipient      text not null,
  variables      text[] not null default '{}',
  content        text,
  asked_as       text not null default '',
  asked_at       timestamptz not null default now(),
  claimed_by     text,
  outcome        text check (outcome in ('accepted', 'refused', 'unknown')),
  message_id     text,
  reason         text,
  answered_at    timestamptz,
  primary key (app_id, trial_id)
);
create index trials_waiting on trials (app_id, channel_number, asked_at) where outcome is null;

-- Who does what at the moment: one worker per channel, one per import. A lease that is not renewed ends by itself.
create table leases (
  app_id text collate "C" not null,
  name   text collate "C" not null,
  worker text not null,
  until  timestamptz not null,
  primary key (app_id, name)
);

-- WhatsApp templates, as the provider listed them last.
create table templates (
  app_id         text collate "C" not null,
  channel_number int not null,
  name           text collate "C" not null,
  language       text collate "C" not null,
  status         text not null,
  category       text not null default '',
  components     jsonb not null,
  listed_at      timestamptz not null default now(),
  primary key (app_id, channel_number, name, language)
);

-- Who does not want messages of a kind (sms, whatsApp) any more, how that is known, and since when. The latest word of
-- each sense stays, so that the order of arrival does not matter: who opted in later than out may be sent to again.
-- recipient: an E.164 number, or a provider's own user id until its number is known.
create table opt_outs (
  app_id       text collate "C" not null,
  kind         text collate "C" not null check (kind in ('sms', 'whatsApp')),
  recipient    text collate "C" not null,
  source       text not null,
  evidence     text not null default '',
  opted_out_at timestamptz default now(),
  opted_in_at  timestamptz,
  primary key (app_id, kind, recipient)
);

-- Whose number a provider's own user id is: who writes without a number can still be known. '' = not known yet.
create table identities (
  app_id     text collate "C" not null,
  user_id    text collate "C" not null,
  recipient  text collate "C" not null,
  learned_at timestamptz not null default now(),
  primary key (app_id, user_id)
);

-- Audience imports. The file waits in chunks, so that any worker can take it; first_seq is where its messages begin.
create table imports (
  app_id      text collate "C" not null,
  import_id   uuid not null,
  campaign_id bigint not null,
  state       text not null default 'uploading'
    check (state in ('uploading', 'waiting', 'running', 'done', 'refused', 'failed')),
  file_name   text not null default '',
  media_type  text not null,
  keeps_valid boolean not null,
  mapping     jsonb not null default '{}',
  bytes       bigint not null default 0,
  bytes_read  bigint not null default 0,
  first_seq   int,
  rows        int not null default 0,
  accepted    int not null default 0,
  duplicate   int not null default 0,
  opted_out   int not null default 0,
  invalid     int not null default 0,
  landline    int not null default 0,
  header      text[] not null default '{}',
  reason      text not null default '',
  asked_as    text not null default '',
  created_at  timestamptz not null default now(),
  ended_at    timestamptz,
  primary key (app_id, import_id)
);
create index imports_by_campaign on imports (app_id, campaign_id, created_at);
create index imports_waiting on imports (app_id, created_at) where state in ('waiting', 'running');

create table import_chunks (
  app_id    text collate "C" not null,
  import_id uuid not null,
  n         int not null,
  data      bytea not null,
  primary key (app_id, import_id, n)
);

-- Rows of a file that were not taken: the cells as they came, and why.
create table import_errors (
  app_id    text collate "C" not null,
  import_id uuid not null,
  n         int not null,
  line      int not null,
  cells     text[] not null,
  error     text not null,
  primary key (app_id, import_id, n)
);

-- As in 0001: plans for the largest tenant, and no table that a young plan takes for empty.
alter table handovers alter app_id set (n_distinct = 1), alter campaign_id set (n_distinct = 10),
  alter channel_number set (n_distinct = 2), alter seq set (n_distinct = -0.1);
alter table attempts alter app_id set (n_distinct = 1), alter campaign_id set (n_distinct = 10),
  alter channel_number set (n_distinct = 2), alter seq set (n_distinct = -0.1);
alter table opt_outs alter app_id set (n_distinct = 1), alter kind set (n_distinct = 2);
alter table import_errors alter app_id set (n_distinct = 1), alter import_id set (n_distinct = 10);
alter table sendings alter app_id set (n_distinct = 1);
insert into handovers (app_id, campaign_id, seq, channel_number, status, due_at)
select '', n % 10, n / 10, n % 2, case n % 3 when 0 then 'claimed' when 1 then 'due' else 'unknown' end,
  now() + n * interval '1 s'
from generate_series(1, 1000) n;
insert into attempts (app_id, channel_number, message_id, campaign_id, seq, part)
select '', n % 2, 'id-' || n, n % 10, n / 10, 0 from generate_series(1, 1000) n;
insert into opt_outs (app_id, kind, recipient, source)
select '', case n % 2 when 0 then 'sms' else 'whatsApp' end, '+' || n, 'priming' from generate_series(1, 1000) n;
insert into sendings (app_id, campaign_id, channel_number, kind, stage)
select '', n, n % 2, 'smsDynamic', 'draft' from generate_series(1, 1000) n;
analyze handovers, attempts, opt_outs, sendings;
