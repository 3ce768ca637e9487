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
