-- The log: postgres-es's columns, then columns with defaults, so that its stock repository reads and appends here.
create table events (
    aggregate_type text collate "C" not null,
    aggregate_id text collate "C" not null,
    sequence bigint not null check (sequence >= 0),
    event_type text not null,
    event_version text not null,
    payload jsonb not null,
    metadata jsonb not null,
    position bigint generated always as identity,
    transaction_id xid8 not null default pg_current_xact_id(),
    epoch smallint not null default 1,
    recorded_at timestamptz not null default clock_timestamp(),
    tenant_id text generated always as (metadata ->> 'tenant_id') stored,
    -- The optimistic lock: of two appends to one stream, the second finds its sequence taken.
    primary key (aggregate_type, aggregate_id, sequence)
);

-- Log order, for readers of the tail.
create index events_tail on events (epoch, transaction_id, position);

-- Who this log is. The epoch is raised after a restore, a failover with loss or an import.
create table log_identity (
    singleton boolean primary key default true check (singleton),
    log_id uuid not null default gen_random_uuid(),
    epoch smallint not null default 1 check (epoch > 0)
);
insert into log_identity default values;

-- Names that one stream alone may hold.
create table claims (
    kind text collate "C" not null,
    scope text collate "C" not null,
    value text collate "C" not null,
    aggregate_type text collate "C" not null,
    aggregate_id text collate "C" not null,
    claimed_at timestamptz not null default clock_timestamp(),
    primary key (kind, scope, value)
);

-- Answers of committed commands, under a 16-byte digest of scope and key (random text keys cost 12 % in WAL).
create table idempotency_keys (
    digest uuid primary key,
    body_hash bytea not null check (octet_length(body_hash) = 32),
    -- json, not jsonb: a replay is the same text.
    answer json not null,
    expires_at timestamptz not null
);
create index idempotency_keys_expiry on idempotency_keys (expires_at);

-- Events are never updated or deleted.
grant select, insert on events to weft_log;
grant select on log_identity to weft_log;
grant select, insert, update, delete on claims, idempotency_keys to weft_log;
