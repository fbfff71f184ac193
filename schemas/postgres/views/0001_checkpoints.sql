-- Every file of this folder runs once per generation, as weft_projector, with the generation's schema (`views_g<n>`) as
-- the search path. The stable schema `views` holds a security_invoker view of the same name for each table.

-- How far each projection has come, moved in the same transaction as what it wrote (for ClickHouse: after the insert
-- was acknowledged). Advanced by compare-and-set on next_offset and generation, which fences a paused old consumer.
create table checkpoints (
    projection text collate "C" not null,
    topic text collate "C" not null,
    partition integer not null check (partition >= 0),
    next_offset bigint not null check (next_offset >= 0),
    -- High-water: the log order of the newest event applied. Each partition has one writer, in log order.
    epoch smallint not null default 0,
    transaction_id bigint not null default 0,
    position bigint not null default 0,
    generation integer not null check (generation > 0),
    -- Null until the first event told it.
    log_id uuid,
    updated_at timestamptz not null default clock_timestamp(),
    primary key (projection, topic, partition)
);

-- Names no tenant and no person; the query API waits on it.
alter table checkpoints enable row level security;
alter table checkpoints force row level security;
create policy everyone on checkpoints for select to weft_query using (true);
grant select on checkpoints to weft_query;

-- Hours whose statistics in ClickHouse must be computed again; stored with the checkpoint of the facts they come from.
create sequence dirty_marks;
create table dirty_hours (
    tenant_id uuid not null,
    account_id uuid not null,
    hour timestamptz not null,
    -- Drawn anew when an hour becomes dirty again, so that a recomputation under way does not take the newer mark away.
    mark bigint not null default nextval('dirty_marks'),
    primary key (tenant_id, account_id, hour)
);

alter table dirty_hours enable row level security;
alter table dirty_hours force row level security;
create policy tenant on dirty_hours using (tenant_id = nullif(current_setting('weft.tenant', true), '')::uuid);
