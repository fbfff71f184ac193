-- Long streams folded, so that a load need not begin at their first event. Only ever a short cut: whoever finds a row of
-- another fold (other code) passes over it, and all of it may be deleted at any time.
create table snapshots (
    aggregate_type text collate "C" not null,
    aggregate_id text collate "C" not null,
    version bigint not null check (version > 0),
    -- Format and fingerprint of the code that folded it.
    fold text not null,
    state json not null,
    partition_key text not null,
    -- Where the event `version` stands in the log.
    epoch smallint not null,
    transaction_id bigint not null,
    position bigint not null,
    primary key (aggregate_type, aggregate_id)
);

grant select, insert, update, delete on snapshots to weft_log;
