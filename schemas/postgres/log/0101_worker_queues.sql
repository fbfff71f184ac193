-- The workers' durable queues. All of it but parked_syncs (which comes from callback_events) can be rebuilt from the log:
-- `weft workers rebuild`.

-- Where the feed goes on reading Kafka; advanced by compare-and-set in the transaction that changes the queues.
create table workers.checkpoints (
  topic text not null,
  partition integer not null check (partition >= 0),
  next_offset bigint not null check (next_offset >= 0),
  updated_at timestamptz not null default clock_timestamp(),
  primary key (topic, partition)
);

-- One row per account: what the workers must know of it, and its lane, the unit of claim of dispatch.
create table workers.account_lanes (
  account_id uuid primary key,
  tenant_id uuid not null,
  -- Sequence of the last event of the account that is in this row; 0: only its messages are known yet.
  version bigint not null default 0 check (version >= 0),
  status text not null default 'created',
  gateway text not null default 'instance',
  -- Kept when the account is deleted: its instance has to be removed.
  guid text,
  send_interval_ms integer not null default 0 check (send_interval_ms >= 0),
  restricted_until timestamptz,
  -- When something may be ready to be sent; null: nothing before the next event.
  wake_at timestamptz,
  -- Counts the changes of the feed. A lane is released only by one who has seen them all.
  changes bigint not null default 0,
  -- The key of the owner's advisory lock: an owner that holds it no more is dead.
  lease_owner bigint,
  lease_until timestamptz,
  -- Fencing: one more for every claim.
  lease_number bigint not null default 0,
  -- Messages in the owner's hands. Whoever takes the lane over must look at each before anything is sent.
  in_flight uuid[] not null default '{}',
  -- Pacing: the next send does not start before.
  next_free_at timestamptz,
  served_at timestamptz not null default 'epoch',
  check ((lease_owner is null) = (lease_until is null))
) with (fillfactor = 60);

create index account_lanes_due on workers.account_lanes (wake_at) where wake_at is not null;
create index account_lanes_leased on workers.account_lanes (lease_until) where lease_owner is not null;
create index account_lanes_unsettled on workers.account_lanes (account_id) where in_flight <> '{}';

-- Messages that are not ended.
create table workers.messages (
  message_id uuid primary key,
  tenant_id uuid not null,
  account_id uuid not null,
  conversation_id text not null,
  priority smallint not null check (priority between 1 and 10),
  -- Planned time, else the time of acceptance.
  due_at timestamptz not null,
  -- Place in the log: order of acceptance.
  accepted_epoch smallint not null,
  accepted_transaction bigint not null,
  accepted_position bigint not null,
  -- Sequence of the last event of the message that is in this row.
  version bigint not null check (version > 0),
  state text not null check (state in ('pending', 'sending', 'unknown')),
  attempt integer not null default 0 check (attempt >= 0),
  retry_count integer not null default 0 check (retry_count >= 0),
  -- Waits for its retry until then, and holds back what comes later.
  not_before timestamptz,
  -- Since when every attempt has met a runtime that is not ready.
  not_ready_since timestamptz,
  attempt_started_at timestamptz,
  unknown_since timestamptz,
  -- Keyed hash of what was (or may have been) sent.
  content_digest bytea check (octet_length(content_digest) = 32),
  correlation_id text not null,
  traceparent text not null,
  check ((state = 'unknown') = (unknown_since is not null)),
  check (state = 'pending' or attempt > 0)
) with (fillfactor = 80);

create index messages_in_order on workers.messages
  (account_id, priority desc, due_at, accepted_epoch, accepted_transaction, accepted_position) where state = 'pending';
create index messages_open on workers.messages (account_id, conversation_id) where state <> 'pending';
create index messages_waiting on workers.messages (account_id) where not_before is not null;

-- What WeCom called the messages that it took, to know them again in callbacks.
create table workers.receipts (
  message_id uuid primary key,
  tenant_id uuid not null,
  account_id uuid not null,
  wework_msg_id text not null,
  appinfo text,
  correlation_id text not null,
  sent_at timestamptz not null
);

create index receipts_by_appinfo on workers.receipts (account_id, appinfo) where appinfo is not null;
create index receipts_by_msg_id on workers.receipts (account_id, wework_msg_id);
create index receipts_by_age on workers.receipts (sent_at);

-- Own-send callbacks that fit no receipt yet: their reply is still to be recorded, or was lost.
create table workers.parked_syncs (
  account_id uuid not null,
  appinfo text not null,
  wework_msg_id text not null,
  tenant_id uuid not null,
  conversation_id text not null,
  content_digest bytea not null check (octet_length(content_digest) = 32),
  -- WeCom's own time of the send, whole seconds.
  sent_at timestamptz not null,
  send_failed boolean not null,
  callback_id uuid not null,
  parked_at timestamptz not null,
  primary key (account_id, appinfo, wework_msg_id)
);

create index parked_syncs_by_age on workers.parked_syncs (parked_at);

-- What has to be done about an account at a time: `session` (its instance and its login), `heartbeat`.
create table workers.jobs (
  kind text not null check (kind in ('session', 'heartbeat')),
  account_id uuid not null,
  tenant_id uuid not null,
  -- Null: nothing before the next event.
  due_at timestamptz,
  -- Counts the feed's wake-ups, so that none is lost while the job runs.
  wakes bigint not null default 0,
  failures integer not null default 0,
  lease_owner bigint,
  lease_until timestamptz,
  -- What the job's worker remembers between two steps.
  data jsonb not null default '{}',
  primary key (kind, account_id),
  check ((lease_owner is null) = (lease_until is null))
) with (fillfactor = 70);

create index jobs_due on workers.jobs (kind, due_at) where due_at is not null;

-- Owners whose process is alive: each holds the session advisory lock of its own key, which dies with its connection.
create function workers.live_owners() returns setof bigint
language sql stable
as $$
  select (l.classid::bigint << 32) | l.objid::bigint
  from pg_locks l
  where l.locktype = 'advisory' and l.objsubid = 1 and l.granted
    and l.database = (select oid from pg_database where datname = current_database())
$$;

grant select, insert, update, delete on all tables in schema workers to weft_log;
grant execute on function workers.live_owners() to weft_log;
