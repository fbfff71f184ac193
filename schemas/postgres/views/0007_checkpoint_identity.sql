-- What a projection was made from. Where it meets another one, it stops and has to be rebuilt.
alter table checkpoints
    -- The log's epoch when the projection was made: a higher one says that the log has lost events which the projection may
    -- have. Null until the log told it.
    add column log_epoch smallint,
    -- Kafka's own name of the cluster that the offsets are of. Null until it was met, or after `weft relay --from`.
    add column cluster_id text;
