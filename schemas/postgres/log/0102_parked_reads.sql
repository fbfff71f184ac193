-- Read reports of messages whose receipt is not recorded yet: somebody read faster than the reply was written down.
create table workers.parked_reads (
  account_id uuid not null,
  appinfo text not null,
  wework_msg_id text not null,
  tenant_id uuid not null,
  read_at timestamptz not null,
  callback_id uuid not null,
  parked_at timestamptz not null,
  primary key (account_id, appinfo, wework_msg_id)
);

create index parked_reads_by_age on workers.parked_reads (parked_at);

grant select, insert, update, delete on workers.parked_reads to weft_log;
