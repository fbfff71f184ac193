-- Subject keys (`account:<id>`, `conversation:<id>`) and month keys (`month:<tenant>:<yyyy-mm>`), wrapped by the master
-- key. A destroyed key keeps its row without the key, so that a racing creator finds it and makes no new one.
create table keys (
    name text collate "C" primary key,
    wrapped bytea,
    created_at timestamptz not null default clock_timestamp(),
    destroyed_at timestamptz,
    check ((wrapped is null) = (destroyed_at is not null))
);

-- What was destroyed, kept apart so that it can be saved elsewhere and applied again after a backup was restored.
create table tombstones (
    name text collate "C" primary key,
    destroyed_at timestamptz not null default clock_timestamp()
);

grant select, insert, update on keys to weft_keys;
grant select, insert on tombstones to weft_keys;
