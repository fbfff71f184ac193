//! Archives a closed month: the events of the messages that were born in it move into a table of their own.
//!
//! Every step is a transaction, and the next call goes on where the last one ended. `close` comes first: from then on the
//! month takes no more events. That matters for more than order: a primary key holds within one table, so an append that
//! is decided on a remembered state must not find the month's sequences free.

use sqlx::{PgPool, Row};

/// Since when nothing must have happened to any message of the month: the workers forget receipts after 30 days, so that
/// no callback finds its message later than that.
pub const QUIET_DAYS: i32 = 31;
/// Rows moved by one transaction: far below the 200 ms that a reader of the log's tail may be held back.
const ROWS: i64 = 2_000;
/// What the constraint is called that keeps new events out of a month, but for the month.
pub(crate) const FENCE: &str = "events_open_";
/// Whoever archives is alone.
const LOCK: i64 = 0x7765_6674_6172_6368;

/// A month of ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Month {
    /// `2026-03`.
    pub name: String,
    /// The first id that a UUIDv7 of the month can have, and the first one behind it.
    pub first_id: String,
    pub end_id: String,
}

/// How far a month has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Open,
    Closing,
    Exported,
    Archived,
}

/// What a month holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contents {
    pub streams: i64,
    pub events: i64,
    /// Of the exported lines.
    pub sha256: String,
}

/// Why a month is not archived.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    #[error("log.admin_url: {0}")]
    Database(#[from] sqlx::Error),
    #[error("another weft log archive works on this log: wait until it has ended")]
    Busy,
    #[error(
        "{open} messages of {month} have not ended, or something happened to them in the last {QUIET_DAYS} days: such as message/{example}"
    )]
    NotClosed { month: String, open: i64, example: String },
    #[error(
        "{0} is not over, or not for {QUIET_DAYS} days: closing it would refuse messages that are yet to be born in it"
    )]
    NotOver(String),
}

impl Month {
    /// `None` for what is no month, `2026-13`.
    pub fn parse(name: &str) -> Option<Self> {
        let first = chrono::NaiveDate::parse_from_str(&format!("{name}-01"), "%Y-%m-%d").ok()?;
        let end = first.checked_add_months(chrono::Months::new(1))?;
        let id = |day: chrono::NaiveDate| {
            let milliseconds = day.and_time(chrono::NaiveTime::MIN).and_utc().timestamp_millis();
            let hex = format!("{milliseconds:012x}");
            format!("{}-{}-7000-8000-000000000000", &hex[..8], &hex[8..])
        };
        Some(Self {
            // As it is stored, however it was written.
            name: first.format("%Y-%m").to_string(),
            first_id: id(first),
            end_id: id(end),
        })
    }

    fn table(&self) -> String {
        format!("archive.events_{}", self.word())
    }

    /// As a part of a name.
    fn word(&self) -> String {
        self.name.replace('-', "_")
    }
}

/// One archiving of one month. `pool` as the owner of the log's tables.
#[derive(Debug)]
pub struct Archive {
    pool: PgPool,
    pub month: Month,
    /// Ends with the connection.
    _lock: sqlx::pool::PoolConnection<sqlx::Postgres>,
}

impl Archive {
    pub async fn begin(pool: PgPool, month: Month) -> Result<Self, ArchiveError> {
        let mut lock = pool.acquire().await?;
        // Not to be handed back to the pool with the lock on it.
        lock.close_on_drop();
        let locked: bool = sqlx::query_scalar("select pg_try_advisory_lock($1)")
            .bind(LOCK)
            .fetch_one(&mut *lock)
            .await?;
        if !locked {
            return Err(ArchiveError::Busy);
        }
        Ok(Self {
            pool,
            month,
            _lock: lock,
        })
    }

    pub async fn state(&self) -> Result<State, ArchiveError> {
        let state: Option<String> = sqlx::query_scalar("select state from archive.months where month = $1")
            .bind(&self.month.name)
            .fetch_optional(&self.pool)
            .await?;
        Ok(match state.as_deref() {
            None => State::Open,
            Some("closing") => State::Closing,
            Some("exported") => State::Exported,
            Some(_) => State::Archived,
        })
    }

    /// Lets the month take no more events, and makes the table that it moves to. Refuses a month that is still needed for
    /// writing, and leaves it open.
    pub async fn close(&self) -> Result<(), ArchiveError> {
        match self.state().await? {
            State::Open => {
                self.refuse_unended().await?;
                self.refuse_young().await?;
                self.fence().await?;
            }
            State::Closing => {}
            State::Exported | State::Archived => return Ok(()),
        }
        // What came between the look and the fence.
        if let Err(refused) = self.refuse_unended().await {
            if matches!(refused, ArchiveError::NotClosed { .. }) {
                self.unfence().await?;
            }
            return Err(refused);
        }
        Ok(())
    }

    async fn fence(&self) -> Result<(), ArchiveError> {
        let Month { name, first_id, end_id } = &self.month;
        let (table, word) = (self.month.table(), self.month.word());
        self.alter(&[
            format!("insert into archive.months (month) values ('{name}')"),
            format!("create table {table} () inherits (public.events)"),
            format!("alter table {table} add primary key (aggregate_type, aggregate_id, sequence)"),
            format!("create index events_{word}_tail on {table} (epoch, transaction_id, position)"),
            format!(
                "alter table events add constraint {FENCE}{word}
                 check (aggregate_type <> 'message' or aggregate_id < '{first_id}' or aggregate_id >= '{end_id}')
                 no inherit not valid"
            ),
        ])
        .await
    }

    /// Nothing was moved yet.
    async fn unfence(&self) -> Result<(), ArchiveError> {
        self.alter(&[
            format!("alter table events drop constraint {FENCE}{}", self.month.word()),
            format!("drop table {}", self.month.table()),
            format!("delete from archive.months where month = '{}'", self.month.name),
        ])
        .await
    }

    async fn alter(&self, statements: &[String]) -> Result<(), ArchiveError> {
        let mut transaction = self.pool.begin().await?;
        // Whoever appends waits for this one, which waits for who appends: not for long.
        sqlx::query("set local lock_timeout = '2s'")
            .execute(&mut *transaction)
            .await?;
        for statement in statements {
            sqlx::query(statement).execute(&mut *transaction).await?;
        }
        Ok(transaction.commit().await?)
    }

    async fn refuse_young(&self) -> Result<(), ArchiveError> {
        let is_over: bool = sqlx::query_scalar(
            "select clock_timestamp() > (($1 || '-01')::date + interval '1 month') at time zone 'UTC'
                                        + make_interval(days => $2)",
        )
        .bind(&self.month.name)
        .bind(QUIET_DAYS)
        .fetch_one(&self.pool)
        .await?;
        if is_over {
            Ok(())
        } else {
            Err(ArchiveError::NotOver(self.month.name.clone()))
        }
    }

    async fn refuse_unended(&self) -> Result<(), ArchiveError> {
        let row = sqlx::query(
            "with streams as (
               select aggregate_id, max(recorded_at) as moved_at,
                      (array_agg(event_type order by sequence desc) filter (where event_type <> 'MessageRead'))[1] as last,
                      (array_agg(payload ->> 'outcome' order by sequence desc)
                         filter (where event_type <> 'MessageRead'))[1] as outcome
               from events
               where aggregate_type = 'message' and aggregate_id >= $1 and aggregate_id < $2
               group by aggregate_id)
             select count(*) as open, coalesce(min(aggregate_id), '') as example from streams
             where moved_at > clock_timestamp() - make_interval(days => $3)
                or not (last in ('MessageSent', 'MessageDelivered', 'MessageFailed', 'MessageCancelled')
                        or (last = 'OutcomeResolved' and outcome in ('sent', 'failed')))",
        )
        .bind(&self.month.first_id)
        .bind(&self.month.end_id)
        .bind(QUIET_DAYS)
        .fetch_one(&self.pool)
        .await?;
        let open: i64 = row.try_get("open")?;
        if open == 0 {
            return Ok(());
        }
        Err(ArchiveError::NotClosed {
            month: self.month.name.clone(),
            open,
            example: row.try_get("example")?,
        })
    }

    /// The file is complete and verified.
    pub async fn exported(&self, file: &str, contents: &Contents) -> Result<(), ArchiveError> {
        sqlx::query(
            "update archive.months
             set state = 'exported', file = $2, streams = $3, events = $4, sha256 = $5, changed_at = clock_timestamp()
             where month = $1",
        )
        .bind(&self.month.name)
        .bind(file)
        .bind(contents.streams)
        .bind(contents.events)
        .bind(&contents.sha256)
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Moves the next events; answers how many they were. Each stands in one of the two tables at any time.
    pub async fn detach_some(&self) -> Result<u64, ArchiveError> {
        const COLUMNS: &str = "aggregate_type, aggregate_id, sequence, event_type, event_version, payload, metadata,
            position, transaction_id, epoch, recorded_at";
        let moved = sqlx::query(&format!(
            "with page as (
               select ctid from only events
               where aggregate_type = 'message' and aggregate_id >= $1 and aggregate_id < $2
               order by aggregate_type, aggregate_id, sequence limit {ROWS}),
             gone as (delete from only events e using page where e.ctid = page.ctid returning e.*)
             insert into {} ({COLUMNS}) select {COLUMNS} from gone",
            self.month.table()
        ))
        .bind(&self.month.first_id)
        .bind(&self.month.end_id)
        .execute(&self.pool)
        .await?;
        Ok(moved.rows_affected())
    }

    /// What was exported, to be compared with what stands there now.
    pub async fn contents(&self) -> Result<Contents, ArchiveError> {
        let (streams, events, sha256) =
            sqlx::query_as("select streams, events, sha256 from archive.months where month = $1")
                .bind(&self.month.name)
                .fetch_one(&self.pool)
                .await?;
        Ok(Contents {
            streams,
            events,
            sha256,
        })
    }

    /// All of it stands in its table, where nothing changes any more: frozen once, never again to be vacuumed.
    pub async fn finish(&self) -> Result<(), ArchiveError> {
        sqlx::query(&format!("vacuum (freeze, analyze) {}", self.month.table()))
            .execute(&self.pool)
            .await?;
        sqlx::query("update archive.months set state = 'archived', changed_at = clock_timestamp() where month = $1")
            .bind(&self.month.name)
            .execute(&self.pool)
            .await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_month_is_a_range_of_ids() {
        let month = Month::parse("2026-03").unwrap();
        // 2026-03-01T00:00:00Z and 2026-04-01T00:00:00Z in milliseconds.
        assert_eq!(month.first_id, "019ca6b1-dc00-7000-8000-000000000000");
        assert_eq!(month.end_id, "019d4657-0000-7000-8000-000000000000");
        for wrong in ["2026-13", "2026", "2026-03-01", ""] {
            assert_eq!(Month::parse(wrong), None, "{wrong}");
        }
    }
}
