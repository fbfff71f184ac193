//! Timed work on accounts: rows of `workers.jobs`. A job is level-triggered: its worker looks at the account and does
//! what is next; events only make it due.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::{PgConnection, PgPool, Row};
use uuid::Uuid;

use super::accounts::AccountRow;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum JobKind {
    /// An account's instance and login: one lane per account.
    Session,
    Heartbeat,
}

impl JobKind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Heartbeat => "heartbeat",
        }
    }
}

/// A job in this process's hands, until it is given back or its lease runs out.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) account_id: Uuid,
    pub(crate) tenant_id: Uuid,
    /// Steps in a row that failed.
    pub(crate) failures: i32,
    pub(crate) data: Value,
    pub(crate) correlation_id: String,
    pub(crate) traceparent: String,
    /// Sequence of the account's last event that the feed had told of when the job was claimed.
    pub(crate) told_version: i64,
    wakes: i64,
}

/// How a job is given back.
#[derive(Clone, Debug)]
pub(crate) struct JobResult {
    pub(crate) job: Job,
    /// When it is due again; `None`: by the next event. An event that came meanwhile makes it due at once.
    pub(crate) due_at: Option<DateTime<Utc>>,
}

impl JobKind {
    /// Takes due jobs that nobody alive holds.
    pub(crate) async fn claim(
        self,
        pool: &PgPool,
        owner: i64,
        lease_seconds: f64,
        now: DateTime<Utc>,
        limit: i64,
    ) -> Result<Vec<Job>, sqlx::Error> {
        let rows = sqlx::query(
            "with chosen as (
               select account_id from workers.jobs
               where kind = $1 and due_at <= $2
                 and (lease_owner is null or lease_until < now()
                      or (lease_owner <> $4 and lease_owner not in (select workers.live_owners())))
               order by due_at limit $3
               for update skip locked)
             update workers.jobs j
             set lease_owner = $4, lease_until = now() + make_interval(secs => $5)
             from chosen where j.kind = $1 and j.account_id = chosen.account_id
             returning j.account_id, j.tenant_id, j.failures, j.data, j.wakes, j.correlation_id, j.traceparent,
               coalesce((select l.version from workers.account_lanes l where l.account_id = j.account_id), 0)
                 as told_version",
        )
        .bind(self.as_str())
        .bind(now)
        .bind(limit)
        .bind(owner)
        .bind(lease_seconds)
        .fetch_all(pool)
        .await?;
        rows.iter()
            .map(|row| {
                Ok(Job {
                    account_id: row.try_get("account_id")?,
                    tenant_id: row.try_get("tenant_id")?,
                    failures: row.try_get("failures")?,
                    data: row.try_get("data")?,
                    correlation_id: row.try_get("correlation_id")?,
                    traceparent: row.try_get("traceparent")?,
                    told_version: row.try_get("told_version")?,
                    wakes: row.try_get("wakes")?,
                })
            })
            .collect()
    }

    /// Gives jobs back.
    pub(crate) async fn give_back(
        self,
        pool: &PgPool,
        owner: i64,
        results: &[JobResult],
        now: DateTime<Utc>,
    ) -> Result<(), sqlx::Error> {
        if results.is_empty() {
            return Ok(());
        }
        fn column<T>(rows: &[JobResult], value: impl Fn(&JobResult) -> T) -> Vec<T> {
            rows.iter().map(value).collect()
        }
        sqlx::query(
            "with locked as (
               select account_id from workers.jobs
               where kind = $1 and account_id = any($3) and lease_owner = $2
               order by account_id for update)
             update workers.jobs j
             set lease_owner = null, lease_until = null, failures = v.failures, data = v.data,
                 due_at = case when j.wakes = v.wakes then v.due_at else $8 end
             from unnest($3::uuid[], $4::bigint[], $5::integer[], $6::jsonb[], $7::timestamptz[])
               as v (account_id, wakes, failures, data, due_at)
               join locked using (account_id)
             where j.kind = $1 and j.account_id = v.account_id",
        )
        .bind(self.as_str())
        .bind(owner)
        .bind(column(results, |r| r.job.account_id))
        .bind(column(results, |r| r.job.wakes))
        .bind(column(results, |r| r.job.failures))
        .bind(column(results, |r| r.job.data.clone()))
        .bind(column(results, |r| r.due_at))
        .bind(now)
        .execute(pool)
        .await?;
        Ok(())
    }

    /// Writes down what a running job must remember whatever happens next.
    pub(crate) async fn remember(self, pool: &PgPool, owner: i64, job: &Job) -> Result<(), sqlx::Error> {
        sqlx::query("update workers.jobs set data = $4 where kind = $1 and account_id = $2 and lease_owner = $3")
            .bind(self.as_str())
            .bind(job.account_id)
            .bind(owner)
            .bind(&job.data)
            .execute(pool)
            .await?;
        Ok(())
    }
}

/// Makes the session jobs of changed accounts due, and starts heartbeats where they are wanted.
pub(super) async fn follow_accounts(
    connection: &mut PgConnection,
    rows: &[AccountRow],
    now: DateTime<Utc>,
    heartbeat_at: impl Fn() -> DateTime<Utc>,
) -> Result<(), sqlx::Error> {
    if rows.is_empty() {
        return Ok(());
    }
    let (mut kinds, mut ids, mut tenants, mut due) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut correlations, mut traces) = (Vec::new(), Vec::new());
    for row in rows {
        // A login counts as a heartbeat: it is looked at at once.
        let heartbeat = row
            .wants_heartbeat()
            .then(|| if row.came_online { now } else { heartbeat_at() });
        for (kind, at) in [(JobKind::Session, Some(now)), (JobKind::Heartbeat, heartbeat)] {
            if let Some(at) = at {
                kinds.push(kind.as_str());
                ids.push(row.account_id);
                tenants.push(row.tenant_id);
                due.push(at);
                correlations.push(row.correlation_id.clone());
                traces.push(row.traceparent.clone());
            }
        }
    }
    sqlx::query(
        "insert into workers.jobs as j (kind, account_id, tenant_id, due_at, correlation_id, traceparent, wakes)
         select *, 1
         from unnest($1::text[], $2::uuid[], $3::uuid[], $4::timestamptz[], $5::text[], $6::text[])
           as v (kind, account_id, tenant_id, due_at, correlation_id, traceparent)
         order by kind, account_id
         on conflict (kind, account_id) do update set
           wakes = case when j.kind = 'session' or j.due_at is null then j.wakes + 1 else j.wakes end,
           due_at = least(j.due_at, excluded.due_at),
           correlation_id = excluded.correlation_id, traceparent = excluded.traceparent",
    )
    .bind(kinds)
    .bind(ids)
    .bind(tenants)
    .bind(due)
    .bind(correlations)
    .bind(traces)
    .execute(connection)
    .await?;
    Ok(())
}
