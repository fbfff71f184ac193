//! Which process reads which partitions: each knows the living members and computes the same shares from them.
//!
//! A share only saves work twice done. While processes disagree, two may read one partition; the checkpoint's
//! compare-and-set lets one of them write.

use std::sync::Arc;
use std::time::Duration;

use sqlx::Connection;
use sqlx::postgres::PgConnection;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use weft_platform::kafka::TopicPartition;

use crate::error::ProjectionError;

/// How often a member tells that it lives, and looks who else does.
const EVERY: Duration = Duration::from_millis(500);
/// A member that has not told for this long is gone, also where its connection still stands: a stopped process.
const GONE_AFTER: &str = "3 seconds";

/// The living members in the order of their ids; before the first look, why there was none.
type Members = Result<Arc<[Uuid]>, String>;

/// Before the first look at the members has ended.
const STARTING: &str = "starting";

/// This process's part of the work.
#[derive(Clone, Debug)]
pub struct Shares {
    me: Uuid,
    members: watch::Receiver<Members>,
}

impl Shares {
    /// Of a process that is alone.
    pub fn alone() -> Self {
        let me = Uuid::nil();
        Self {
            me,
            members: watch::channel(Ok([me].into())).1,
        }
    }

    /// Joins the members of a views' database, and leaves them on `shutdown`.
    pub fn join(me: Uuid, url: String, shutdown: CancellationToken) -> Self {
        let (sender, members) = watch::channel(Err(STARTING.to_owned()));
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    error = stay(me, &url, &sender) => {
                        // Whoever knew the members goes on with them.
                        sender.send_if_modified(|known| {
                            let unknown = known.is_err();
                            if unknown {
                                *known = Err(ProjectionError::from(error).to_string());
                            }
                            unknown
                        });
                        tokio::time::sleep(EVERY).await;
                    }
                    () = shutdown.cancelled() => return leave(me, &url).await,
                }
            }
        });
        Self { me, members }
    }

    /// Waits for the first look at the members, well or not.
    pub async fn looked(&mut self) {
        // The sender is gone where the process is alone or shuts down: nothing more is to come.
        let _ = self
            .members
            .wait_for(|known| !known.as_ref().is_err_and(|error| error == STARTING))
            .await;
    }

    /// Those of `all` partitions, in their order, that this process reads for a projection.
    pub fn of(&mut self, projection: &str, all: &[TopicPartition]) -> Result<Vec<TopicPartition>, ProjectionError> {
        let members = self
            .members
            .borrow_and_update()
            .clone()
            .map_err(ProjectionError::Members)?;
        let mine = members.iter().position(|member| *member == self.me);
        Ok(mine.map_or_else(Vec::new, |mine| share(projection, all, mine, members.len())))
    }

    /// Whether a projection's only partition is this process's.
    pub fn holds(&mut self, projection: &str) -> Result<bool, ProjectionError> {
        let only = TopicPartition {
            topic: String::new(),
            partition: 0,
        };
        Ok(!self.of(projection, &[only])?.is_empty())
    }

    /// Waits until the members are others than at the last look at the shares.
    pub async fn changed(&mut self) {
        if self.members.changed().await.is_err() {
            // Alone, or shutting down.
            std::future::pending::<()>().await;
        }
    }
}

/// Every `count`-th partition; which one begins is the projection's own, so that small topics spread.
fn share(projection: &str, all: &[TopicPartition], mine: usize, count: usize) -> Vec<TopicPartition> {
    let begin = projection
        .bytes()
        .fold(0_usize, |sum, byte| sum * 31 % 65_521 + usize::from(byte));
    let numbered = all.iter().enumerate();
    numbered
        .filter(|(index, _)| (begin + index) % count.max(1) == mine)
        .map(|(_, partition)| partition.clone())
        .collect()
}

async fn stay(me: Uuid, url: &str, told: &watch::Sender<Members>) -> sqlx::Error {
    let mut connection = match PgConnection::connect(url).await {
        Ok(connection) => connection,
        Err(error) => return error,
    };
    loop {
        match look(me, &mut connection).await {
            Ok(members) => {
                told.send_if_modified(|known| {
                    let changed = known.as_ref().map_or(true, |known| **known != *members);
                    if changed {
                        *known = Ok(members.into());
                    }
                    changed
                });
            }
            Err(error) => return error,
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// Tells that `me` lives, and answers who does, in order.
async fn look(me: Uuid, connection: &mut PgConnection) -> Result<Vec<Uuid>, sqlx::Error> {
    sqlx::query(
        "insert into views.members (member, pid, backend_start, seen_at)
         select $1, pid, backend_start, clock_timestamp() from pg_stat_activity where pid = pg_backend_pid()
         on conflict (member) do update set
           pid = excluded.pid, backend_start = excluded.backend_start, seen_at = excluded.seen_at",
    )
    .bind(me)
    .execute(&mut *connection)
    .await?;
    let statement = format!(
        "with gone as (delete from views.members where seen_at < clock_timestamp() - interval '1 hour')
         select member from views.members m
         where member = $1 or (seen_at > clock_timestamp() - interval '{GONE_AFTER}' and exists (
             select from pg_stat_activity a where a.pid = m.pid and a.backend_start = m.backend_start))
         order by member"
    );
    sqlx::query_scalar(&statement).bind(me).fetch_all(connection).await
}

async fn leave(me: Uuid, url: &str) {
    let left = async {
        let mut connection = PgConnection::connect(url).await?;
        sqlx::query("delete from views.members where member = $1")
            .bind(me)
            .execute(&mut connection)
            .await?;
        connection.close().await
    };
    if let Err(error) = left.await {
        tracing::debug!(%error, "could not leave: the others notice in some seconds");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_partition_has_one_reader_whoever_is_there() {
        let all: Vec<TopicPartition> = (0..7)
            .map(|partition| TopicPartition {
                topic: "t".to_owned(),
                partition,
            })
            .collect();
        for count in 1..10 {
            let mut read: Vec<TopicPartition> = (0..count)
                .flat_map(|mine| share("messages", &all, mine, count))
                .collect();
            read.sort();
            assert_eq!(read, all, "{count} members");
        }
    }
}
