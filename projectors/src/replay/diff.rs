//! A generation compared with the live one, row by row, where both are at the same place.

use std::collections::BTreeMap;

use clickhouse::Row;
use serde::Deserialize;
use sqlx::Connection;
use sqlx::postgres::PgConnection;

use super::hand_over::is_busy;
use super::{Replay, ReplayError};
use crate::clickhouse::answered;
use crate::engine::Tables;
use crate::generation::Generation;

/// What is said of a row that only one of the two has.
const NOT_REBUILT: &str = "not in the rebuilt one";
const NOT_LIVE: &str = "not in the live one";
/// Differing rows that are named.
const SAMPLE: i64 = 5;
/// Differing rows of ClickHouse that are looked at twice.
const MOST_FACTS: usize = 10_000;
const TRIES: usize = 100;
const PAUSE: std::time::Duration = std::time::Duration::from_millis(200);

/// One table of a projection in both generations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableDiff {
    pub projection: &'static str,
    pub table: &'static str,
    /// Rows of the live generation, and of the other.
    pub live_rows: i64,
    pub rows: i64,
    pub only_live: i64,
    pub only_here: i64,
    pub changed: i64,
    pub sample: Vec<Difference>,
}

/// One row that is not the same in both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Its primary key, as a row's text.
    pub key: String,
    /// In which of the two it is not, or the columns that differ, by name; no values.
    pub what: String,
}

impl TableDiff {
    pub const fn is_equal(&self) -> bool {
        self.only_live + self.only_here + self.changed == 0
    }
}

impl Replay {
    /// Compares every table of the projections with the live one's.
    pub async fn diff(&self) -> Result<Vec<TableDiff>, ReplayError> {
        let url = self.world.config.views.projector_url.expose();
        let mut snapshot = PgConnection::connect(url).await?;
        let live = self.meet_and_look(&mut snapshot).await?;
        self.compute_statistics().await?;
        let mut diffs = Vec::new();
        for (projection, live) in self.projections.iter().zip(live) {
            match projection.tables() {
                Tables::Postgres(tables) => {
                    for table in tables {
                        diffs.push(self.diff_table(&mut snapshot, projection.name(), table, live).await?);
                    }
                }
                Tables::Facts(tables) => {
                    for table in tables {
                        diffs.push(self.diff_facts(projection.name(), table, live).await?);
                    }
                }
            }
        }
        snapshot.close().await?;
        Ok(diffs)
    }

    /// Brings this generation to where the live ones stand, and begins a transaction on `snapshot` that sees both there.
    async fn meet_and_look(&self, snapshot: &mut PgConnection) -> Result<Vec<Generation>, ReplayError> {
        let url = self.world.config.views.projector_url.expose();
        let mut connection = PgConnection::connect(url).await?;
        let mut tried = 0;
        loop {
            let mut locking = connection.begin().await?;
            match self.meet(&mut locking).await {
                Ok(live) => {
                    // The snapshot is taken by the first statement, while nobody writes.
                    sqlx::query("begin isolation level repeatable read read only")
                        .execute(&mut *snapshot)
                        .await?;
                    sqlx::query("set local statement_timeout = 0")
                        .execute(&mut *snapshot)
                        .await?;
                    sqlx::query("select count(*) from views.replays")
                        .execute(&mut *snapshot)
                        .await?;
                    locking.rollback().await?;
                    return Ok(live);
                }
                Err(ReplayError::Database(error)) if is_busy(&error) && tried < TRIES => {
                    locking.rollback().await?;
                    tried += 1;
                    tokio::time::sleep(PAUSE).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn diff_table(
        &self,
        snapshot: &mut PgConnection,
        projection: &'static str,
        table: &'static str,
        live: Generation,
    ) -> Result<TableDiff, ReplayError> {
        let key: String = sqlx::query_scalar(
            "select string_agg(quote_ident(a.attname), ', ' order by array_position(i.indkey::smallint[], a.attnum))
             from pg_index i join pg_attribute a on a.attrelid = i.indrelid and a.attnum = any(i.indkey)
             where i.indrelid = to_regclass($1) and i.indisprimary",
        )
        .bind(format!("{}.{table}", self.generation.schema()))
        .fetch_one(&mut *snapshot)
        .await?;
        let both = format!(
            "(select row({key})::text as k, to_jsonb(t) as r from {}.{table} t) live
             full join (select row({key})::text as k, to_jsonb(t) as r from {}.{table} t) here using (k)",
            live.schema(),
            self.generation.schema()
        );
        let (live_rows, rows, only_live, only_here, changed): (i64, i64, i64, i64, i64) = sqlx::query_as(&format!(
            "select count(live.r), count(here.r), count(*) filter (where here.r is null),
                    count(*) filter (where live.r is null), count(*) filter (where here.r <> live.r)
             from {both}"
        ))
        .fetch_one(&mut *snapshot)
        .await?;
        let mut diff = TableDiff {
            projection,
            table,
            live_rows,
            rows,
            only_live,
            only_here,
            changed,
            sample: Vec::new(),
        };
        if !diff.is_equal() {
            let sample: Vec<(String, String)> = sqlx::query_as(&format!(
                "select k, case when here.r is null then '{NOT_REBUILT}' when live.r is null then '{NOT_LIVE}' else (
                   select string_agg(l.key, ', ' order by l.key) from jsonb_each(live.r) l
                   where here.r -> l.key is distinct from l.value) end
                 from {both}
                 where here.r is distinct from live.r order by k limit {SAMPLE}"
            ))
            .fetch_all(&mut *snapshot)
            .await?;
            diff.sample = sample.into_iter().map(|(key, what)| Difference { key, what }).collect();
        }
        Ok(diff)
    }

    /// ClickHouse has no snapshots, and a batch of the live projection may be inserted before its checkpoint moves. So
    /// what differs is looked at again after this generation has met the live one a second time: what was only late is
    /// the same then, or moves on; what is wrong stays as it was.
    async fn diff_facts(
        &self,
        projection: &'static str,
        table: &'static str,
        live: Generation,
    ) -> Result<TableDiff, ReplayError> {
        let stable = &self.world.config.clickhouse.database;
        let (theirs, ours) = (live.facts_database(stable), self.generation.facts_database(stable));
        let client = crate::clickhouse::client(&self.world.config.clickhouse);
        let count = async |database: &str| -> Result<i64, ReplayError> {
            let counting = client
                .query(&format!("select count() from {database}.{table} final"))
                .fetch_one::<u64>();
            Ok(answered(counting).await? as i64)
        };
        let first = self.differing(&theirs, &ours, table).await?;
        let still = if first.is_empty() {
            first
        } else {
            let mut snapshot = PgConnection::connect(self.world.config.views.projector_url.expose()).await?;
            self.meet_and_look(&mut snapshot).await?;
            snapshot.close().await?;
            self.compute_statistics().await?;
            let second = self.differing(&theirs, &ours, table).await?;
            first
                .into_iter()
                .filter(|(key, hashes)| second.get(key) == Some(hashes))
                .collect()
        };
        let of = |wanted: fn(&Hashes) -> bool| still.values().filter(|hashes| wanted(hashes)).count() as i64;
        let mut sample = Vec::new();
        for (key, hashes) in still.iter().take(SAMPLE as usize) {
            let what = match hashes {
                (_, None) => NOT_REBUILT.to_owned(),
                (None, _) => NOT_LIVE.to_owned(),
                _ => self.differing_columns(&theirs, &ours, table, key).await?,
            };
            sample.push(Difference { key: key.clone(), what });
        }
        Ok(TableDiff {
            projection,
            table,
            live_rows: count(&theirs).await?,
            rows: count(&ours).await?,
            only_live: of(|hashes| hashes.1.is_none()),
            only_here: of(|hashes| hashes.0.is_none()),
            changed: of(|hashes| hashes.0.is_some() && hashes.1.is_some()),
            sample,
        })
    }

    /// The columns in which the row of a key is not the same in both; no values.
    async fn differing_columns(&self, theirs: &str, ours: &str, table: &str, key: &str) -> Result<String, ReplayError> {
        let client = crate::clickhouse::client(&self.world.config.clickhouse);
        let columns: Vec<String> = answered(
            client
                .query("select name from system.columns where database = ? and table = ? order by name")
                .bind(ours)
                .bind(table)
                .fetch_all(),
        )
        .await?;
        let hashes = columns
            .iter()
            .map(|column| format!("cityHash64(toString(tuple(`{column}`)))"));
        let hashes = hashes.collect::<Vec<_>>().join(", ");
        let sorting = self.sorting_key(ours, table).await?;
        let row = async |database: &str| -> Result<Vec<u64>, ReplayError> {
            let statement =
                format!("select [{hashes}] from {database}.{table} final where toString(tuple({sorting})) = ?");
            Ok(answered(client.query(&statement).bind(key).fetch_one()).await?)
        };
        let (live, here) = (row(theirs).await?, row(ours).await?);
        let differ = columns
            .iter()
            .zip(live.iter().zip(&here))
            .filter(|(_, (live, here))| live != here);
        Ok(differ.map(|(column, _)| column.as_str()).collect::<Vec<_>>().join(", "))
    }

    async fn sorting_key(&self, database: &str, table: &str) -> Result<String, ReplayError> {
        let client = crate::clickhouse::client(&self.world.config.clickhouse);
        let key = client
            .query("select sorting_key from system.tables where database = ? and name = ?")
            .bind(database)
            .bind(table)
            .fetch_one();
        Ok(answered(key).await?)
    }

    async fn differing(&self, theirs: &str, ours: &str, table: &str) -> Result<BTreeMap<String, Hashes>, ReplayError> {
        let client = crate::clickhouse::client(&self.world.config.clickhouse);
        let key = self.sorting_key(ours, table).await?;
        let side = |database: &str, side: u8| {
            format!(
                "select toString(tuple({key})) as k, cityHash64(toString(tuple(*))) as h, {side} as side \
                 from {database}.{table} final"
            )
        };
        let statement = format!(
            "select k, if(countIf(side = 0) = 0, null, anyIf(h, side = 0)) as live, \
                    if(countIf(side = 1) = 0, null, anyIf(h, side = 1)) as here \
             from ({} union all {}) group by k having uniqExact(h) > 1 or count() = 1 limit {MOST_FACTS}",
            side(theirs, 0),
            side(ours, 1)
        );
        let rows: Vec<Differing> = answered(client.query_raw(&statement).fetch_all()).await?;
        Ok(rows.into_iter().map(|row| (row.k, (row.live, row.here))).collect())
    }
}

/// Hashes of a row in the live generation and in the other.
type Hashes = (Option<u64>, Option<u64>);

#[derive(Row, Deserialize)]
struct Differing {
    k: String,
    live: Option<u64>,
    here: Option<u64>,
}
