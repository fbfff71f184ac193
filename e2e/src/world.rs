//! One Weft and its simulator, alone on databases, topics and ports of their own, removed when dropped.

use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use serde_json::{Value, json};
use sqlx::postgres::{PgPool, PgPoolOptions};
use sqlx::{Connection, PgConnection};
use tempfile::TempDir;
use weft_platform::testing::{clickhouse_url, kafka_brokers, postgres_url};

use crate::api::Api;
use crate::checks::view_differences;
use crate::process::{Process, free_port, run_to_end};
use crate::wait::until;

/// How a world differs from the usual.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Such as `500ms`: the simulator scans and confirms by itself.
    pub auto_scan: Option<&'static str>,
    /// The simulator sends read reports.
    pub read_after: Option<&'static str>,
    /// `WEFT__…` variables beside the test profile's.
    pub environment: Vec<(&'static str, &'static str)>,
}

/// A running system.
pub struct World {
    name: String,
    pub(crate) folder: TempDir,
    pub(crate) environment: Vec<(String, String)>,
    port: u16,
    simulator_port: u16,
    options: Options,
    weft: Option<Process>,
    simulator: Option<Process>,
    /// As tenant A, for commands.
    pub api: Api,
    /// As tenant A, for queries: the same server, unless a `Cluster` has one for each.
    pub views: Api,
    pub other_tenant: Api,
    http: reqwest::Client,
}

impl World {
    /// Starts everything and waits until it can serve.
    pub async fn start(options: Options) -> Self {
        let mut world = Self::prepare(options).await;
        world.start_weft().await;
        world
    }

    /// What its databases, topics and facts are called after.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Starts the simulator alone.
    pub(crate) async fn prepare(options: Options) -> Self {
        let name = format!("e2e_{}", &uuid::Uuid::new_v4().simple().to_string()[..12]);
        let (port, admin_port, simulator_port) = (free_port(), free_port(), free_port());
        let (log, keys, views) = (format!("{name}_log"), format!("{name}_keys"), format!("{name}_views"));
        let mut environment = Vec::new();
        let mut set = |key: &str, value: String| environment.push((key.to_owned(), value));
        let postgres = |role, database: &str| postgres_url(role, database).0;
        set("WEFT__LOG__URL", postgres(Some("weft_log"), &log));
        set("WEFT__LOG__ADMIN_URL", postgres(None, &log));
        set("WEFT__KEYS__URL", postgres(Some("weft_keys"), &keys));
        set("WEFT__KEYS__ADMIN_URL", postgres(None, &keys));
        set("WEFT__VIEWS__URL", postgres(Some("weft_query"), &views));
        set("WEFT__VIEWS__PROJECTOR_URL", postgres(Some("weft_projector"), &views));
        set("WEFT__VIEWS__ADMIN_URL", postgres(None, &views));
        set("WEFT__LOG__MAX_CONNECTIONS", "12".to_owned());
        set("WEFT__VIEWS__MAX_CONNECTIONS", "8".to_owned());
        set("WEFT__KEYS__MAX_CONNECTIONS", "4".to_owned());
        set("WEFT__CLICKHOUSE__URL", clickhouse_url().into());
        set("WEFT__CLICKHOUSE__DATABASE", name.clone());
        set("WEFT__KAFKA__BROKERS", kafka_brokers());
        set("WEFT__KAFKA__TOPIC_PREFIX", format!("{name}.events."));
        set("WEFT__KAFKA__PARTITIONS__ACCOUNT", "2".to_owned());
        set("WEFT__KAFKA__PARTITIONS__MESSAGE", "2".to_owned());
        set("WEFT__KAFKA__PARTITIONS__CONVERSATION", "2".to_owned());
        set("WEFT__HTTP__LISTEN", format!("127.0.0.1:{port}"));
        set("WEFT__HTTP__PUBLIC_URL", format!("http://127.0.0.1:{port}"));
        set("WEFT__ADMIN__LISTEN", format!("127.0.0.1:{admin_port}"));
        set(
            "WEFT__WECOM__INSTANCE_URL",
            format!("http://127.0.0.1:{simulator_port}"),
        );
        set("WEFT__WECOM__ANSWER_TIMEOUT_SECONDS", "2".to_owned());
        set("WEFT__WECOM__COOLDOWN_SECONDS", "[1, 2]".to_owned());
        set("WEFT__WECOM__NOT_READY_SECONDS", "{every=1,for=5}".to_owned());
        set("WEFT__HEARTBEAT__INTERVAL_SECONDS", "1".to_owned());
        set("WEFT__LOGIN__POLL_SECONDS", "1".to_owned());
        set("WEFT__DISPATCH__LEASE_SECONDS", "3".to_owned());
        set("WEFT__DISPATCH__UNKNOWN_TIMEOUT_SECONDS", "8".to_owned());
        for (key, value) in &options.environment {
            set(key, (*value).to_owned());
        }
        let base = format!("http://127.0.0.1:{port}");
        let mut world = Self {
            name,
            folder: TempDir::new().expect("a folder for logs"),
            environment,
            port,
            simulator_port,
            options,
            weft: None,
            simulator: None,
            api: Api::new(base.clone(), "dev-token-a"),
            views: Api::new(base.clone(), "dev-token-a"),
            other_tenant: Api::new(base, "dev-token-b"),
            http: reqwest::Client::new(),
        };
        world.start_simulator().await;
        world
    }

    pub async fn start_simulator(&mut self) {
        let mut arguments = vec![
            "simulator".to_owned(),
            "--listen".to_owned(),
            format!("127.0.0.1:{}", self.simulator_port),
            "--data-dir".to_owned(),
            self.folder.path().join("simulator").display().to_string(),
        ];
        for (flag, value) in [
            ("--auto-scan", self.options.auto_scan),
            ("--read-after", self.options.read_after),
        ] {
            if let Some(value) = value {
                arguments.extend([flag.to_owned(), value.to_owned()]);
            }
        }
        self.simulator = Some(Process::start(
            &arguments,
            &[],
            &self.folder.path().join("simulator.log"),
        ));
        until("the simulator answers", Duration::from_secs(20), async || {
            self.http.get(self.simulator_url("/_sim/clients")).send().await.ok()
        })
        .await;
    }

    /// Starts `weft all` and waits until it is ready.
    pub async fn start_weft(&mut self) {
        let log = self.folder.path().join("weft.log");
        self.weft = Some(Process::start(&["all".to_owned()], &self.environment, &log));
        let url = format!("http://127.0.0.1:{}/readyz", self.port);
        let started = std::time::Instant::now();
        loop {
            let ready = self
                .http
                .get(&url)
                .send()
                .await
                .is_ok_and(|answer| answer.status().is_success());
            if ready {
                return;
            }
            let ended = self.weft.as_mut().is_some_and(Process::has_ended);
            if ended || started.elapsed() > Duration::from_mins(1) {
                let text = std::fs::read_to_string(&log).unwrap_or_default();
                let tail: Vec<&str> = text.lines().rev().take(30).collect();
                panic!(
                    "weft is not ready:\n{}",
                    tail.into_iter().rev().collect::<Vec<_>>().join("\n")
                );
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// A variable that the next start finds.
    pub fn set(&mut self, key: &str, value: String) {
        self.environment.retain(|(known, _)| known != key);
        self.environment.push((key.to_owned(), value));
    }

    /// A further log with a tenant of its own, from the next start on.
    pub fn add_log(&mut self, log: &str, share: usize, tenant: uuid::Uuid) {
        let (section, database) = (
            format!("WEFT__LOGS__{}", log.to_uppercase()),
            format!("{}_log_{log}", self.name),
        );
        self.set(&format!("{section}__SHARE"), share.to_string());
        self.set(&format!("{section}__URL"), postgres_url(Some("weft_log"), &database).0);
        self.set(&format!("{section}__ADMIN_URL"), postgres_url(None, &database).0);
        self.set(&format!("{section}__TENANTS"), format!("[\"{tenant}\"]"));
    }

    /// SIGKILL of the whole of Weft.
    pub fn kill_weft(&mut self) {
        if let Some(weft) = self.weft.take() {
            weft.kill();
        }
    }

    /// Runs a tool such as `weft log verify`; answers its exit code and what it said.
    pub fn tool(&self, arguments: &[&str]) -> (Option<i32>, String) {
        run_to_end(arguments, &self.environment)
    }

    /// Kafka loses every topic of this world, and has them again, empty, when this returns.
    pub async fn wipe_kafka(&self) {
        let topics = topics(&self.name);
        let names: Vec<&str> = topics.iter().map(String::as_str).collect();
        let admin: AdminClient<DefaultClientContext> = rdkafka::ClientConfig::new()
            .set("bootstrap.servers", kafka_brokers())
            .create()
            .expect("a client of Kafka");
        let deleted = admin
            .delete_topics(&names, &AdminOptions::new())
            .await
            .expect("Kafka answers");
        assert!(deleted.iter().all(Result::is_ok), "{deleted:?}");
        until("the topics are there again", Duration::from_secs(20), async || {
            let (code, said) = self.tool(&["topics"]);
            (code == Some(0) && said.contains("created")).then_some(())
        })
        .await;
    }

    fn simulator_url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.simulator_port)
    }

    /// What the simulator answers.
    pub async fn simulator_get(&self, path: &str) -> Value {
        let answer = self
            .http
            .get(self.simulator_url(path))
            .send()
            .await
            .expect("the simulator answers");
        answer.json().await.expect("JSON")
    }

    /// Does something on the simulator, such as `/_sim/clients/<guid>/scan`.
    pub async fn simulator_post(&self, path: &str, body: Value) -> reqwest::StatusCode {
        let request = self.http.post(self.simulator_url(path)).json(&body);
        request.send().await.expect("the simulator answers").status()
    }

    /// Ends all faults.
    pub async fn clear_faults(&self) {
        self.http
            .delete(self.simulator_url("/_sim/faults"))
            .send()
            .await
            .expect("the simulator answers");
    }

    /// Every entry of the ledger.
    pub async fn ledger(&self) -> Vec<Value> {
        let mut entries = Vec::new();
        let mut after = 0;
        loop {
            let page = self
                .simulator_get(&format!("/_sim/ledger?after={after}&limit=1000"))
                .await;
            let rows = page["entries"].as_array().expect("entries").clone();
            let Some(last) = rows.last() else { return entries };
            after = last["seq"].as_u64().expect("a number");
            entries.extend(rows);
        }
    }

    async fn pool(&self, database: &str) -> PgPool {
        let url = postgres_url(None, &format!("{}_{database}", self.name));
        PgPoolOptions::new()
            .max_connections(2)
            .connect(url.expose())
            .await
            .expect("the database answers")
    }

    /// The log, as its owner.
    pub async fn log_pool(&self) -> PgPool {
        self.pool("log").await
    }

    /// A log that was added, as its owner.
    pub async fn further_log_pool(&self, log: &str) -> PgPool {
        self.pool(&format!("log_{log}")).await
    }

    /// The read models, as their owner.
    pub async fn views_pool(&self) -> PgPool {
        self.pool("views").await
    }

    /// The facts.
    pub fn clickhouse(&self) -> clickhouse::Client {
        clickhouse::Client::default()
            .with_url(clickhouse_url())
            .with_user("default")
            .with_database(&self.name)
    }

    /// Where read models and facts differ from a recount of the log once `patience` is over, or none as soon as there is
    /// none.
    pub async fn view_differences(&self, patience: Duration) -> Vec<String> {
        let (log, views, clickhouse) = (self.log_pool().await, self.views_pool().await, self.clickhouse());
        let started = std::time::Instant::now();
        until("the views were read", Duration::from_mins(2), async || {
            let found = view_differences(&log, &views, &clickhouse).await;
            (found.is_empty() || started.elapsed() > patience).then_some(found)
        })
        .await
    }

    /// Creates an account; answers its id.
    pub async fn create_account(&self, name: &str) -> String {
        let answer = self.api.post("/api/v1/accounts", json!({"account_name": name})).await;
        assert_eq!(answer.status, 201, "{}", answer.body);
        answer.body["account_id"].as_str().expect("an id").to_owned()
    }

    /// Waits until the view shows one of `statuses`; answers the account.
    pub async fn account_in(&self, id: &str, statuses: &[&str]) -> Value {
        until(
            &format!("account {id} is {statuses:?}"),
            Duration::from_secs(30),
            async || {
                let account = self.views.get(&format!("/api/v1/accounts/{id}")).await.body;
                account["status"]
                    .as_str()
                    .is_some_and(|status| statuses.contains(&status))
                    .then_some(account)
            },
        )
        .await
    }

    /// The instance behind an account, once it has one.
    pub async fn guid(&self, id: &str) -> String {
        until(
            &format!("account {id} has an instance"),
            Duration::from_secs(30),
            async || {
                let account = self.views.get(&format!("/api/v1/accounts/{id}")).await.body;
                account["guid"].as_str().map(str::to_owned)
            },
        )
        .await
    }

    /// Creates an account and logs it in, scanning and confirming on the simulator.
    pub async fn online_account(&self, name: &str) -> (String, String) {
        let id = self.create_account(name).await;
        let login = self.api.put(&format!("/api/v1/accounts/{id}/login"), json!({})).await;
        assert!(login.status.is_success(), "{}", login.body);
        self.account_in(&id, &["waiting_for_qrcode_scan", "waiting_for_confirmation", "online"])
            .await;
        let guid = self.guid(&id).await;
        if self.options.auto_scan.is_none() {
            assert_eq!(
                self.simulator_post(&format!("/_sim/clients/{guid}/scan"), json!({}))
                    .await,
                200
            );
            assert_eq!(
                self.simulator_post(&format!("/_sim/clients/{guid}/confirm"), json!({}))
                    .await,
                200
            );
        }
        self.account_in(&id, &["online"]).await;
        (id, guid)
    }

    /// Waits until the view shows the message in one of `statuses`; answers it.
    pub async fn message_in(&self, id: &str, statuses: &[&str]) -> Value {
        until(
            &format!("message {id} is {statuses:?}"),
            Duration::from_mins(1),
            async || {
                let message = self.views.get(&format!("/api/v1/messages/{id}")).await.body;
                message["status"]
                    .as_str()
                    .is_some_and(|status| statuses.contains(&status))
                    .then_some(message)
            },
        )
        .await
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for entry in std::fs::read_dir(self.folder.path()).into_iter().flatten().flatten() {
                let text = std::fs::read_to_string(entry.path()).unwrap_or_default();
                let lines: Vec<&str> = text.lines().collect();
                let tail = lines[lines.len().saturating_sub(20)..].join("\n");
                eprintln!("the end of {}:\n{tail}", entry.file_name().display());
            }
        }
        drop(self.weft.take());
        drop(self.simulator.take());
        let name = self.name.clone();
        // A runtime of its own: the test's may be ending.
        let cleaner = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(clean(&name));
        });
        let _ = cleaner.join();
    }
}

/// The topics of the world `name`.
fn topics(name: &str) -> Vec<String> {
    ["account", "message", "conversation", "tenant"]
        .iter()
        .map(|aggregate| format!("{name}.events.{aggregate}"))
        .chain([format!("{name}.samples.heartbeat")])
        .collect()
}

/// Removes databases and topics; what cannot be removed stays, and says so.
async fn clean(name: &str) {
    if let Ok(mut connection) = PgConnection::connect(postgres_url(None, "postgres").expose()).await {
        let databases: Vec<String> =
            sqlx::query_scalar("select datname from pg_database where starts_with(datname, $1)")
                .bind(format!("{name}_"))
                .fetch_all(&mut connection)
                .await
                .unwrap_or_default();
        for database in databases {
            let drop = format!("drop database if exists {database} with (force)");
            if let Err(error) = sqlx::query(&drop).execute(&mut connection).await {
                eprintln!("{drop}: {error}");
            }
        }
    }
    let http = reqwest::Client::new();
    // The stable names and the generations.
    for database in std::iter::once(name.to_owned()).chain((1..4).map(|number| format!("{name}_g{number}"))) {
        let _ = http
            .post(clickhouse_url())
            .body(format!("drop database if exists {database}"))
            .send()
            .await;
    }
    let admin: Result<AdminClient<DefaultClientContext>, _> = rdkafka::ClientConfig::new()
        .set("bootstrap.servers", kafka_brokers())
        .create();
    if let Ok(admin) = admin {
        let topics = topics(name);
        let names: Vec<&str> = topics.iter().map(String::as_str).collect();
        let _ = admin.delete_topics(&names, &AdminOptions::new()).await;
    }
}
