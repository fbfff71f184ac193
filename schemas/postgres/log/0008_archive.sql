-- Closed months. The events of a month's messages stand in a table of their own, archive.events_<yyyy>_<mm>, out of the way
-- of appends and of vacuum; it inherits from events, so whoever reads events reads them too.
create schema archive;

create table archive.months (
    -- Of the messages' ids (UUIDv7), UTC: `2026-03`.
    month text collate "C" primary key check (month ~ '^\d{4}-\d{2}$'),
    -- closing: takes no more events; exported: the file is complete and verified; archived: all of it stands in its table.
    state text not null default 'closing' check (state in ('closing', 'exported', 'archived')),
    file text,
    streams bigint,
    events bigint,
    -- Of the exported lines, not compressed.
    sha256 text,
    changed_at timestamptz not null default clock_timestamp(),
    check (state = 'closing' or (file is not null and streams is not null and events is not null and sha256 is not null))
);

grant usage on schema archive to weft_log;
grant select on archive.months to weft_log;
