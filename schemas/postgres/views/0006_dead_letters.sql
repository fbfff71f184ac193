-- Streams that a projection cannot go on with: one of their events fails in the same way for ever. The events from it on
-- are put aside in their order (the log has them), and the other streams go on.
create table dead_letters (
    projection text collate "C" not null,
    aggregate_type text collate "C" not null,
    aggregate_id uuid not null,
    tenant_id uuid not null,
    topic text collate "C" not null,
    partition integer not null check (partition >= 0),
    -- The event that fails, and the newest one put aside.
    sequence bigint not null check (sequence > 0),
    last_sequence bigint not null,
    event_type text not null,
    epoch smallint not null,
    transaction_id bigint not null,
    position bigint not null,
    -- Equal where event type and cause are. The error names no value of the event.
    fingerprint text collate "C" not null,
    error text not null,
    -- discarded: given up by a person. The view stays without these events until it is rebuilt.
    state text not null default 'parked' check (state in ('parked', 'discarded')),
    -- Rows of a Fold view that lack these events.
    incomplete_rows uuid[] not null default '{}',
    attempts integer not null default 1 check (attempts > 0),
    parked_at timestamptz not null default clock_timestamp(),
    tried_at timestamptz not null default clock_timestamp(),
    primary key (projection, aggregate_type, aggregate_id),
    check (last_sequence >= sequence)
);
create index dead_letters_incomplete on dead_letters using gin (incomplete_rows);

alter table dead_letters enable row level security;
alter table dead_letters force row level security;
create policy tenant on dead_letters using (tenant_id = nullif(current_setting('weft.tenant', true), '')::uuid);
grant select on dead_letters to weft_query;
