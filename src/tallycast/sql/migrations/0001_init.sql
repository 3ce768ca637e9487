-- The first schema. Every tenant table has app_id first in every key, so that Citus can distribute it by app_id.

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

-- The directory of tenants: small, read into memory, a reference table on Citus. app_key opens tracked links.
create table apps (
  app_id     text collate "C" primary key check (app_id ~ '^[A-Za-z0-9](-?[A-Za-z0-9])*$' and length(app_id) <= 40),
  app_key    text collate "C" not null unique,
  name       text not null,
  created_at timestamptz not null default now()
);

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
-- delivered includes read.
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
  primary key (app_id, campaign_id),
  constraint counts_add_up check (
    delivered + pending + failed + queued = total and read <= delivered
    and least(queued, pending, delivered, read, failed, button_replies, clicks) >= 0
  )
) with (fillfactor = 50);

-- One recipient of one campaign. seq counts from 0 without gaps. No index has a fact, so facts are cheap to write.
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

create table idempotency_keys (
  app_id      text collate "C" not null,
  key         text collate "C" not null,
  fingerprint bytea not null,
  status      int,
  answer      bytea,
  created_at  timestamptz not null default now(),
  primary key (app_id, key)
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

-- And they must suit a table that grows: in one of a few rows any index looks good, and the plan of that moment stays
-- until statistics are taken again, a million rows later. So no table is ever that small: app '', which nobody can
-- have, keeps these rows for good.
insert into messages (app_id, campaign_id, seq, channel_number, recipient, message_id)
select '', n % 10, n / 10, n % 2, '+' || n, 'id-' || n from generate_series(1, 1000) n;
insert into parked (app_id, channel_number, message_id, button, accepted_at, parked_at)
select '', n % 2, 'id-' || n, '', now(), now() + n * interval '1 s' from generate_series(1, 1000) n;
insert into clicks (app_id, click_id, link_key, campaign_id, seq, clicked_at, method)
select '', gen_random_uuid(), n % 30, n % 10, n / 10, now(), 'GET' from generate_series(1, 1000) n;
insert into replies (app_id, campaign_id, seq, button, replied_at)
select '', n % 10, n / 10, 'b' || n % 3, now() from generate_series(1, 1000) n;
insert into campaigns (app_id, campaign_id, channel_number, type, name, phone, sent_at)
select '', n, n % 2, case n % 2 when 0 then 'sms' else 'whatsApp' end, 'n', 'p', now() + n * interval '1 s'
from generate_series(1, 1000) n;
insert into counts (app_id, campaign_id) select '', n from generate_series(1, 1000) n;
analyze messages, parked, clicks, replies, campaigns, counts;
