//! How far the topics are behind the log, and why.

use std::time::Duration;

use sqlx::{PgPool, Row};
use tokio::time::{Instant, MissedTickBehavior, interval};
use weft_domain::LogOrder;

use super::{blame, metric};

const EVERY: Duration = Duration::from_secs(1);
/// Up to here events are counted; beyond, their positions are subtracted.
const COUNTED: i64 = 10_000;
/// Events that wait for this long may be somebody's fault, who is then named.
const STALL: Duration = Duration::from_secs(2);
/// How often a stall that goes on is named again.
const NAME_EVERY: Duration = Duration::from_secs(30);

/// What is committed but not yet acknowledged by Kafka, as the stored checkpoint tells it (which follows the
/// acknowledgements within 200 ms).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lag {
    /// Up to here Kafka has everything.
    pub checkpoint: LogOrder,
    /// Exact up to 10,000; above, the distance of the positions, which also counts those of appends that failed.
    pub events: i64,
    /// Age of the oldest of them, by the database's clock.
    pub seconds: f64,
}

/// The lag of the relay that publishes under `topic_prefix`. `pool` leads to the log.
pub async fn lag(pool: &PgPool, topic_prefix: &str) -> Result<Lag, sqlx::Error> {
    let row = sqlx::query(
        "with reached as (
           select coalesce(max(epoch), 0::smallint) as epoch, coalesce(max(transaction_id), '0') as transaction_id,
                  coalesce(max(position), 0) as position
           from relay_checkpoints where relay = $1)
         select reached.epoch, reached.transaction_id::text::bigint as transaction_id, reached.position,
                coalesce(extract(epoch from clock_timestamp() - oldest.recorded_at), 0)::float8 as seconds,
                case when counted.events <= $2 then counted.events
                     else greatest(counted.events, newest.position - reached.position) end as events
         from reached
         left join lateral (
           select recorded_at from events
           where (epoch, transaction_id, position) > (reached.epoch, reached.transaction_id, reached.position)
           order by epoch, transaction_id, position limit 1) oldest on true
         cross join lateral (
           select count(*) as events from (
             select from events
             where (epoch, transaction_id, position) > (reached.epoch, reached.transaction_id, reached.position)
             order by epoch, transaction_id, position limit $2 + 1) waiting) counted
         left join lateral (
           select position from events order by epoch desc, transaction_id desc, position desc limit 1) newest on true",
    )
    .bind(topic_prefix)
    .bind(COUNTED)
    .fetch_one(pool)
    .await?;
    Ok(Lag {
        checkpoint: LogOrder {
            epoch: row.try_get("epoch")?,
            transaction_id: row.try_get("transaction_id")?,
            position: row.try_get("position")?,
        },
        events: row.try_get("events")?,
        seconds: row.try_get("seconds")?,
    })
}

/// Measures for ever, in every relay, also one that stands by: all of them tell the same.
pub(super) async fn watch(pool: PgPool, topic_prefix: String, log: String) {
    let mut timer = interval(EVERY);
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut named: Option<Instant> = None;
    loop {
        timer.tick().await;
        match look(&pool, &topic_prefix, &log, &mut named).await {
            Ok(lag) => {
                metrics::gauge!(metric::LAG_EVENTS, "log" => log.clone()).set(lag.events as f64);
                metrics::gauge!(metric::LAG_SECONDS, "log" => log.clone()).set(lag.seconds);
            }
            Err(error) => tracing::debug!(%error, "the relay's lag could not be measured"),
        }
    }
}

/// Measures once, and names who stalls the tail.
async fn look(pool: &PgPool, topic_prefix: &str, log: &str, named: &mut Option<Instant>) -> Result<Lag, sqlx::Error> {
    let lag = lag(pool, topic_prefix).await?;
    let stall = if lag.seconds >= STALL.as_secs_f64() {
        blame::stall(pool, lag.checkpoint).await?
    } else {
        None
    };
    let waited = stall.as_ref().map_or(0.0, |stall| stall.waited_seconds);
    metrics::gauge!(metric::STALLED_SECONDS, "log" => log.to_owned()).set(waited);
    match stall {
        None => *named = None,
        Some(stall) if named.is_none_or(|at| at.elapsed() >= NAME_EVERY) => {
            *named = Some(Instant::now());
            tracing::warn!(
                log,
                pid = stall.pid,
                application = stall.application,
                database = stall.database,
                state = stall.state,
                running_seconds = stall.running_seconds,
                waited_seconds = stall.waited_seconds,
                "committed events wait behind a long write transaction: end it, or pg_terminate_backend(pid)"
            );
        }
        Some(_) => {}
    }
    Ok(lag)
}

#[cfg(all(test, feature = "testing"))]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::fmt::MakeWriter;
    use weft_platform::testing::until;

    use super::*;
    use crate::testing::TestLog;

    const RELAY: &str = "test";

    async fn append(pool: &PgPool, stream: &str, count: i32) {
        sqlx::query(
            "insert into events (aggregate_type, aggregate_id, sequence, event_type, event_version, payload, metadata)
             select 'tenant', $1, n, 'E', '1', '{}', '{}' from generate_series(1, $2) n",
        )
        .bind(stream)
        .bind(count)
        .execute(pool)
        .await
        .expect("the log takes events");
    }

    #[tokio::test]
    async fn the_lag_is_what_the_checkpoint_has_not_reached() {
        let log = TestLog::new().await;
        let pool = log.log.pool("weft_log").await;
        assert_eq!(lag(&pool, RELAY).await.unwrap().events, 0);
        append(&pool, "a", 7).await;
        let behind = lag(&pool, RELAY).await.unwrap();
        assert_eq!((behind.events, behind.checkpoint), (7, LogOrder::default()));
        assert!(behind.seconds > 0.0);

        sqlx::query(
            "insert into relay_checkpoints (relay, owner_epoch, epoch, transaction_id, position)
             select $1, 1, epoch, transaction_id, position from events where sequence = 5",
        )
        .bind(RELAY)
        .execute(&pool)
        .await
        .unwrap();
        assert_eq!(lag(&pool, RELAY).await.unwrap().events, 2);
        append(&pool, "b", 12_000).await;
        assert_eq!(lag(&pool, RELAY).await.unwrap().events, 12_002, "counted by positions");

        sqlx::query("update relay_checkpoints set (epoch, transaction_id, position) = (select max(epoch), max(transaction_id), max(position) from events)")
            .execute(&pool)
            .await
            .unwrap();
        let none = lag(&pool, RELAY).await.unwrap();
        assert_eq!((none.events, none.seconds), (0, 0.0));
    }

    /// Lines that are logged on this thread.
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("one thread writes").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl MakeWriter<'_> for Lines {
        type Writer = Self;

        fn make_writer(&self) -> Self {
            self.clone()
        }
    }

    #[tokio::test]
    async fn a_stall_is_named_in_the_log_with_the_pid_that_holds_it_back() {
        let lines = Lines::default();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(lines.clone())
            .with_ansi(false)
            .finish();
        let _guard = tracing::subscriber::set_default(subscriber);
        let log = TestLog::new().await;
        let pool = log.log.pool("weft_log").await;
        let admin = log.log.admin_pool().await;
        let mut long = admin.begin().await.unwrap();
        let (_, pid): (String, i32) = sqlx::query_as("select pg_current_xact_id()::text, pg_backend_pid()")
            .fetch_one(&mut *long)
            .await
            .unwrap();
        append(&pool, "a", 1).await;
        let mut named = None;
        // Another database of the cluster may have an older transaction for a moment.
        until("the stall is named", async || {
            let lag = look(&pool, RELAY, "main", &mut named).await.unwrap();
            assert_eq!(
                named.is_some(),
                lag.seconds >= STALL.as_secs_f64(),
                "named too early or not at all"
            );
            let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
            let found = text.contains(&format!("pid={pid} "));
            if !found {
                named = None;
            }
            found.then_some(())
        })
        .await;
        long.rollback().await.unwrap();
        until("the stall is over", async || {
            look(&pool, RELAY, "main", &mut named).await.unwrap();
            named.is_none().then_some(())
        })
        .await;
    }
}
