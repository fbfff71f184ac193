-- Once per views' database, in the stable schema `views`, beside the views over the live generations.

-- Which generation of a projection the stable names show; 1 for a projection without a row.
create table generations (
    projection text collate "C" primary key,
    generation integer not null check (generation > 0),
    -- Where `weft replay --roll-back` goes.
    previous integer check (previous > 0),
    handed_over_at timestamptz not null default clock_timestamp()
);

-- Processes that project, for their shares of the partitions. One that has not been seen for some seconds, or whose
-- connection is gone, is no member any more.
create table members (
    member uuid primary key,
    pid integer not null,
    backend_start timestamptz not null,
    seen_at timestamptz not null
);
