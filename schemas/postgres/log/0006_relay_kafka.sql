-- What Kafka was given. A Kafka that has less, or another Kafka, has lost it: nothing is published there before an operator
-- says from where (`weft relay --from`), which begins the next publication.
alter table relay_checkpoints
    -- Travels with every record. Offsets mean something only within one publication: consumers that meet a higher one read
    -- their partition again from its beginning, and drop what they have by its log order.
    add column publication bigint not null default 1 check (publication > 0),
    -- Kafka's own name of the cluster. Null until the first record of this publication was acknowledged.
    add column cluster_id text,
    -- By topic: per partition, the offset behind the last acknowledged record.
    add column next_offsets jsonb not null default '{}';
