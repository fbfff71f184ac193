//! Account lanes: the unit of claim of dispatch. Whoever holds a lane takes turns: each turn writes down what became of
//! the messages of the last one and takes the next ones, in one transaction.

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::postgres::PgRow;
use sqlx::{PgPool, Row};
use uuid::Uuid;
use weft_domain::account::{Account, AccountStatus};
use weft_log_reader::LoadError;

use super::REBUILD_LOCK;
use super::messages::{COLUMNS, MessageState, QueuedMessage, read};
use super::receipts::Receipt;

/// A lane in this process's hands.
#[derive(Clone, Debug)]
pub(crate) struct Lane {
    pub(crate) account_id: Uuid,
    pub(crate) tenant_id: Uuid,
    pub(crate) owner: i64,
    /// Fencing: a later claim has a higher number.
    pub(crate) number: i64,
    /// What an owner that died had in its hands.
    pub(crate) left_behind: Vec<Uuid>,
}

/// What became of the messages of a turn.
#[derive(Debug, Default)]
pub(crate) struct LaneChange {
    pub(crate) keep: Vec<QueuedMessage>,
    pub(crate) remove: Vec<Uuid>,
    pub(crate) receipts: Vec<Receipt>,
    pub(crate) next_free_at: Option<DateTime<Utc>>,
}

/// What a lane's owner may do next.
#[derive(Clone, Debug)]
pub(crate) struct Turn {
    /// What the feed had told the lane when the messages were chosen.
    pub(crate) changes: i64,
    pub(crate) status: AccountStatus,
    pub(crate) guid: Option<String>,
    pub(crate) send_interval_ms: i32,
    pub(crate) restricted_until: Option<DateTime<Utc>>,
    pub(crate) next_free_at: Option<DateTime<Utc>>,
    /// Found in `sending`, though nobody can be sending them now.
    pub(crate) stranded: Vec<QueuedMessage>,
    /// To be sent, in order.
    pub(crate) ready: Vec<QueuedMessage>,
}

impl Turn {
    /// Takes over what the log says of the account.
    fn follow(&mut self, account: &Account) {
        self.status = account.status.unwrap_or(AccountStatus::Created);
        self.guid.clone_from(&account.guid);
        self.send_interval_ms = i32::try_from(account.config.send_interval_ms).unwrap_or(i32::MAX);
        self.restricted_until = account.restricted_until;
    }

    /// Nothing is known yet, and nothing may be sent.
    pub(crate) const fn blank() -> Self {
        Self {
            changes: 0,
            status: AccountStatus::Offline,
            guid: None,
            send_interval_ms: 0,
            restricted_until: None,
            next_free_at: None,
            stranded: Vec::new(),
            ready: Vec::new(),
        }
    }
}

/// How long unknown outcomes hold their conversation back, and how many messages a turn takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TurnOptions {
    pub(crate) size: i64,
    pub(crate) unknown_timeout: TimeDelta,
    pub(crate) lease_seconds: f64,
}

/// Takes lanes that have something to do, fairly between tenants: each tenant's next lane counts after the lanes it
/// already has.
pub(crate) async fn claim_lanes(
    pool: &PgPool,
    owner: i64,
    mine: &[Uuid],
    now: DateTime<Utc>,
    lease_seconds: f64,
    limit: i64,
) -> Result<Vec<Lane>, sqlx::Error> {
    // A dead owner's lane is taken whatever its account's status: what was in flight has to be settled.
    let rows = sqlx::query(
        "with live as materialized (select workers.live_owners() as owner),
         allowed as materialized (select pg_try_advisory_xact_lock_shared($6) as yes),
         free as (
           select account_id, tenant_id, served_at from workers.account_lanes
           where wake_at <= $3
             and (status in ('online', 'deleted') or (status = 'rate_limited' and restricted_until <= $3))
             and (lease_owner is null or lease_until < now() or (lease_owner <> $1 and lease_owner not in (select owner from live)))
           union
           select account_id, tenant_id, served_at from workers.account_lanes
           where in_flight <> '{}'
             and (lease_owner is null or lease_until < now() or (lease_owner <> $1 and lease_owner not in (select owner from live)))),
         busy as (
           select tenant_id, count(*) as lanes from workers.account_lanes where lease_owner is not null
           group by tenant_id),
         ranked as (
           select free.account_id, free.served_at,
             coalesce(busy.lanes, 0) + row_number() over (partition by free.tenant_id order by free.served_at) as turn
           from free left join busy using (tenant_id)
           where free.account_id <> all ($2) and (select yes from allowed)),
         chosen as (
           select lane.account_id from ranked join workers.account_lanes lane using (account_id)
           where lane.lease_owner is null or lane.lease_until < now()
              or (lane.lease_owner <> $1 and lane.lease_owner not in (select owner from live))
           order by ranked.turn, ranked.served_at
           limit $5
           for update of lane skip locked)
         update workers.account_lanes lane
         set lease_owner = $1, lease_until = now() + make_interval(secs => $4), lease_number = lane.lease_number + 1
         from chosen where lane.account_id = chosen.account_id
         returning lane.account_id, lane.tenant_id, lane.lease_number, lane.in_flight",
    )
    .bind(owner)
    .bind(mine)
    .bind(now)
    .bind(lease_seconds)
    .bind(limit)
    .bind(REBUILD_LOCK)
    .fetch_all(pool)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(Lane {
                account_id: row.try_get("account_id")?,
                tenant_id: row.try_get("tenant_id")?,
                owner,
                number: row.try_get("lease_number")?,
                left_behind: row.try_get("in_flight")?,
            })
        })
        .collect()
}

/// Prolongs the leases of lanes in work; answers those that were. A lane whose row is being written is left to the next
/// time.
pub(crate) async fn renew_lanes(
    pool: &PgPool,
    owner: i64,
    accounts: &[Uuid],
    lease_seconds: f64,
) -> Result<Vec<Uuid>, sqlx::Error> {
    sqlx::query_scalar(
        "update workers.account_lanes set lease_until = now() + make_interval(secs => $3)
         where account_id in (
           select account_id from workers.account_lanes where account_id = any($2) and lease_owner = $1
           for update skip locked)
         returning account_id",
    )
    .bind(owner)
    .bind(accounts)
    .bind(lease_seconds)
    .fetch_all(pool)
    .await
}

/// Writes down the last turn's outcome and takes the next turn; `None`: the lane is somebody else's now.
///
/// Two statements, each complete by itself: after the first nothing is in flight and everything is written down.
pub(crate) async fn take_turn(
    pool: &PgPool,
    lane: &Lane,
    done: &LaneChange,
    now: DateTime<Utc>,
    options: TurnOptions,
) -> Result<Option<Turn>, LoadError> {
    let Some((mut turn, head, version)) = finish_turn(pool, lane, done, options).await? else {
        return Ok(None);
    };
    if head > version {
        // The feed is behind: a disabled account sends nothing from now on, not from when the feed has heard of it.
        turn.follow(
            &weft_log_reader::load::<Account>(pool, &lane.account_id.to_string())
                .await?
                .state,
        );
    }
    let can_send = match turn.status {
        AccountStatus::Online | AccountStatus::Deleted => true,
        AccountStatus::RateLimited => turn.restricted_until.is_none_or(|until| until <= now),
        _ => false,
    };
    if can_send {
        let rows = next_messages(pool, lane, &turn, now, options).await?;
        (turn.stranded, turn.ready) = rows.into_iter().partition(|m| m.row.state == MessageState::Sending);
    }
    Ok(Some(turn))
}

/// Rows that the feed has taken out meanwhile do not come back. A row is written over by an equal version too: the
/// lane's owner knows more than the event says.
async fn finish_turn(
    pool: &PgPool,
    lane: &Lane,
    done: &LaneChange,
    options: TurnOptions,
) -> Result<Option<(Turn, i64, i64)>, sqlx::Error> {
    fn column<R, T>(rows: &[R], value: impl Fn(&R) -> T) -> Vec<T> {
        rows.iter().map(value).collect()
    }
    let (keep, receipts) = (&done.keep, &done.receipts);
    let row = sqlx::query(
        "with lane as (
           update workers.account_lanes
           set lease_until = now() + make_interval(secs => $4), in_flight = '{}',
               next_free_at = coalesce($5, next_free_at)
           where account_id = $1 and lease_owner = $2 and lease_number = $3
           returning account_id, version, changes, status, guid, send_interval_ms, restricted_until, next_free_at),
         locked as (
           select message_id from workers.messages
           where message_id = any ($6::uuid[] || $7::uuid[]) and exists (select from lane)
           order by message_id for update),
         removed as (
           delete from workers.messages m using locked where m.message_id = locked.message_id and m.message_id = any ($6)),
         kept as (
           update workers.messages m
           set version = v.version, state = v.state, attempt = v.attempt, retry_count = v.retry_count,
               not_before = v.not_before, not_ready_since = v.not_ready_since,
               attempt_started_at = v.attempt_started_at, unknown_since = v.unknown_since,
               content_digest = coalesce(v.content_digest, m.content_digest)
           from unnest($7::uuid[], $8::bigint[], $9::text[], $10::integer[], $11::integer[], $12::timestamptz[],
                       $13::timestamptz[], $14::timestamptz[], $15::timestamptz[], $16::bytea[])
             as v (message_id, version, state, attempt, retry_count, not_before, not_ready_since, attempt_started_at,
                   unknown_since, content_digest)
             join locked using (message_id)
           where m.message_id = v.message_id and m.version <= v.version),
         known as (
           insert into workers.receipts
             (message_id, tenant_id, account_id, wework_msg_id, appinfo, correlation_id, sent_at)
           select * from unnest($17::uuid[], $18::uuid[], $19::uuid[], $20::text[], $21::text[], $22::text[],
                                $23::timestamptz[]) as r
           where exists (select from lane)
           order by 1
           on conflict (message_id) do nothing)
         select lane.*, coalesce((
           select max(e.sequence) from events e
           where e.aggregate_type = 'account' and e.aggregate_id = lane.account_id::text), 0) as head
         from lane",
    )
    .bind(lane.account_id)
    .bind(lane.owner)
    .bind(lane.number)
    .bind(options.lease_seconds)
    .bind(done.next_free_at)
    .bind(&done.remove)
    .bind(column(keep, |m| m.message_id))
    .bind(column(keep, |m| m.row.version))
    .bind(column(keep, |m| m.row.state.as_str()))
    .bind(column(keep, |m| m.row.attempt))
    .bind(column(keep, |m| m.row.retry_count))
    .bind(column(keep, |m| m.row.not_before))
    .bind(column(keep, |m| m.row.not_ready_since))
    .bind(column(keep, |m| m.row.attempt_started_at))
    .bind(column(keep, |m| m.row.unknown_since))
    .bind(column(keep, |m| m.row.content_digest.clone()))
    .bind(column(receipts, |r| r.message_id))
    .bind(column(receipts, |r| r.tenant_id))
    .bind(column(receipts, |r| r.account_id))
    .bind(column(receipts, |r| r.wework_msg_id.clone()))
    .bind(column(receipts, |r| r.appinfo.clone()))
    .bind(column(receipts, |r| r.correlation_id.clone()))
    .bind(column(receipts, |r| r.sent_at))
    .fetch_optional(pool)
    .await?;
    row.as_ref()
        .map(|row| Ok((read_turn(row)?, row.try_get("head")?, row.try_get("version")?)))
        .transpose()
}

fn read_turn(row: &PgRow) -> Result<Turn, sqlx::Error> {
    let status: &str = row.try_get("status")?;
    Ok(Turn {
        changes: row.try_get("changes")?,
        status: AccountStatus::parse(status)
            .ok_or_else(|| sqlx::Error::Decode(format!("account status {status}").into()))?,
        guid: row.try_get("guid")?,
        send_interval_ms: row.try_get("send_interval_ms")?,
        restricted_until: row.try_get("restricted_until")?,
        next_free_at: row.try_get("next_free_at")?,
        stranded: Vec::new(),
        ready: Vec::new(),
    })
}

/// Chooses messages and marks them as in flight.
async fn next_messages(
    pool: &PgPool,
    lane: &Lane,
    turn: &Turn,
    now: DateTime<Utc>,
    options: TurnOptions,
) -> Result<Vec<QueuedMessage>, sqlx::Error> {
    // Higher priority first, then by due time, then by acceptance. What waits for its retry holds back what comes after
    // it; a planned message nobody; an unknown outcome its conversation. The probe after a cool-down is the message
    // that was accepted first.
    let order = if turn.status == AccountStatus::RateLimited {
        "accepted_epoch, accepted_transaction, accepted_position"
    } else {
        "priority desc, due_at, accepted_epoch, accepted_transaction, accepted_position"
    };
    // A deleted account's messages are all cancelled, planned ones too.
    let sql = format!(
        "with run as (
           select {COLUMNS} from workers.messages m
           where m.account_id = $1 and m.state = 'pending'
             and ($7 or (m.due_at <= $2
               and not exists (
                 select from workers.messages u
                 where u.account_id = $1 and u.state <> 'pending' and u.conversation_id = m.conversation_id
                   and (u.unknown_since is null or u.unknown_since > $3))
               and not exists (
                 select from workers.messages r
                 where r.account_id = $1 and r.not_before > $2 and r.state = 'pending' and r.due_at <= $2
                   and (r.priority > m.priority or (r.priority = m.priority
                     and (r.due_at, r.accepted_epoch, r.accepted_transaction, r.accepted_position)
                      <= (m.due_at, m.accepted_epoch, m.accepted_transaction, m.accepted_position))))))
           order by {order}
           limit $4),
         stranded as (select {COLUMNS} from workers.messages where account_id = $1 and state = 'sending'),
         mark as (
           update workers.account_lanes
           set in_flight = array(select message_id from run union all select message_id from stranded)
           where account_id = $1 and lease_owner = $5 and lease_number = $6
           returning 1)
         select taken.* from (select * from stranded union all (select * from run)) taken
         where exists (select from mark)"
    );
    let probing = turn.status == AccountStatus::RateLimited;
    let rows = sqlx::query(&sql)
        .bind(lane.account_id)
        .bind(now)
        .bind(now - options.unknown_timeout)
        .bind(if probing { 1 } else { options.size })
        .bind(lane.owner)
        .bind(lane.number)
        .bind(turn.status == AccountStatus::Deleted)
        .fetch_all(pool)
        .await?;
    let mut messages = rows.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    // `union all` promises no order.
    if !probing {
        messages.sort_by(|a, b| (b.priority, a.due_at, a.accepted).cmp(&(a.priority, b.due_at, b.accepted)));
    }
    Ok(messages)
}

/// Why a lane is given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Release {
    /// Nothing to do now: it wakes when the next message is due.
    Idle,
    /// Others shall have their turn.
    Yield,
}

/// Gives a lane back; `false`: the feed has changed something that the last turn has not seen, or the lane is somebody
/// else's now: take another turn.
pub(crate) async fn release_lane(
    pool: &PgPool,
    lane: &Lane,
    seen: i64,
    release: Release,
    now: DateTime<Utc>,
    unknown_timeout: TimeDelta,
) -> Result<bool, sqlx::Error> {
    let released = sqlx::query(
        "update workers.account_lanes lane
         set lease_owner = null, lease_until = null, in_flight = '{}', served_at = now(),
             wake_at = case
               when lane.status not in ('online', 'deleted', 'rate_limited') then null
               when $5 then greatest($6, lane.next_free_at)
               when lane.status = 'rate_limited' and lane.restricted_until > $6 then (
                 select lane.restricted_until where exists (
                   select from workers.messages m where m.account_id = lane.account_id and m.state = 'pending'))
               else (
                 select case when min(next.at) is not null then greatest(min(next.at), lane.next_free_at) end
                 from (
                   select min(m.due_at) as at from workers.messages m
                   where m.account_id = lane.account_id and m.state = 'pending' and m.due_at > $6
                   union all
                   select min(m.not_before) from workers.messages m
                   where m.account_id = lane.account_id and m.state = 'pending' and m.not_before > $6
                   union all
                   select min(m.unknown_since + $7) from workers.messages m
                   where m.account_id = lane.account_id and m.state = 'unknown' and m.unknown_since + $7 > $6
                 ) as next) end
         where lane.account_id = $1 and lane.lease_owner = $2 and lane.lease_number = $3 and lane.changes = $4",
    )
    .bind(lane.account_id)
    .bind(lane.owner)
    .bind(lane.number)
    .bind(seen)
    .bind(release == Release::Yield)
    .bind(now)
    .bind(unknown_timeout)
    .execute(pool)
    .await?;
    Ok(released.rows_affected() == 1)
}
