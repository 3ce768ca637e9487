-- What is known of a campaign in detail, and what waits for a person.

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

-- What a person is asked to look at is found at once, however much else there is.
create index handovers_unknown on handovers (app_id, campaign_id, seq) where status = 'unknown';
create index sendings_paused on sendings (app_id, campaign_id) where stage = 'paused';

-- Whose story a text belongs to: by number, or by the provider's own ids of the recipient.
create index texts_by_sender on texts (app_id, sender, received_at);
create index identities_by_recipient on identities (app_id, recipient);
