-- What the workers keep beside the log: callbacks as they came in (here), queues, lanes and checkpoints (0101).

create schema workers;

-- One row per callback, stored before it is answered and interpreted after, in a lane per account in ingress order.
create table workers.callback_events (
  id uuid primary key,
  tenant_id uuid not null,
  account_id uuid not null,
  -- The login attempt whose notify url was called.
  attempt_id uuid not null,
  ingress bigint generated always as identity,
  guid text,
  notify_type integer,
  event_type text,
  -- The body as it came, sealed: {subject, key, nonce, ciphertext}.
  raw_data jsonb not null,
  -- What it was understood as; no personal data in clear.
  parsed_data jsonb,
  status text not null default 'received'
    check (status in ('received', 'processing', 'processed', 'failed', 'ignored')),
  -- Why it was ignored or failed, or the transition it was refused.
  error_message text,
  retry_count integer not null default 0 check (retry_count >= 0),
  process_time timestamptz,
  received_time timestamptz not null default clock_timestamp(),
  source_ip text,
  user_agent text
);

create unique index callback_events_open on workers.callback_events (ingress) where status in ('received', 'processing');
create index callback_events_by_account on workers.callback_events (account_id, ingress);
create index callback_events_by_age on workers.callback_events (received_time);

grant usage on schema workers to weft_log;
grant select, insert, update, delete on workers.callback_events to weft_log;
