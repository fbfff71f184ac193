//! The peer that does nothing but SQL: `pgbench -M prepared`, 32 clients over TCP, as our own connections are.

use std::time::Duration;

use sqlx::{Connection, PgConnection};
use tokio::process::Command;
use url::Url;
use weft_platform::config::Secret;

use crate::Failure;
use crate::report::Round;

const CLIENTS: &str = "32";

/// One bare insert of an event's row per commit.
pub(crate) const BARE: &[(&str, &str)] = &[(
    "bare",
    "insert into events (aggregate_type, aggregate_id, sequence, event_type, event_version, payload, metadata)
     values ('message', uuidv7()::text, 1, 'MessageAccepted', '1', :payload::jsonb, :metadata::jsonb);",
)];

/// All rows of our commands, per commit in one statement: key, quotas and event; one in five a claim too.
pub(crate) const FULL: &[(&str, &str)] = &[
    (
        "accept@4",
        r"\set tenant random(1, 8)
\set account random(1, 200)
with k as (
       insert into idempotency_keys (digest, body_hash, answer, expires_at)
       values (gen_random_uuid(), sha256(random()::text::bytea), :answer::json, now() + interval '1 day')
       on conflict do nothing returning digest),
     q as (
       insert into quota_usage as u (kind, scope, period, used)
       values ('account_messages', 'account-' || :account, '2026-11-22', 1), ('tenant_messages', 'tenant-' || :tenant, '2026-11-22', 1)
       on conflict (kind, scope, period) do update set used = u.used + 1 returning used)
insert into events (aggregate_type, aggregate_id, sequence, event_type, event_version, payload, metadata)
select 'message', uuidv7()::text, 1, 'MessageAccepted', '1', :payload::jsonb, :metadata::jsonb from k;",
    ),
    (
        "create@1",
        r"\set tenant random(1, 8)
with k as (
       insert into idempotency_keys (digest, body_hash, answer, expires_at)
       values (gen_random_uuid(), sha256(random()::text::bytea), :answer::json, now() + interval '1 day')
       on conflict do nothing returning digest),
     c as (
       insert into claims (kind, scope, value, aggregate_type, aggregate_id)
       values ('account_name', 'tenant-' || :tenant, gen_random_uuid()::text, 'account', gen_random_uuid()::text)
       on conflict do nothing returning value),
     q as (
       insert into quota_usage as u (kind, scope, period, used) values ('tenant_accounts', 'tenant-' || :tenant, '', 1)
       on conflict (kind, scope, period) do update set used = u.used + 1 returning used)
insert into events (aggregate_type, aggregate_id, sequence, event_type, event_version, payload, metadata)
select 'account', uuidv7()::text, 1, 'AccountCreated', '1', :payload::jsonb, :metadata::jsonb from k, c;",
    ),
];

/// The texts of a real row, for a peer to write the same.
pub(crate) struct Texts {
    payload: String,
    metadata: String,
    answer: String,
}

impl Texts {
    /// Of an accepted message that the log has.
    pub(crate) async fn of(log: &Secret) -> Result<Self, Failure> {
        let mut log = PgConnection::connect(log.expose()).await?;
        let (payload, metadata): (String, String) = sqlx::query_as(
            "select payload::text, metadata::text from events where event_type = 'MessageAccepted' limit 1",
        )
        .fetch_one(&mut log)
        .await?;
        let answer: String = sqlx::query_scalar("select answer::text from idempotency_keys limit 1")
            .fetch_one(&mut log)
            .await?;
        Ok(Self {
            payload,
            metadata,
            answer,
        })
    }
}

/// Runs `scripts` (name with weight, SQL) for whole seconds.
pub(crate) async fn run(
    database: &Secret,
    scripts: &[(&str, &str)],
    texts: &Texts,
    length: Duration,
) -> Result<Round, Failure> {
    let url = Url::parse(database.expose())?;
    let folder = std::env::temp_dir().join(format!("weft-bench-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let mut command = Command::new("pgbench");
    command
        .args(["--no-vacuum", "--protocol=prepared", "--jobs=2", "--client", CLIENTS])
        .args(["--time", &length.as_secs().max(1).to_string()])
        .args(["--host", url.host_str().unwrap_or("127.0.0.1")])
        .args(["--port", &url.port().unwrap_or(5432).to_string()])
        .args(["--username", url.username()])
        .env("PGPASSWORD", url.password().unwrap_or_default());
    // Bound as parameters, as ours are: the row's bytes travel and are read with every insert.
    for (name, text) in [
        ("payload", &texts.payload),
        ("metadata", &texts.metadata),
        ("answer", &texts.answer),
    ] {
        command.arg(format!("--define={name}={text}"));
    }
    for (name, sql) in scripts {
        let (name, weight) = name.split_once('@').unwrap_or((name, "1"));
        let file = folder.join(name);
        std::fs::write(&file, sql)?;
        command.arg(format!("--file={}@{weight}", file.display()));
    }
    let output = command.arg(url.path().trim_start_matches('/')).output().await;
    let output = output.map_err(|error| {
        format!("pgbench cannot be run: {error}; it is part of PostgreSQL's client tools (Debian: postgresql-contrib)")
    })?;
    std::fs::remove_dir_all(&folder)?;
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let value = |name: &str| {
        let line = printed.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse::<f64>().ok()
    };
    match (output.status.success(), value("tps = "), value("latency average = ")) {
        (true, Some(per_second), Some(average_ms)) => Ok(Round {
            per_second,
            latencies: vec![Duration::from_secs_f64(average_ms / 1_000.0)],
        }),
        _ => Err(format!("pgbench failed: {}{printed}", String::from_utf8_lossy(&output.stderr)).into()),
    }
}
