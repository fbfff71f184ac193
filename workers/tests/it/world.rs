//! A log, its relay, the workers and the simulator, on databases and topics of their own.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use sqlx::PgPool;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use weft_domain::account::{Account, AccountCommand, AccountConfig, AccountStatus, GatewayKind};
use weft_domain::message::{AcceptMessage, Message, MessageCommand, MessageContent, MessageStatus, MessageType};
use weft_domain::{AccountId, ConversationId, LoginAttemptId, MessageId, TenantId, WecomConversationId};
use weft_log_writer::testing::{TestLog, TestTopics, options};
use weft_log_writer::{Executor, relay};
use weft_platform::clock::Clock;
use weft_platform::config::{Config, NotReady};
use weft_platform::health::Health;
use weft_platform::testing::{until, until_within};
use weft_wecom::simulator::{Simulator, SimulatorConfig};
use weft_workers::WorkerWake;

use crate::ingress::{Ingress, base_url};

/// How a world differs from the usual.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Options {
    pub(crate) auto_scan: bool,
    pub(crate) read_after: Option<Duration>,
    pub(crate) configure: Option<fn(&mut Config)>,
}

pub(crate) const AUTO: Options = Options {
    auto_scan: true,
    read_after: None,
    configure: None,
};

/// A message to send, but for its account.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    pub(crate) conversation: String,
    pub(crate) kind: MessageType,
    pub(crate) content: Value,
    pub(crate) priority: u8,
    pub(crate) delay: Option<chrono::TimeDelta>,
}

impl Draft {
    pub(crate) fn text(conversation: &str, text: &str) -> Self {
        Self::of(conversation, MessageType::Text, json!({ "text": text }))
    }

    pub(crate) fn of(conversation: &str, kind: MessageType, content: Value) -> Self {
        Self {
            conversation: conversation.to_owned(),
            kind,
            content,
            priority: 5,
            delay: None,
        }
    }
}

/// Workers on a runtime of their own, so that they can be ended like a killed process: in the middle of anything.
pub(crate) struct Workers {
    runtime: Option<Runtime>,
    shutdown: CancellationToken,
    pub(crate) health: Health,
}

impl Workers {
    /// Nothing is finished, given back or flushed.
    pub(crate) fn kill(mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.shutdown.cancel();
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

pub(crate) struct World {
    pub(crate) config: Arc<Config>,
    pub(crate) tenant: TenantId,
    pub(crate) executor: Executor,
    /// As the owner of the log's database.
    pub(crate) pool: PgPool,
    pub(crate) ingress: Ingress,
    pub(crate) workers: Option<Workers>,
    simulator: String,
    http: reqwest::Client,
    shutdown: CancellationToken,
    // Last, so that everything that uses them has ended.
    _folder: TempDir,
    _topics: TestTopics,
    _log: TestLog,
}

impl World {
    pub(crate) async fn start(given: Options) -> Self {
        let mut world = Self::without_workers(given).await;
        world.start_workers();
        world
    }

    pub(crate) async fn without_workers(given: Options) -> Self {
        let mut log = TestLog::new().await;
        let folder = TempDir::new().expect("a folder for the simulator");
        let shutdown = CancellationToken::new();
        let simulator = SimulatorConfig {
            listen: ([127, 0, 0, 1], 0).into(),
            data_dir: folder.path().to_owned(),
            auto_scan: given.auto_scan.then_some(Duration::from_millis(50)),
            read_after: given.read_after,
        };
        let simulator = Simulator::start(simulator, shutdown.clone())
            .await
            .expect("the simulator starts");
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port for callbacks");
        let config = &mut log.config;
        config.http.public_url = base_url(listener.local_addr().expect("its address"));
        config.wecom.instance_url = base_url(simulator.address());
        config.wecom.answer_timeout_seconds = 2;
        config.wecom.cooldown_seconds = vec![1, 2];
        config.wecom.not_ready_seconds = NotReady {
            every: 1,
            for_seconds: 3,
        };
        config.login.poll_seconds = 1;
        config.heartbeat.interval_seconds = 1;
        config.dispatch.lease_seconds = 5;
        config.dispatch.unknown_timeout_seconds = 3;
        if let Some(configure) = given.configure {
            configure(config);
        }
        let topics = TestTopics::create(&config.kafka).await;
        let config = Arc::new(config.clone());
        let executor = log.executor().await;
        let pool = log.log.admin_pool().await;
        let tenant = TenantId(Clock::system().new_id());
        let ingress = Ingress::serve(listener, pool.clone(), executor.keys().clone(), tenant.0);
        tokio::spawn(relay::run(
            Arc::clone(&config),
            Clock::system(),
            Health::default(),
            executor.appended(),
            shutdown.clone(),
        ));
        Self {
            config,
            tenant,
            executor,
            pool,
            ingress,
            workers: None,
            simulator: simulator.base_url(),
            http: reqwest::Client::new(),
            shutdown,
            _folder: folder,
            _topics: topics,
            _log: log,
        }
    }

    pub(crate) fn start_workers(&mut self) {
        self.workers = Some(self.more_workers());
    }

    /// Another process's workers.
    pub(crate) fn more_workers(&self) -> Workers {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        let (shutdown, health, wake) = (CancellationToken::new(), Health::default(), WorkerWake::default());
        self.ingress.wakes(Arc::clone(&wake.callbacks));
        let config = Arc::clone(&self.config);
        let (stop, report) = (shutdown.clone(), health.clone());
        runtime.spawn(async move {
            let executor = Executor::connect(&config, Clock::system())
                .await
                .expect("the log is fit");
            let gateway = weft_workers::gateway(&config).expect("the gateway is configured");
            weft_workers::run(config, executor, gateway, Clock::system(), report, wake, stop).await
        });
        Workers {
            runtime: Some(runtime),
            shutdown,
            health,
        }
    }

    pub(crate) fn kill_workers(&mut self) {
        if let Some(workers) = self.workers.take() {
            workers.kill();
        }
    }

    // ---- accounts ----

    pub(crate) async fn create_account(&self, name: &str) -> AccountId {
        self.create_account_with(
            name,
            AccountConfig {
                send_interval_ms: 0,
                ..AccountConfig::default()
            },
        )
        .await
    }

    pub(crate) async fn create_account_with(&self, name: &str, config: AccountConfig) -> AccountId {
        self.create(name, GatewayKind::Instance, config).await
    }

    pub(crate) async fn create_official_account(&self, name: &str) -> AccountId {
        self.create(name, GatewayKind::Official, AccountConfig::default()).await
    }

    async fn create(&self, name: &str, gateway: GatewayKind, config: AccountConfig) -> AccountId {
        let id = AccountId(Clock::system().new_id());
        let command = AccountCommand::Create {
            tenant_id: self.tenant,
            account_name: name.to_owned(),
            phone: None,
            email: None,
            user_id: None,
            gateway,
            config,
            now: Clock::system().now(),
        };
        self.act(id, command).await;
        id
    }

    pub(crate) async fn act(&self, id: AccountId, command: AccountCommand) {
        let name = command.name();
        if let Err(error) = self
            .executor
            .execute::<Account>(&id.to_string(), command, &options(self.tenant))
            .await
        {
            panic!("{name}: {error}");
        }
    }

    pub(crate) async fn start_login(&self, id: AccountId) -> LoginAttemptId {
        let attempt = LoginAttemptId(Clock::system().new_id());
        self.act(
            id,
            AccountCommand::StartLogin {
                attempt,
                now: Clock::system().now(),
            },
        )
        .await;
        attempt
    }

    pub(crate) async fn account(&self, id: AccountId) -> Account {
        self.executor
            .load::<Account>(&id.to_string())
            .await
            .expect("the log answers")
            .state
    }

    pub(crate) async fn account_in(&self, id: AccountId, statuses: &[AccountStatus]) -> Account {
        until(&format!("account {id} is {statuses:?}"), async || {
            let account = self.account(id).await;
            account
                .status
                .is_some_and(|status| statuses.contains(&status))
                .then_some(account)
        })
        .await
    }

    pub(crate) async fn guid(&self, id: AccountId) -> String {
        until("the account has an instance", async || self.account(id).await.guid).await
    }

    /// Needs `auto_scan`.
    pub(crate) async fn online_account(&self, name: &str) -> (AccountId, String) {
        let id = self.create_account(name).await;
        self.log_in(id).await
    }

    pub(crate) async fn log_in(&self, id: AccountId) -> (AccountId, String) {
        self.start_login(id).await;
        let account = self.account_in(id, &[AccountStatus::Online]).await;
        (id, account.guid.expect("an online account has an instance"))
    }

    // ---- messages ----

    pub(crate) async fn send(&self, account: AccountId, draft: Draft) -> MessageId {
        let id = MessageId(Clock::system().new_id());
        let now = Clock::system().now();
        let conversation_id: WecomConversationId = draft.conversation.parse().expect("a conversation id");
        let content = MessageContent::from_value(draft.kind, draft.content).expect("a content of its type");
        let conversation = ConversationId::of(account, &conversation_id);
        let sealed = self
            .executor
            .sealer()
            .seal_content(self.tenant, conversation, now, &content)
            .await;
        let command = MessageCommand::Accept(Box::new(AcceptMessage {
            account_id: account,
            tenant_id: self.tenant,
            conversation_id,
            message_type: draft.kind,
            content: sealed.expect("the keys answer"),
            priority: draft.priority,
            scheduled_time: draft.delay.map(|delay| now + delay),
            batch_id: None,
            batch_index: None,
            callback_url: None,
            client_reference: None,
            now,
        }));
        let accepted = self
            .executor
            .execute::<Message>(&id.to_string(), command, &options(self.tenant))
            .await;
        accepted.expect("the message is accepted");
        id
    }

    pub(crate) async fn text(&self, account: AccountId, conversation: &str, text: &str) -> MessageId {
        self.send(account, Draft::text(conversation, text)).await
    }

    pub(crate) async fn message(&self, id: MessageId) -> Message {
        self.executor
            .load::<Message>(&id.to_string())
            .await
            .expect("the log answers")
            .state
    }

    pub(crate) async fn message_in(&self, id: MessageId, statuses: &[MessageStatus]) -> Message {
        until_within(
            &format!("message {id} is {statuses:?}"),
            Duration::from_mins(1),
            async || {
                let message = self.message(id).await;
                message
                    .status
                    .is_some_and(|status| statuses.contains(&status))
                    .then_some(message)
            },
        )
        .await
    }

    // ---- the simulator ----

    pub(crate) async fn ledger(&self) -> Vec<Value> {
        let mut entries: Vec<Value> = Vec::new();
        loop {
            let after = entries.last().map_or(0, |last| last["seq"].as_u64().expect("a number"));
            let url = format!("{}/_sim/ledger?after={after}&limit=1000", self.simulator);
            let answer = self.http.get(url).send().await.expect("the simulator answers");
            let page: Value = answer.json().await.expect("JSON");
            let page = page["entries"].as_array().expect("a list").clone();
            if page.is_empty() {
                return entries;
            }
            entries.extend(page);
        }
    }

    /// Sends that a real WeCom would have delivered.
    pub(crate) async fn effective(&self) -> Vec<Value> {
        self.ledger()
            .await
            .into_iter()
            .filter(|entry| entry["effective"] == true)
            .collect()
    }

    pub(crate) async fn simulate(&self, guid: &str, action: &str, body: Value) {
        let url = format!("{}/_sim/clients/{guid}/{action}", self.simulator);
        let answer = self
            .http
            .post(url)
            .json(&body)
            .send()
            .await
            .expect("the simulator answers");
        assert!(answer.status().is_success(), "{action}: {}", answer.status());
    }

    pub(crate) async fn fault(&self, fault: Value) {
        let url = format!("{}/_sim/faults", self.simulator);
        let answer = self
            .http
            .post(url)
            .json(&fault)
            .send()
            .await
            .expect("the simulator answers");
        assert_eq!(answer.status(), 201, "{fault}");
    }

    pub(crate) async fn clear_faults(&self) {
        let url = format!("{}/_sim/faults", self.simulator);
        self.http.delete(url).send().await.expect("the simulator answers");
    }

    pub(crate) async fn clients(&self) -> Vec<Value> {
        let url = format!("{}/_sim/clients", self.simulator);
        let answer: Value = self
            .http
            .get(url)
            .send()
            .await
            .expect("an answer")
            .json()
            .await
            .expect("JSON");
        answer["clients"].as_array().expect("a list").clone()
    }

    /// Deletes every record of an aggregate's topic, as retention would.
    pub(crate) async fn drop_records(&self, aggregate: &str) {
        use rdkafka::TopicPartitionList;
        use rdkafka::admin::{AdminClient, AdminOptions};
        use rdkafka::client::DefaultClientContext;
        use rdkafka::topic_partition_list::Offset;
        let kafka = &self.config.kafka;
        let admin: AdminClient<DefaultClientContext> = kafka.client().create().expect("a client");
        let mut list = TopicPartitionList::new();
        for partition in 0..kafka.partition_count(aggregate) {
            let added = list.add_partition_offset(&kafka.topic(aggregate), partition, Offset::End);
            added.expect("a partition");
        }
        admin
            .delete_records(&list, &AdminOptions::new())
            .await
            .expect("Kafka answers");
    }

    /// Callbacks of an account by status, with what is said of them.
    pub(crate) async fn callback_rows(
        &self,
        account: AccountId,
    ) -> Vec<(Uuid, String, Option<String>, Option<String>)> {
        sqlx::query_as(
            "select id, status, event_type, error_message from workers.callback_events
             where account_id = $1 order by ingress",
        )
        .bind(account.0)
        .fetch_all(&self.pool)
        .await
        .expect("the log answers")
    }
}

impl Drop for World {
    fn drop(&mut self) {
        drop(self.workers.take());
        self.shutdown.cancel();
    }
}
