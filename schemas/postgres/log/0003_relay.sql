-- The relay's lease: one active relay per log and topic generation. The owner epoch rises with every owner, and fences
-- the one before.
create table relay_leases (
    relay text collate "C" primary key,
    owner uuid not null,
    owner_epoch bigint not null,
    expires_at timestamptz not null
);

-- Up to where, in log order, Kafka has acknowledged everything.
create table relay_checkpoints (
    relay text collate "C" primary key,
    owner_epoch bigint not null,
    epoch smallint not null,
    transaction_id xid8 not null,
    position bigint not null,
    advanced_at timestamptz not null default clock_timestamp()
);

grant select, insert, update on relay_leases, relay_checkpoints to weft_log;
