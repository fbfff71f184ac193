-- One append: a batch of commands, each all or nothing, in one statement and one transaction. Keys first, then claims,
-- then events, so that a losing command is known before any event is written; never `do nothing` on events, which would
-- half-apply a command. Every table is written in key order, so that two appends cannot deadlock.
--
-- Commands are numbered from 1. A batch holds each stream and each digest at most once; events come sorted by stream
-- and sequence. Text arrays hold JSON where a column is jsonb: they bind cheaper.
--
-- outcomes: 0 committed, 1 replay (replays has the stored answer), 2 key used for another body,
--           3 claim taken (lost_claims has the ordinal of the claim change).
-- positions: of the events of the committed commands, in the given order.
-- A taken sequence fails the whole batch with unique_violation on events_pkey: load again, decide again, append again
-- in a new transaction.
create function append_commands(
    command_count integer,
    asked_at timestamptz,
    key_commands integer[], key_digests uuid[], key_body_hashes bytea[], key_answers text[], key_expiry timestamptz,
    claim_commands integer[], claim_takes boolean[], claim_kinds text[], claim_scopes text[], claim_values text[],
    claim_types text[], claim_ids text[],
    event_commands integer[], event_aggregates text[], event_ids text[], event_sequences bigint[],
    event_names text[], event_versions text[], event_payloads text[], event_metadata text[],
    out log_epoch smallint, out log_transaction bigint,
    out outcomes integer[], out replays json[], out lost_claims integer[], out positions bigint[]
)
language plpgsql
-- A handful of rows meets large tables by their keys. Without this, a plan made while the tables were empty would read
-- them whole for as long as its connection lives.
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
#variable_conflict use_variable
declare
    won uuid[];
    loser record;
    contender integer;
    lost integer;
begin
    outcomes := array_fill(0, array[command_count]);
    replays := array_fill(null::json, array[command_count]);
    lost_claims := array_fill(null::integer, array[command_count]);
    positions := '{}';
    select i.epoch into strict log_epoch from log_identity i;

    if cardinality(key_commands) > 0 then
        -- Waits for a concurrent append of the same key to end. An expired key is taken over.
        with taken as (
            insert into idempotency_keys as i (digest, body_hash, answer, expires_at)
            select k.digest, k.body_hash, k.answer::json, key_expiry
            from unnest(key_digests, key_body_hashes, key_answers) as k (digest, body_hash, answer)
            order by k.digest
            on conflict (digest) do update
                set body_hash = excluded.body_hash, answer = excluded.answer, expires_at = excluded.expires_at
                where i.expires_at <= asked_at
            returning i.digest
        )
        select coalesce(array_agg(t.digest), '{}') into won from taken t;
        if cardinality(won) < cardinality(key_commands) then
            -- A statement of its own, to see what was committed while the first one waited.
            for loser in
                select k.command, k.body_hash = i.body_hash as same_body, i.answer
                from unnest(key_commands, key_digests, key_body_hashes) as k (command, digest, body_hash)
                join idempotency_keys i on i.digest = k.digest
                where k.digest <> all (won)
            loop
                outcomes[loser.command] := case when loser.same_body then 1 else 2 end;
                if loser.same_body then
                    replays[loser.command] := loser.answer;
                end if;
            end loop;
        end if;
    end if;

    if cardinality(claim_commands) > 0 then
        -- Locks every row that is changed or asked about, existing or new (nobody's yet), in key order: nothing after
        -- this waits.
        insert into claims (kind, scope, value, aggregate_type, aggregate_id)
        select distinct c.kind collate "C", c.scope collate "C", c.value collate "C", '', ''
        from unnest(claim_commands, claim_kinds, claim_scopes, claim_values) as c (command, kind, scope, value)
        where outcomes[c.command] = 0
        order by 1, 2, 3
        on conflict (kind, scope, value) do update set kind = excluded.kind where false;

        for contender in
            select distinct c.command from unnest(claim_commands) as c (command)
            where outcomes[c.command] = 0
            order by c.command
        loop
            -- A command's releases come before its takes, so that streams may swap their claims. Lost is what another
            -- stream holds and does not give up in this command, or takes in this command too.
            with changes as materialized (
                select * from unnest(claim_commands, claim_takes, claim_kinds, claim_scopes, claim_values, claim_types, claim_ids)
                    with ordinality as c (command, take, kind, scope, value, aggregate_type, aggregate_id, ordinal)
                where c.command = contender
            )
            select min(take.ordinal) into lost
            from changes take
            join claims held on held.kind = take.kind and held.scope = take.scope and held.value = take.value
            where take.take and (
                (held.aggregate_id <> ''
                    and (held.aggregate_type, held.aggregate_id) <> (take.aggregate_type, take.aggregate_id)
                    and not exists (
                        select from changes release
                        where not release.take
                            and (release.kind, release.scope, release.value) = (take.kind, take.scope, take.value)
                            and (release.aggregate_type, release.aggregate_id) = (held.aggregate_type, held.aggregate_id)))
                or exists (
                    select from changes rival
                    where rival.take and rival.ordinal < take.ordinal
                        and (rival.kind, rival.scope, rival.value) = (take.kind, take.scope, take.value)
                        and (rival.aggregate_type, rival.aggregate_id) <> (take.aggregate_type, take.aggregate_id)));
            if lost is not null then
                outcomes[contender] := 3;
                lost_claims[contender] := lost;
                continue;
            end if;
            -- A claim is released only by its owner.
            update claims held set aggregate_type = '', aggregate_id = ''
            from unnest(claim_commands, claim_takes, claim_kinds, claim_scopes, claim_values, claim_types, claim_ids)
                as release (command, take, kind, scope, value, aggregate_type, aggregate_id)
            where release.command = contender and not release.take
                and held.kind = release.kind and held.scope = release.scope and held.value = release.value
                and held.aggregate_type = release.aggregate_type and held.aggregate_id = release.aggregate_id;
            update claims held
            set aggregate_type = take.aggregate_type, aggregate_id = take.aggregate_id, claimed_at = asked_at
            from unnest(claim_commands, claim_takes, claim_kinds, claim_scopes, claim_values, claim_types, claim_ids)
                as take (command, take, kind, scope, value, aggregate_type, aggregate_id)
            where take.command = contender and take.take
                and held.kind = take.kind and held.scope = take.scope and held.value = take.value
                and held.aggregate_id = '';
        end loop;

        -- What nobody holds goes; so does what a loser took: its idempotency key.
        delete from claims held
        using unnest(claim_kinds, claim_scopes, claim_values) as c (kind, scope, value)
        where held.kind = c.kind and held.scope = c.scope and held.value = c.value and held.aggregate_id = '';
        delete from idempotency_keys i
        using unnest(key_commands, key_digests) as k (command, digest)
        where i.digest = k.digest and outcomes[k.command] = 3;
    end if;

    if cardinality(event_commands) > 0 then
        with written as (
            insert into events
                (aggregate_type, aggregate_id, sequence, event_type, event_version, payload, metadata, epoch)
            select e.aggregate_type, e.aggregate_id, e.sequence, e.event_type, e.event_version,
                e.payload::jsonb, e.metadata::jsonb, log_epoch
            from unnest(event_commands, event_aggregates, event_ids, event_sequences, event_names, event_versions,
                    event_payloads, event_metadata) with ordinality
                as e (command, aggregate_type, aggregate_id, sequence, event_type, event_version, payload, metadata, ordinal)
            where outcomes[e.command] = 0
            order by e.ordinal
            returning events.aggregate_type, events.aggregate_id, events.sequence, events.position
        )
        select coalesce(array_agg(w.position order by w.aggregate_type, w.aggregate_id, w.sequence), '{}')
        into positions from written w;
    end if;

    log_transaction := pg_current_xact_id_if_assigned()::text::bigint;
end
$$;

revoke execute on function append_commands from public;
grant execute on function append_commands to weft_log;
