-- Counters of days long gone are deleted by their day.
create index quota_usage_period on quota_usage (period) where period <> '';
