-- One row per account. `phone`, `email` and `user_info` are sealed: {subject, key, nonce, ciphertext}.
create table accounts (
    id uuid primary key,
    tenant_id uuid not null,
    user_id text,
    account_name text not null,
    phone jsonb,
    email jsonb,
    gateway text not null check (gateway in ('instance', 'official')),
    guid text,
    -- Path of qrcode.png while a code waits to be scanned; worthless after qrcode_expires_at.
    qr_code_url text,
    qrcode_expires_at timestamptz,
    -- The login attempt, while one runs.
    login_token uuid,
    verification_attempts integer not null default 0 check (verification_attempts >= 0),
    status text not null check (status in (
        'created', 'logging_in', 'waiting_for_qrcode_scan', 'waiting_for_confirmation', 'waiting_for_verification',
        'online', 'error', 'network_error', 'auth_error', 'rate_limited', 'recovering', 'offline', 'logged_out',
        'disabled', 'deleted')),
    reason text,
    error_message text,
    config jsonb not null,
    user_info jsonb,
    online_since timestamptz,
    restricted_until timestamptz,
    last_login_time timestamptz,
    -- A login or a restored session counts as a heartbeat; the newer of this and account_heartbeats' is the account's.
    last_heartbeat_time timestamptz,
    login_retry_count integer not null default 0 check (login_retry_count >= 0),
    -- Null counts as good, until account care measures it.
    health_score double precision check (health_score between 0 and 1),
    health_level text check (health_level in ('excellent', 'good', 'fair', 'poor')),
    created_at timestamptz not null,
    updated_at timestamptz not null,
    version bigint not null check (version > 0),
    epoch smallint not null,
    transaction_id bigint not null,
    position bigint not null
);

-- No trigram index for the search by a part of the name: under row-level security only leakproof operators become index
-- conditions, and ilike is none, so the search filters the tenant's own rows in the list's order.
create index accounts_newest on accounts (tenant_id, created_at desc, id desc);
create index accounts_by_status on accounts (tenant_id, status, created_at desc, id desc);
create index accounts_by_name on accounts (tenant_id, account_name, id);

-- The newest heartbeat samples. Samples are not events; what is here is gone after a rebuild until the next sample.
create table account_heartbeats (
    account_id uuid primary key,
    tenant_id uuid not null,
    -- The newest sample that found the account alive.
    last_heartbeat_time timestamptz,
    -- The newest sample of all.
    sampled_at timestamptz not null,
    alive boolean not null,
    response_time_ms integer check (response_time_ms >= 0)
);

-- One row per event that changed an account's status.
create table account_status_history (
    id text not null generated always as (account_id::text || ':' || sequence::text) stored,
    account_id uuid not null,
    sequence bigint not null check (sequence > 0),
    tenant_id uuid not null,
    old_status text,
    new_status text not null,
    reason text,
    error_message text,
    -- What else the event told, without anything personal.
    extra_data jsonb,
    operator_id text,
    operator_type text not null check (operator_type in ('user', 'system', 'auto')),
    created_at timestamptz not null,
    -- Newest first of an account is this key read backwards.
    primary key (account_id, sequence)
);
create index account_status_history_newest on account_status_history (tenant_id, created_at desc);

alter table accounts enable row level security;
alter table accounts force row level security;
create policy tenant on accounts using (tenant_id = nullif(current_setting('weft.tenant', true), '')::uuid);
alter table account_heartbeats enable row level security;
alter table account_heartbeats force row level security;
create policy tenant on account_heartbeats using (tenant_id = nullif(current_setting('weft.tenant', true), '')::uuid);
alter table account_status_history enable row level security;
alter table account_status_history force row level security;
create policy tenant on account_status_history
    using (tenant_id = nullif(current_setting('weft.tenant', true), '')::uuid);

grant select on accounts, account_heartbeats, account_status_history to weft_query;
