-- One row per message, in monthly partitions of its id: a UUIDv7 begins with the millisecond of its birth, so a month is
-- a range of ids, and retention drops a partition whole. An id that is no UUIDv7 lies in the default partition.
create table messages (
    id uuid primary key,
    tenant_id uuid not null,
    account_id uuid not null,
    -- WeCom's own: `S:…` or `R:…`.
    conversation_id text collate "C" not null,
    message_type text not null check (message_type in ('text', 'image', 'file', 'link', 'miniprogram', 'at')),
    -- In clear, in the forms of the REST contract; null when its key was destroyed.
    content jsonb,
    template_id uuid,
    status text not null check (status in (
        'pending', 'sending', 'sent', 'delivered', 'failed', 'cancelled', 'revoked', 'unknown')),
    wework_msg_id text,
    -- When it was sent.
    send_time timestamptz,
    -- When WeCom confirmed the delivery.
    callback_time timestamptz,
    read_time timestamptz,
    error_code text,
    error_message text,
    retry_count integer not null default 0 check (retry_count >= 0),
    attempt integer not null default 0 check (attempt >= 0),
    batch_id uuid,
    batch_index integer check (batch_index >= 0),
    priority smallint not null check (priority between 1 and 10),
    -- When it is asked to be sent; null: at once.
    scheduled_time timestamptz,
    callback_url text,
    client_reference text,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    version bigint not null check (version > 0),
    epoch smallint not null,
    transaction_id bigint not null,
    position bigint not null
) partition by range (id);

create table messages_default partition of messages default;
alter table messages_default enable row level security;
alter table messages_default force row level security;

create index messages_newest on messages (tenant_id, created_at desc, id desc);
create index messages_by_account on messages (account_id, created_at desc, id desc);
create index messages_by_conversation on messages (tenant_id, conversation_id, created_at desc, id desc);
create index messages_by_status on messages (tenant_id, status, created_at desc, id desc);
create index messages_by_batch on messages (batch_id, batch_index) where batch_id is not null;
create index messages_by_reference on messages (tenant_id, client_reference, created_at desc, id desc)
    where client_reference is not null;

alter table messages enable row level security;
alter table messages force row level security;
create policy tenant on messages using (tenant_id = nullif(current_setting('weft.tenant', true), '')::uuid);
grant select on messages to weft_query;

-- The least UUID whose first 48 bits are `at` in milliseconds.
create function least_uuid_of(at timestamptz) returns uuid language sql immutable
return (lpad(to_hex((extract(epoch from at) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid;

-- Makes the partitions of the months (UTC) from `months_before` to `months_after` around `around` that are missing, and
-- moves into them what the default partition holds of those months. Answers how many it made.
create function ensure_message_partitions(around timestamptz, months_before integer, months_after integer)
returns integer language plpgsql set search_path from current as $$
declare
    this_month timestamp := date_trunc('month', around at time zone 'UTC');
    month_start timestamptz;
    first_id uuid;
    end_id uuid;
    name text;
    made integer := 0;
begin
    -- Two projectors may start at once.
    perform pg_advisory_xact_lock(hashtextextended(current_schema() || '.ensure_message_partitions', 0));
    for distance in -months_before..months_after loop
        month_start := (this_month + make_interval(months => distance)) at time zone 'UTC';
        name := 'messages_' || to_char(month_start at time zone 'UTC', 'YYYY_MM');
        continue when to_regclass(quote_ident(current_schema()) || '.' || name) is not null;
        first_id := least_uuid_of(month_start);
        end_id := least_uuid_of((this_month + make_interval(months => distance + 1)) at time zone 'UTC');
        create temporary table moved on commit drop as
            select * from messages_default where id >= first_id and id < end_id;
        delete from messages_default where id >= first_id and id < end_id;
        execute format('create table %I partition of messages for values from (%L) to (%L)', name, first_id, end_id);
        -- Reached only through messages, whose policy then holds; by itself it shows nothing.
        execute format('alter table %I enable row level security', name);
        execute format('alter table %I force row level security', name);
        insert into messages select * from moved;
        drop table moved;
        made := made + 1;
    end loop;
    return made;
end
$$;
revoke execute on function ensure_message_partitions from public;
