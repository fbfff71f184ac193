-- Computations of the hourly statistics: who has seen a checkpoint of the facts waits for the end of one that began after.
create table statistics_passes (
    one boolean primary key default true check (one),
    -- The newest that began, and the newest that has computed every hour that was dirty when it began.
    began bigint not null default 0,
    ended bigint not null default 0
);
insert into statistics_passes default values;

-- Names no tenant and no person; the query API waits on it.
alter table statistics_passes enable row level security;
alter table statistics_passes force row level security;
create policy everyone on statistics_passes for select to weft_query using (true);
grant select on statistics_passes, dirty_hours to weft_query;
