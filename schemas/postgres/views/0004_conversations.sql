-- One row per conversation of an account, folded from the conversation's own stream and from the account's outgoing
-- messages. What comes from the own stream is guarded by `version`; what comes from messages is a minimum or maximum.
-- `conversation_name` and `last_msg_content` are sealed.
create table conversations (
    -- UUIDv5 of account and WeCom's conversation id: the conversation's stream.
    id uuid primary key,
    tenant_id uuid not null,
    account_id uuid not null,
    conversation_id text collate "C" not null,
    conversation_name jsonb,
    conversation_type text not null check (conversation_type in ('private', 'group')),
    avatar_url jsonb,
    member_count integer,
    -- The newest message, by (last_msg_time, last_msg_key): WeCom's time of an incoming one, ours of an outgoing one.
    last_msg_time timestamptz,
    last_msg_key text collate "C",
    -- Set when the newest is incoming: its content, sealed.
    last_msg_content jsonb,
    -- Set when the newest is outgoing: the row of `messages` that holds its content.
    last_msg_id uuid,
    received_count bigint not null default 0 check (received_count >= 0),
    -- Of the received ones, those before the last read mark.
    read_count bigint not null default 0 check (read_count between 0 and received_count),
    unread_count bigint not null generated always as (received_count - read_count) stored,
    is_active boolean not null default true,
    is_pinned boolean not null default false,
    tags jsonb not null default '[]',
    extra_info jsonb,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    -- Of the conversation's own stream; 0 while only outgoing messages are known.
    version bigint not null default 0 check (version >= 0),
    check ((last_msg_time is null) = (last_msg_key is null)),
    check (last_msg_content is null or last_msg_id is null)
);

create index conversations_by_account on conversations (account_id, last_msg_time desc nulls last, id desc);

alter table conversations enable row level security;
alter table conversations force row level security;
create policy tenant on conversations using (tenant_id = nullif(current_setting('weft.tenant', true), '')::uuid);
grant select on conversations to weft_query;
