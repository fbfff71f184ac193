//! The binary, and stores of a test's own.

use std::fs;
use std::hash::Hasher;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use sqlx::PgPool;
use tokio::process::{Child, Command};
use uuid::Uuid;
use weft_log_writer::testing::{TestDatabase, TestLog, TestTopics};
use weft_platform::clock::Clock;
use weft_platform::config::{Config, Secret};
use weft_platform::testing::{clickhouse_url, postgres_url, until, until_within};
use weft_projectors::generation::Generation;

pub(crate) const SAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../schemas/events");
pub(crate) const TENANT: &str = "01930000-0000-7000-8000-00000000000a";

/// `weft` on the test's stores.
pub(crate) fn weft(config: &Config, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weft"));
    command
        .args(arguments)
        .current_dir(std::env::temp_dir())
        .env("WEFT__LOG__URL", config.log.url.expose())
        .env("WEFT__LOG__ADMIN_URL", config.log.admin_url.expose())
        .env("WEFT__KEYS__URL", config.keys.url.expose())
        .env("WEFT__ADMIN__LISTEN", "127.0.0.1:0")
        .env("WEFT__CLICKHOUSE__URL", config.clickhouse.url.as_str())
        .env("WEFT__CLICKHOUSE__DATABASE", &config.clickhouse.database)
        .env("WEFT__VIEWS__URL", config.views.url.expose())
        .env("WEFT__VIEWS__ADMIN_URL", config.views.admin_url.expose())
        .env("WEFT__VIEWS__PROJECTOR_URL", config.views.projector_url.expose())
        .env("WEFT__KAFKA__BROKERS", &config.kafka.brokers)
        .env("WEFT__KAFKA__TOPIC_PREFIX", &config.kafka.topic_prefix)
        .env(
            "WEFT__KAFKA__PARTITIONS__ACCOUNT",
            config.kafka.partitions.account.to_string(),
        )
        .env(
            "WEFT__KAFKA__PARTITIONS__MESSAGE",
            config.kafka.partitions.message.to_string(),
        )
        .env(
            "WEFT__KAFKA__PARTITIONS__CONVERSATION",
            config.kafka.partitions.conversation.to_string(),
        )
        .env(
            "WEFT__KAFKA__PARTITIONS__TENANT",
            config.kafka.partitions.tenant.to_string(),
        )
        .kill_on_drop(true);
    command
}

pub(crate) async fn run(config: &Config, arguments: &[&str]) -> Output {
    weft(config, arguments).output().await.unwrap()
}

/// Exit code, standard output and standard error.
pub(crate) async fn said(config: &Config, arguments: &[&str]) -> (i32, String, String) {
    let output = run(config, arguments).await;
    (
        output.status.code().unwrap(),
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

/// One event of the stream `<kind>/<id>`.
pub(crate) async fn append(
    pool: &PgPool,
    stream: &str,
    sequence: i64,
    event: (&str, &str),
    payload: &Value,
    tenant: &str,
) {
    let (kind, id) = stream.split_once('/').unwrap();
    sqlx::query(
        "insert into events (aggregate_type, aggregate_id, sequence, event_type, event_version, payload, metadata)
         values ($1, $2, $3, $4, $5, $6, jsonb_build_object('tenant_id', $7::text, 'partition_key', $2))",
    )
    .bind(kind)
    .bind(id)
    .bind(sequence)
    .bind(event.0)
    .bind(event.1)
    .bind(payload)
    .bind(tenant)
    .execute(pool)
    .await
    .unwrap();
}

/// Waits until no older transaction of the cluster runs: other tests have theirs. Only then events are read in log order.
pub(crate) async fn settled(pool: &PgPool) {
    until("everything is settled", async || {
        let settled: bool = sqlx::query_scalar(
            "select coalesce(max(transaction_id) < pg_snapshot_xmin(pg_current_snapshot()), true) from events",
        )
        .fetch_one(pool)
        .await
        .unwrap();
        settled.then_some(())
    })
    .await;
}

/// Names the state that the views' migrations lead to.
fn views_fingerprint() -> String {
    let mut hash = std::hash::DefaultHasher::new();
    for folder in ["views", "views_stable"] {
        let folder = Path::new(SAMPLES).join("../postgres").join(folder);
        let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
        files.sort();
        for file in files {
            hash.write(&fs::read(file).unwrap());
        }
    }
    format!("{:016x}", hash.finish())
}

/// A log with read models of its own, which are empty.
pub(crate) async fn log_and_views() -> (TestLog, TestDatabase) {
    let mut log = TestLog::new().await;
    let at = |config: &mut Config, name: &str| {
        config.views.admin_url = postgres_url(None, name);
        config.views.url = postgres_url(Some("weft_query"), name);
        config.views.projector_url = postgres_url(Some("weft_projector"), name);
    };
    let mut config = log.config.clone();
    let views = TestDatabase::clone_of("cli_views", &views_fingerprint(), |name| async move {
        at(&mut config, &name);
        weft_projectors::migrate::views(&config).await.map_err(Into::into)
    })
    .await;
    at(&mut log.config, views.name());
    (log, views)
}

/// A log, topics, read models and facts, fed by the roles themselves.
pub(crate) struct Stack {
    pub(crate) log: TestLog,
    pub(crate) views: PgPool,
    pub(crate) pool: PgPool,
    told: tempfile::TempDir,
    roles: Vec<Child>,
    _views: TestDatabase,
    _facts: FactsDatabases,
    _topics: TestTopics,
}

impl Stack {
    pub(crate) async fn start() -> Self {
        let (mut log, views) = log_and_views().await;
        log.config.clickhouse.url = clickhouse_url();
        views.name().clone_into(&mut log.config.clickhouse.database);
        let facts = FactsDatabases(log.config.clone());
        weft_projectors::migrate::clickhouse(&log.config).await.unwrap();
        let topics = TestTopics::create(&log.config.kafka).await;
        let mut stack = Self {
            views: views.admin_pool().await,
            pool: log.log.admin_pool().await,
            log,
            told: tempfile::tempdir().unwrap(),
            roles: Vec::new(),
            _views: views,
            _facts: facts,
            _topics: topics,
        };
        stack.start_roles();
        stack
    }

    pub(crate) fn start_roles(&mut self) {
        for name in ["relay", "projectors"] {
            let mut role = weft(&self.log.config, &[name]);
            let file = fs::File::create(self.told.path().join(name)).unwrap();
            self.roles
                .push(role.stdout(Stdio::null()).stderr(file).spawn().unwrap());
        }
    }

    pub(crate) async fn kill_roles(&mut self) {
        for mut role in self.roles.drain(..) {
            role.kill().await.unwrap();
        }
    }

    /// What a role has logged since it was started.
    pub(crate) fn told(&self, role: &str) -> String {
        fs::read_to_string(self.told.path().join(role)).unwrap()
    }

    /// Another database is the log from now on.
    pub(crate) async fn restore(&mut self, copy: TestDatabase) {
        self.log.config.log.url = Secret(copy.url("weft_log"));
        self.log.config.log.admin_url = Secret(copy.admin_url());
        self.pool = copy.admin_pool().await;
        self.log.log = copy;
    }

    pub(crate) async fn said(&self, arguments: &[&str]) -> (i32, String, String) {
        said(&self.log.config, arguments).await
    }

    /// An account and messages of it, accepted.
    pub(crate) async fn accepted(&self, count: usize) -> (Uuid, Vec<Uuid>) {
        let clock = Clock::system();
        let account = clock.new_id();
        let mut created = sample("account/AccountCreated.v1");
        created["tenant_id"] = json!(TENANT);
        append(
            &self.pool,
            &format!("account/{account}"),
            1,
            ("AccountCreated", "1"),
            &created,
            TENANT,
        )
        .await;
        let ids: Vec<Uuid> = (0..count).map(|_| clock.new_id()).collect();
        self.every(account, &ids, 1, "MessageAccepted").await;
        (account, ids)
    }

    /// The same event of many messages.
    pub(crate) async fn every(&self, account: Uuid, ids: &[Uuid], sequence: i64, event: &str) {
        let mut payload = sample(&format!("message/{event}.v1"));
        payload["account_id"] = json!(account);
        payload["at"] = json!(Clock::system().now());
        if event == "MessageAccepted" {
            payload["tenant_id"] = json!(TENANT);
            payload["scheduled_time"] = Value::Null;
        }
        sqlx::query(
            "insert into events (aggregate_type, aggregate_id, sequence, event_type, event_version, payload, metadata)
             select 'message', id, $2, $3, '1', $4, jsonb_build_object('tenant_id', $5::text, 'partition_key', $6::text)
             from unnest($1::text[]) as ids (id)",
        )
        .bind(ids.iter().map(Uuid::to_string).collect::<Vec<_>>())
        .bind(sequence)
        .bind(event)
        .bind(payload)
        .bind(TENANT)
        .bind(account.to_string())
        .execute(&self.pool)
        .await
        .unwrap();
    }

    /// Waits until every projection has what the log has.
    pub(crate) async fn projected(&self) {
        let events: Vec<(String, i64)> = sqlx::query_as("select aggregate_type, count(*) from events group by 1")
            .fetch_all(&self.pool)
            .await
            .unwrap();
        let projections = weft_projectors::projections();
        let of = |aggregate: &str| {
            projections
                .iter()
                .filter(|one| one.aggregates().contains(&aggregate))
                .count()
        };
        let expected: i64 = events
            .iter()
            .map(|(aggregate, count)| of(aggregate) as i64 * count)
            .sum();
        let prefix = &self.log.config.kafka.topic_prefix;
        until_within("everything is projected", Duration::from_mins(3), async || {
            let (applied, dirty): (i64, i64) = sqlx::query_as(
                "select coalesce(sum(next_offset) filter (where starts_with(topic, $1)), 0)::bigint,
                        (select count(*) from views_g1.dirty_hours)
                 from views.checkpoints",
            )
            .bind(prefix)
            .fetch_one(&self.views)
            .await
            .unwrap();
            (applied == expected && dirty == 0).then_some(())
        })
        .await;
    }

    /// A number in the views' database.
    pub(crate) async fn number(&self, query: &str) -> i64 {
        sqlx::query_scalar(query).fetch_one(&self.views).await.unwrap()
    }

    /// A number in ClickHouse, where `{}` stands for a generation's database.
    pub(crate) async fn fact(&self, generation: i32, query: &str) -> u64 {
        let query = query.replace("{}", &self.facts(generation));
        self.clickhouse().query(&query).fetch_one().await.unwrap()
    }

    pub(crate) fn facts(&self, generation: i32) -> String {
        Generation::new(generation).facts_database(&self.log.config.clickhouse.database)
    }

    pub(crate) fn clickhouse(&self) -> clickhouse::Client {
        clickhouse::Client::default().with_url(self.log.config.clickhouse.url.as_str())
    }

    pub(crate) async fn log_time(&self) -> DateTime<Utc> {
        sqlx::query_scalar("select clock_timestamp()")
            .fetch_one(&self.pool)
            .await
            .unwrap()
    }
}

/// A golden sample's payload.
fn sample(name: &str) -> Value {
    serde_json::from_slice(&fs::read(format!("{SAMPLES}/{name}.sample.json")).unwrap()).unwrap()
}

/// Every generation's, dropped with this value.
struct FactsDatabases(Config);

impl Drop for FactsDatabases {
    fn drop(&mut self) {
        let config = &self.0.clickhouse;
        // On a thread of its own: also while a test panics.
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .unwrap();
                let client = clickhouse::Client::default().with_url(config.url.as_str());
                let generations = (1..8).map(|number| Generation::new(number).facts_database(&config.database));
                runtime.block_on(async {
                    for name in generations.chain([config.database.clone()]) {
                        // What cannot be dropped is told by the next look at the server.
                        let _ = client
                            .query(&format!("drop database if exists {name} sync"))
                            .execute()
                            .await;
                    }
                });
            });
        });
    }
}
