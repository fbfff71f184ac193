-- What was used of a limit. A row of the append that uses it, so that racing commands, on whatever process, cannot pass
-- the limit together.
create table quota_usage (
    kind text collate "C" not null,
    scope text collate "C" not null,
    -- The tenant's local day, `2026-11-22`; empty for what has no day.
    period text collate "C" not null,
    used bigint not null default 0 check (used >= 0),
    primary key (kind, scope, period)
    -- Hot rows: room for the next version on the same page.
) with (fillfactor = 20, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0.5);

grant select, insert, update, delete on quota_usage to weft_log;

-- Every account that is not deleted holds its name. (Messages accepted before today's counters are not counted.)
insert into quota_usage (kind, scope, period, used)
select 'tenant_accounts', scope, '', count(*) from claims where kind = 'account_name' group by scope;

drop function append_commands(
    integer, timestamptz, integer[], uuid[], bytea[], text[], timestamptz, integer[], boolean[], text[], text[], text[],
    text[], text[], integer[], text[], text[], bigint[], text[], text[], text[], text[]);

-- One append: a batch of commands, each all or nothing, in one statement and one transaction. Keys first, then claims,
-- then quotas, then events, so that a losing command is known before any event is written; never `do nothing` on events,
-- which would half-apply a command. Every table is written in key order, so that two appends cannot deadlock.
--
-- Nothing here runs once per command as long as nobody loses a claim or a quota; only then are the commands gone through
-- one by one, in the order in which they came.
--
-- Commands are numbered from 1. A batch holds each stream and each digest at most once; events come sorted by stream
-- and sequence, counters by key, quota changes by command. Text arrays hold JSON where a column is jsonb: they bind
-- cheaper. `claims_are_plain`: nothing is released, and no claim is wanted twice. `counter_totals` is the sum of a
-- counter's changes, `counter_limits` its lowest limit. Guards are streams that commands were decided on without writing
-- to them, at the versions that they were seen at. With a `known_epoch` that is not the log's, or a guard that has moved
-- on, nothing is done and `outcomes` is null: what was decided was decided on another log, or on another state (`stale`
-- has the ordinals of those guards).
--
-- outcomes: 0 committed, 1 replay (replays has the stored answer), 2 key used for another body,
--           3 claim taken (losses has the ordinal of the claim change),
--           4 quota exceeded (losses has the ordinal of the quota change).
-- positions: of the events of the committed commands, in the given order.
-- A taken sequence fails the whole batch with unique_violation on events_pkey: load again, decide again, append again
-- in a new transaction.
create function append_commands(
    command_count integer, asked_at timestamptz, known_epoch smallint, lock_wait_ms integer,
    key_commands integer[], key_digests uuid[], key_body_hashes bytea[], key_answers text[], key_expiry timestamptz,
    claims_are_plain boolean,
    claim_commands integer[], claim_takes boolean[], claim_kinds text[], claim_scopes text[], claim_values text[],
    claim_types text[], claim_ids text[],
    guard_aggregates text[], guard_ids text[], guard_versions bigint[],
    counter_kinds text[], counter_scopes text[], counter_periods text[], counter_totals bigint[], counter_limits bigint[],
    quota_commands integer[], quota_counters integer[], quota_changes bigint[], quota_limits bigint[],
    event_commands integer[], event_aggregates text[], event_ids text[], event_sequences bigint[],
    event_names text[], event_versions text[], event_payloads text[], event_metadata text[],
    out log_epoch smallint, out log_transaction bigint, out stale integer[],
    out outcomes integer[], out replays json[], out losses integer[], out positions bigint[]
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
    -- Nobody has lost so far.
    unharmed boolean := true;
    loser record;
    taken_kinds text[];
    taken_scopes text[];
    taken_values text[];
    used bigint[];
    used_by_all bigint[];
    counted boolean := false;
    first_quota integer;
    next_quota integer := 1;
    lost integer;
begin
    select i.epoch into strict log_epoch from log_identity i;
    if log_epoch <> known_epoch then
        return;
    end if;
    if cardinality(guard_aggregates) > 0 then
        select array_agg(g.ordinal) into stale
        from unnest(guard_aggregates, guard_ids, guard_versions) with ordinality
            as g (aggregate_type, aggregate_id, version, ordinal)
        where exists (
            select from events e
            where e.aggregate_type = g.aggregate_type and e.aggregate_id = g.aggregate_id and e.sequence > g.version);
        if stale is not null then
            return;
        end if;
    end if;
    if lock_wait_ms is not null then
        perform set_config('lock_timeout', lock_wait_ms::text, true);
    end if;
    outcomes := array_fill(0, array[command_count]);
    replays := array_fill(null::json, array[command_count]);
    losses := array_fill(null::integer, array[command_count]);
    positions := '{}';

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
            unharmed := false;
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

    -- Locks every claim that is changed or asked about, existing or new, in key order. Where all is plain, a new one is
    -- its taker's at once; else it is nobody's yet.
    if cardinality(claim_commands) > 0 then
        with taken as (
            insert into claims (kind, scope, value, aggregate_type, aggregate_id)
            select distinct on (1, 2, 3) c.kind collate "C", c.scope collate "C", c.value collate "C",
                case when claims_are_plain then c.aggregate_type else '' end,
                case when claims_are_plain then c.aggregate_id else '' end
            from unnest(claim_commands, claim_kinds, claim_scopes, claim_values, claim_types, claim_ids)
                as c (command, kind, scope, value, aggregate_type, aggregate_id)
            where outcomes[c.command] = 0
            order by 1, 2, 3
            on conflict (kind, scope, value) do update set kind = excluded.kind where false
            returning claims.kind, claims.scope, claims.value
        )
        select array_agg(t.kind), array_agg(t.scope), array_agg(t.value)
        into taken_kinds, taken_scopes, taken_values from taken t;
        if not claims_are_plain or coalesce(cardinality(taken_kinds), 0) < cardinality(claim_commands) then
            unharmed := false;
        end if;
    end if;

    -- Every counter, in key order; nothing after this waits but for a stream. As long as nobody has lost and nothing is
    -- given back, all is counted at once; else the counters are only locked.
    if cardinality(counter_kinds) > 0 then
        if unharmed and 0 <= all (counter_totals) then
            with c as (
                insert into quota_usage as u (kind, scope, period, used)
                select c.kind, c.scope, c.period, c.total
                from unnest(counter_kinds, counter_scopes, counter_periods, counter_totals) with ordinality
                    as c (kind, scope, period, total, ordinal)
                order by c.ordinal
                on conflict (kind, scope, period) do update set used = u.used + excluded.used
                returning u.kind, u.scope, u.period, u.used
            )
            select array_agg(c.used order by c.kind, c.scope, c.period) into used from c;
            select bool_and(c.used <= c.most) into unharmed from unnest(used, counter_limits) as c (used, most);
            counted := unharmed;
            if not unharmed then
                select array_agg(c.used - c.total) into used from unnest(used, counter_totals) as c (used, total);
            end if;
        else
            insert into quota_usage as u (kind, scope, period)
            select c.kind, c.scope, c.period
            from unnest(counter_kinds, counter_scopes, counter_periods) with ordinality as c (kind, scope, period, ordinal)
            order by c.ordinal
            on conflict (kind, scope, period) do update set used = excluded.used where false;

            select array_agg(u.used order by c.ordinal) into used
            from unnest(counter_kinds, counter_scopes, counter_periods) with ordinality as c (kind, scope, period, ordinal)
            join quota_usage u on u.kind = c.kind and u.scope = c.scope and u.period = c.period;
            if unharmed then
                select bool_and(c.total <= 0 or c.used + c.total <= c.most), array_agg(greatest(c.used + c.total, 0))
                into unharmed, used_by_all
                from unnest(used, counter_totals, counter_limits) as c (used, total, most);
                if unharmed then
                    used := used_by_all;
                end if;
            end if;
        end if;
    end if;

    if not unharmed then
        if claims_are_plain then
            update claims held set aggregate_type = '', aggregate_id = ''
            from unnest(taken_kinds, taken_scopes, taken_values) as t (kind, scope, value)
            where held.kind = t.kind and held.scope = t.scope and held.value = t.value;
        end if;
        for contender in 1..command_count loop
            first_quota := next_quota;
            while next_quota <= cardinality(quota_commands) and quota_commands[next_quota] = contender loop
                next_quota := next_quota + 1;
            end loop;
            continue when outcomes[contender] <> 0;

            if contender = any (claim_commands) then
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
                    losses[contender] := lost;
                    continue;
                end if;
            end if;

            for change in first_quota..next_quota - 1 loop
                if quota_changes[change] > 0
                    and used[quota_counters[change]] + quota_changes[change] > quota_limits[change]
                then
                    outcomes[contender] := 4;
                    losses[contender] := change;
                    exit;
                end if;
            end loop;
            continue when outcomes[contender] <> 0;

            for change in first_quota..next_quota - 1 loop
                used[quota_counters[change]] := greatest(used[quota_counters[change]] + quota_changes[change], 0);
            end loop;
            if contender = any (claim_commands) then
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
            end if;
        end loop;

        -- What nobody holds goes; so does what a loser took: its idempotency key.
        delete from claims held
        using unnest(claim_kinds, claim_scopes, claim_values) as c (kind, scope, value)
        where held.kind = c.kind and held.scope = c.scope and held.value = c.value and held.aggregate_id = '';
        delete from idempotency_keys i
        using unnest(key_commands, key_digests) as k (command, digest)
        where i.digest = k.digest and outcomes[k.command] in (3, 4);
    end if;

    if not counted and cardinality(counter_kinds) > 0 then
        update quota_usage u set used = c.used
        from unnest(counter_kinds, counter_scopes, counter_periods, used) as c (kind, scope, period, used)
        where u.kind = c.kind and u.scope = c.scope and u.period = c.period and u.used <> c.used;
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
            returning events.position
        )
        -- Positions are given in the order of the insert.
        select coalesce(array_agg(w.position order by w.position), '{}') into positions from written w;
    end if;

    log_transaction := pg_current_xact_id_if_assigned()::text::bigint;
end
$$;

revoke execute on function append_commands from public;
grant execute on function append_commands to weft_log;
