-- The whole schema, to read: the migrations make it, and a test compares them. Every tenant table has app_id first in every key, so that Citus can distribute it by app_id.

-- The one rule of a message's state: read, else delivered, else failed, else pending, else queued.
create function message_state(
  accepted_at timestamptz, delivered_at timestamptz, read_at timestamptz, failed_at timestamptz
) returns text language sql immutable parallel safe return
  case
    when read_at is not null then 'read'
    when delivered_at is not null then 'delivered'
    when failed_at is not null then 'failed'
    when accepted_at is not null then 'pending'
    else 'queued'
  end;

-- Whether failure a comes before failure b (or is the first): the earliest wins; code and title settle a tie, so that
-- the order of arrival does not.
create function fails_before(
  a_at timestamptz, a_code text, a_title text, b_at timestamptz, b_code text, b_title text
) returns boolean language sql immutable parallel safe return
  a_at is not null and (
    b_at is null
    or (a_at, coalesce(a_code, ''), coalesce(a_title, '')) < (b_at, coalesce(b_code, ''), coalesce(b_title, ''))
  );

-- A provider's message id may hold the recipient's number (WhatsApp's does): what stands for it when the number is gone.
-- An id has more random bits than can be guessed, so that no key is needed, and a late receipt still finds its message.
create function anonymous_id(id text) returns text language sql stable parallel safe return
  case when starts_with(id, 'anon-') then id
    else 'anon-' || left(encode(sha256(convert_to(id, 'UTF8')), 'hex'), 32) end;

-- The directory of tenants: small, read into memory, a reference table on Citus. app_key opens tracked links.
create table apps (
  app_id     text collate "C" primary key check (app_id ~ '^[A-Za-z0-9](-?[A-Za-z0-9])*$' and length(app_id) <= 40),
  app_key    text collate "C" not null unique,
  name       text not null,
  created_at timestamptz not null default now(),
  -- What holds for all campaigns of an app. woken_at: something may be due for a worker; it is cleared when nothing is.
  -- Quiet hours are the recipient's local time; null = none.
  requires_approval boolean not null default false,
  time_zone         text not null default 'UTC',
  quiet_from        time,
  quiet_until       time,
  stop_words        text[] not null default '{}',
  start_words       text[] not null default '{}',
  stale_minutes     int not null default 60 check (stale_minutes between 1 and 100000),
  woken_at          timestamptz,
  -- Recipients of campaigns that ended more than retention_days ago are anonymised or deleted; null = they are kept.
  -- retained_at: when that was looked at last.
  retention_days    int check (retention_days between 1 and 36500),
  retention_mode    text check (retention_mode in ('anonymise', 'delete')),
  retained_at       timestamptz,
  constraint apps_retention_is_whole check ((retention_days is null) = (retention_mode is null))
);
create index apps_woken on apps (app_id) where woken_at is not null;

-- People who sign in. Directory tables, like apps: small, read across tenants, reference tables on Citus. Emails are kept in
-- lower case. password_hash: argon2id; null until the person has chosen a password.
create table staff (
  staff_id      text collate "C" primary key,
  email         text collate "C" not null unique check (email = lower(email)),
  name          text not null,
  eid           text not null,
  password_hash text,
  is_owner      boolean not null default false,
  language      text not null default '',
  theme         text not null default '',
  created_at    timestamptz not null default now(),
  disabled_at   timestamptz
);

-- What a person may do in an app; owners may do everything everywhere and need no row.
create table staff_roles (
  app_id   text collate "C" not null,
  staff_id text collate "C" not null,
  role     text collate "C" not null check (role in ('viewer', 'editor', 'approver', 'admin')),
  primary key (app_id, staff_id)
);
create index staff_roles_by_staff on staff_roles (staff_id, app_id);

-- Who is signed in: the hash of the token that the browser holds.
create table staff_sessions (
  hash         bytea primary key,
  staff_id     text collate "C" not null,
  created_at   timestamptz not null default now(),
  last_seen_at timestamptz not null default now(),
  expires_at   timestamptz not null,
  user_agent   text not null default ''
);
create index staff_sessions_by_staff on staff_sessions (staff_id, created_at);

-- One-time links: of a person who chooses a password, or (staff_id null) of whoever becomes the first owner.
create table staff_links (
  hash       bytea primary key,
  staff_id   text collate "C",
  expires_at timestamptz not null
);
create index staff_links_by_staff on staff_links (staff_id);

create table tokens (
  app_id       text collate "C" not null,
  token_id     text collate "C" not null,
  hash         bytea not null,
  name         text not null default '',
  scopes       text[] not null,
  created_at   timestamptz not null default now(),
  expires_at   timestamptz,
  last_used_at timestamptz,
  revoked_at   timestamptz,
  primary key (app_id, token_id),
  unique (app_id, hash)
);

-- rate: messages (SMS: parts) a second; null = the provider's usual one. paused_at: nothing is sent over the channel.
-- heard_at, heard: when the provider said something last, and what kind of thing; refused_at: when a webhook did not prove
-- that it knows the channel's secret. Written now and then.
create table channels (
  app_id         text collate "C" not null,
  channel_number int not null,
  channel_id     text collate "C" not null,
  type           text not null check (type in ('sms', 'whatsApp')),
  provider       text not null,
  phone          text not null,
  channel_name   text not null default '',
  source_name    text not null default '',
  secrets        bytea,
  created_at     timestamptz not null default now(),
  deleted_at     timestamptz,
  rate           real check (rate > 0),
  paused_at      timestamptz,
  paused_reason  text,
  heard_at       timestamptz,
  heard          text not null default '',
  refused_at     timestamptz,
  primary key (app_id, channel_number),
  unique (app_id, channel_id)
);

-- The sender is copied from the channel: renaming or deleting a channel does not change what was sent.
create table campaigns (
  app_id         text collate "C" not null,
  campaign_id    bigint not null,
  channel_number int not null,
  type           text not null check (type in ('sms', 'whatsApp')),
  name           text not null,
  created_by     text not null default '',
  sender_eid     text not null default '',
  subject        text not null default '',
  content        text not null default '',
  phone          text not null,
  channel_name   text not null default '',
  source_name    text not null default '',
  dated          timestamptz,
  sent_at        timestamptz,
  created_at     timestamptz not null default now(),
  primary key (app_id, campaign_id)
);
create index campaigns_by_date on campaigns (app_id, sent_at desc, campaign_id desc) where sent_at is not null;
create index campaigns_by_type on campaigns (app_id, type, sent_at desc, campaign_id desc) where sent_at is not null;

-- Running totals, apart from campaigns so that the row that changes all the time is narrow.
-- delivered includes read. changed_at: when the transaction began that changed a figure, the name or the stage last; no
-- index has it, so that a count is moved within its page.
create table counts (
  app_id         text collate "C" not null,
  campaign_id    bigint not null,
  total          int not null default 0,
  queued         int not null default 0,
  pending        int not null default 0,
  delivered      int not null default 0,
  read           int not null default 0,
  failed         int not null default 0,
  button_replies bigint not null default 0,
  clicks         bigint not null default 0,
  changed_at     timestamptz not null default now(),
  primary key (app_id, campaign_id),
  constraint counts_add_up check (
    delivered + pending + failed + queued = total and read <= delivered
    and least(queued, pending, delivered, read, failed, button_replies, clicks) >= 0
  )
) with (fillfactor = 50);

-- One recipient of one campaign. seq counts from 0 without gaps. No index has a fact, so facts are cheap to write.
-- variables: what the text or template is filled with, one value per column of the sending.
-- state_before is the state that the last change of facts found; that change reads it back to move the counts.
create table messages (
  app_id         text collate "C" not null,
  campaign_id    bigint not null,
  seq            int not null,
  channel_number int not null,
  parts          smallint not null default 1,
  recipient      text collate "C" not null,
  country        text collate "C",
  message_id     text collate "C",
  content        text,
  accepted_at    timestamptz,
  delivered_at   timestamptz,
  read_at        timestamptz,
  failed_at      timestamptz,
  error_code     text,
  error_title    text,
  state_before   text collate "C",
  variables      text[],
  primary key (app_id, campaign_id, seq)
) with (fillfactor = 85);
create unique index messages_by_recipient on messages (app_id, campaign_id, recipient);
create unique index messages_by_message_id on messages (app_id, channel_number, message_id)
  where message_id is not null;

-- Buttons that recipients chose: a set of (message, button).
create table replies (
  app_id      text collate "C" not null,
  campaign_id bigint not null,
  seq         int not null,
  button      text collate "C" not null,
  replied_at  timestamptz not null,
  primary key (app_id, campaign_id, seq, button)
);

-- What recipients wrote: kept, not counted.
create table texts (
  app_id         text collate "C" not null,
  channel_number int not null,
  inbound_id     text collate "C" not null,
  sender         text,
  message_id     text,
  body           text not null,
  received_at    timestamptz not null,
  primary key (app_id, channel_number, inbound_id)
);
create index texts_by_sender on texts (app_id, sender, received_at);
create index texts_by_age on texts (app_id, received_at);

-- Receipts (button = '') and button clicks whose message is not known yet.
create table parked (
  app_id         text collate "C" not null,
  channel_number int not null,
  message_id     text collate "C" not null,
  button         text collate "C" not null default '',
  accepted_at    timestamptz,
  delivered_at   timestamptz,
  read_at        timestamptz,
  failed_at      timestamptz,
  error_code     text,
  error_title    text,
  replied_at     timestamptz,
  parked_at      timestamptz not null default now(),
  primary key (app_id, channel_number, message_id, button)
);
create index parked_by_age on parked (app_id, parked_at);

-- Bodies, or parts of them, that were authentic and could not be understood.
create table unreadable (
  app_id         text collate "C" not null,
  channel_number int not null,
  digest         bytea not null,
  reason         text not null,
  raw            bytea not null,
  times          int not null default 1,
  first_at       timestamptz not null default now(),
  last_at        timestamptz not null default now(),
  primary key (app_id, channel_number, digest)
);
create index unreadable_by_age on unreadable (app_id, last_at desc);

-- A tracked link of a campaign; each message's code is derived from the secret, so no row per message is needed.
create table links (
  app_id      text collate "C" not null,
  link_key    text collate "C" not null,
  campaign_id bigint not null,
  url         text not null,
  secret      bytea not null,
  created_at  timestamptz not null default now(),
  primary key (app_id, link_key)
);
create unique index links_by_campaign on links (app_id, campaign_id, md5(url));

-- Every hit of a tracked link. set_aside says why a hit is not counted; null means a person's click.
create table clicks (
  app_id      text collate "C" not null,
  click_id    uuid not null,
  link_key    text collate "C" not null,
  campaign_id bigint not null,
  seq         int not null,
  clicked_at  timestamptz not null,
  method      text not null,
  user_agent  text not null default '',
  purpose     text not null default '',
  set_aside   text,
  primary key (app_id, click_id)
);
create index clicks_by_campaign on clicks (app_id, campaign_id, seq);

-- Aggregates of a campaign's rows, kept until its counts change: as_of is the counts.changed_at that they were made at,
-- seconds is how long that took. A change of the counts that was not yet seen has another moment, earlier or later.
create table insights (
  app_id      text collate "C" not null,
  campaign_id bigint not null,
  name        text collate "C" not null,
  body        jsonb not null,
  computed_at timestamptz not null default now(),
  as_of       timestamptz not null,
  seconds     real not null,
  primary key (app_id, campaign_id, name)
);

create table idempotency_keys (
  app_id      text collate "C" not null,
  key         text collate "C" not null,
  fingerprint bytea not null,
  status      int,
  answer      bytea,
  created_at  timestamptz not null default now(),
  primary key (app_id, key)
);

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
create index sendings_paused on sendings (app_id, campaign_id) where stage = 'paused';

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
create index handovers_unknown on handovers (app_id, campaign_id, seq) where status = 'unknown';

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
  taken_back   text not null default '',
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
create index identities_by_recipient on identities (app_id, recipient);

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
create index imports_held on imports (app_id, created_at) where state = 'uploading';
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

-- Plans are made once for all parameters, so they must suit the largest tenant: as if one app had every row, and a few
-- campaigns and channels all of an app's. Then only the index on the whole key looks good, however the rows are spread.
alter table messages alter app_id set (n_distinct = 1), alter campaign_id set (n_distinct = 10),
  alter channel_number set (n_distinct = 2), alter seq set (n_distinct = -0.1);
alter table parked alter app_id set (n_distinct = 1), alter channel_number set (n_distinct = 2);
alter table clicks alter app_id set (n_distinct = 1), alter campaign_id set (n_distinct = 10);
alter table replies alter app_id set (n_distinct = 1), alter campaign_id set (n_distinct = 10);
alter table counts alter app_id set (n_distinct = 1);
alter table campaigns alter app_id set (n_distinct = 1);
alter table handovers alter app_id set (n_distinct = 1), alter campaign_id set (n_distinct = 10),
  alter channel_number set (n_distinct = 2), alter seq set (n_distinct = -0.1);
alter table attempts alter app_id set (n_distinct = 1), alter campaign_id set (n_distinct = 10),
  alter channel_number set (n_distinct = 2), alter seq set (n_distinct = -0.1);
alter table opt_outs alter app_id set (n_distinct = 1), alter kind set (n_distinct = 2);
alter table import_errors alter app_id set (n_distinct = 1), alter import_id set (n_distinct = 10);
alter table sendings alter app_id set (n_distinct = 1);
alter table notices alter app_id set (n_distinct = 1), alter endpoint_id set (n_distinct = 10);
alter table told_figures alter app_id set (n_distinct = 1);
alter table retentions alter app_id set (n_distinct = 1);
