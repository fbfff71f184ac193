-- What the last event that made a job due belongs to, so that what the job does belongs to it too.
alter table workers.jobs
  add column correlation_id text not null default '',
  add column traceparent text not null default '';
