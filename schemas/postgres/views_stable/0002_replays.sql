-- Generations that `weft replay` and `weft projections check` made, beside the first.
create table replays (
    generation integer primary key check (generation > 1),
    projections text[] not null,
    -- filling: being made, and gone on with after a crash. filled: made up to a chosen place, to look at; never live.
    -- handed_over: was made live, and may be live, the one before it, or neither.
    state text not null default 'filling' check (state in ('filling', 'filled', 'handed_over')),
    -- Only compared with the live generation, then dropped.
    is_check boolean not null default false,
    -- Where it ends; null: where the live generation stands.
    until_epoch smallint,
    until_transaction_id bigint,
    until_position bigint,
    started_at timestamptz not null default clock_timestamp()
);
