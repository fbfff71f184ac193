-- Every file of this folder runs once per generation, statement by statement, in the generation's database
-- (`<database>_g<n>`). The stable database holds a view of the same name for each table, which reads it `final`:
-- `select` and `select … final` both give one row per key there.
--
-- No personal data. No materialised view reads these tables: it would fire before replacement and count replays twice.

-- One row per message: its newest state.
create table if not exists message_facts (
    tenant_id UUID,
    account_id UUID,
    message_id UUID,
    conversation_id String,
    message_type LowCardinality(String),
    priority UInt8,
    batch_id Nullable(UUID),
    batch_index Nullable(UInt32),
    status LowCardinality(String),
    version UInt64,
    accepted_at DateTime64(3, 'UTC'),
    -- When it was asked to be sent; accepted_at where nothing was asked.
    planned_at DateTime64(3, 'UTC'),
    -- The first attempt.
    attempted_at Nullable(DateTime64(3, 'UTC')),
    sent_at Nullable(DateTime64(3, 'UTC')),
    delivered_at Nullable(DateTime64(3, 'UTC')),
    read_at Nullable(DateTime64(3, 'UTC')),
    failed_at Nullable(DateTime64(3, 'UTC')),
    cancelled_at Nullable(DateTime64(3, 'UTC')),
    error_code LowCardinality(Nullable(String)),
    attempts UInt32,
    retry_count UInt32,
    -- From acceptance, or the planned time where that is later, to sent.
    response_time_ms Nullable(UInt64),
    updated_at DateTime64(3, 'UTC')
) engine = ReplacingMergeTree(version)
partition by toYYYYMM(accepted_at)
order by (tenant_id, account_id, accepted_at, message_id);

-- One row per event of a message.
create table if not exists message_transitions (
    tenant_id UUID,
    account_id UUID,
    message_id UUID,
    sequence UInt64,
    event_type LowCardinality(String),
    -- Null in the first event.
    old_status LowCardinality(Nullable(String)),
    -- As old_status where the event changes none.
    new_status LowCardinality(String),
    attempt UInt32,
    error_code LowCardinality(Nullable(String)),
    -- From acceptance, or the planned time where that is later, to this event, where this event sent it.
    response_time_ms Nullable(UInt64),
    at DateTime64(3, 'UTC'),
    recorded_at DateTime64(3, 'UTC')
) engine = ReplacingMergeTree
partition by toYYYYMM(at)
order by (tenant_id, account_id, at, message_id, sequence);

-- One row per account: its newest status.
create table if not exists account_status_facts (
    tenant_id UUID,
    account_id UUID,
    gateway LowCardinality(String),
    status LowCardinality(String),
    -- Since when it has this status.
    since DateTime64(3, 'UTC'),
    online_since Nullable(DateTime64(3, 'UTC')),
    created_at DateTime64(3, 'UTC'),
    version UInt64,
    updated_at DateTime64(3, 'UTC')
) engine = ReplacingMergeTree(version)
order by (tenant_id, account_id);

-- One row per event of an account that changed its status.
create table if not exists account_transitions (
    tenant_id UUID,
    account_id UUID,
    sequence UInt64,
    event_type LowCardinality(String),
    old_status LowCardinality(Nullable(String)),
    new_status LowCardinality(String),
    -- Stable words only, never what a person typed.
    reason LowCardinality(Nullable(String)),
    at DateTime64(3, 'UTC'),
    recorded_at DateTime64(3, 'UTC')
) engine = ReplacingMergeTree
partition by toYYYYMM(at)
order by (tenant_id, account_id, at, sequence);

-- One row per tenant, account and hour, computed from `message_facts final` and `message_transitions final` whenever
-- one of the hour's messages changes. Hours without any message have no row.
create table if not exists message_stats_hourly (
    tenant_id UUID,
    account_id UUID,
    hour DateTime('UTC'),
    -- Of the messages accepted in this hour, as they stand now:
    total UInt64,
    sent UInt64,
    delivered UInt64,
    read UInt64,
    failed UInt64,
    cancelled UInt64,
    unknown UInt64,
    -- Sent or delivered.
    success UInt64,
    response_time_ms_sum UInt64,
    response_time_count UInt64,
    -- What happened in this hour, whenever the message was accepted:
    hour_sent UInt64,
    hour_delivered UInt64,
    hour_read UInt64,
    hour_failed UInt64,
    hour_cancelled UInt64,
    hour_response_time_ms_sum UInt64,
    hour_response_time_count UInt64,
    -- Grows with every event of its messages, so that the newest computation wins and equal ones are equal.
    version UInt64
) engine = ReplacingMergeTree(version)
partition by toYYYYMM(hour)
order by (tenant_id, account_id, hour);
